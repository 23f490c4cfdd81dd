"""What one measures of a service before an autoscaler is set up: its demand as a whole, and what a replica carries."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fallow.twin.calibration.predict import Query
from fallow.twin.simulation.demand import Array, Demand
from fallow.twin.simulation.setup import ServiceSetup, Setup
from fallow.twin.simulation.sight import Known
from fallow.twin.simulation.table import EngineTable

# Seconds of demand that are looked at together; a multiple of the minute.
LOOKED = 3600
# Prompts take at most this share of a replica's time: beyond it first tokens wait without bound (M/G/1). A choice.
MOST_PREFILL = 0.9
# Batches are tried in sixteenths.
FINE = 16


@dataclass(frozen=True, slots=True)
class Survey:
    """By service: `requests` in all, mean tokens, the `context` that each request in decode holds in the mean, and
    requests per second at the `start` (5 minutes) and at the peak over a minute.
    """

    requests: Array
    prompt: Array
    output: Array
    context: Array
    start: Array
    peak: Array

    def as_asked(self, index: int, query: Query) -> Query:
        """With the context of a service's own requests: how much cache a step reads."""
        return replace(query, context=float(self.context[index]))


def survey(demand: Demand) -> Survey:
    """Reads the whole demand once."""
    services = len(demand.services)
    requests, prompt, output, peak = (np.zeros(services) for _ in range(4))
    start = np.zeros(services)
    for begin in range(0, demand.seconds, LOOKED):
        load = demand.block(begin, min(begin + LOOKED, demand.seconds))
        requests += load.arrivals.sum(axis=1)
        prompt += (load.arrivals * load.prompt).sum(axis=1)
        output += (load.arrivals * load.output).sum(axis=1)
        starts = np.arange(0, load.arrivals.shape[1], 60)
        minutes = np.add.reduceat(load.arrivals, starts, axis=1)
        lengths = np.diff(np.append(starts, load.arrivals.shape[1]))
        whole = minutes[:, lengths == 60] / 60.0 if (lengths == 60).any() else minutes / lengths
        peak = np.maximum(peak, whole.max(axis=1))
        if begin == 0:
            start = load.arrivals[:, :300].mean(axis=1)
    some = np.maximum(requests, 1.0)
    prompt, output = np.maximum(prompt / some, 1.0), np.maximum(output / some, 1.0)
    return Survey(requests, prompt, output, prompt + output * demand.spread.found, start, peak)


@dataclass(frozen=True, slots=True)
class Carried:
    """What one replica carries within its objectives: requests per second, and those then in work."""

    rate: float
    concurrency: float


def carried(table: EngineTable, prompt: float, output: float, itl: float) -> Carried:
    """The highest rate at which the mean gap between tokens meets the objective (s) and prompts leave time to decode.

    `prompt` without the tokens found in cache. At each batch the steady state is solved for the rate (`steady`). A
    replica that meets the objective at no rate carries what one request after another does.
    """
    batch = np.arange(1.0, table.slots + 1 / FINE, 1 / FINE)
    step = np.interp(batch, np.arange(table.slots + 1.0), table.step)
    prefill = float(table.prompt_seconds(prompt))
    rate = 1.0 / (output * step / batch + prefill)
    share = rate * prefill
    kept = (batch <= table.cache / (prompt + output)) & (step / (1.0 - share) <= itl) & (share <= MOST_PREFILL)
    if not kept.any():
        return Carried(1.0 / (prefill + output * float(table.step[1])), 1.0)
    best = int(np.argmax(np.where(kept, rate, 0.0)))
    return Carried(float(rate[best]), float(batch[best] + share[best]))


def reference_table(setup: Setup, service: ServiceSetup) -> EngineTable:
    """Of the first variant, on the first nodes that it may run on."""
    variant = service.variants[0]
    return next(
        variant.tables[kind.product]
        for kind in setup.nodes
        if kind.product in variant.tables and kind.gpus >= variant.gpus
    )


def known_of(setup: Setup, demand: Demand, seen: Survey) -> Known:
    cached = demand.spread.cached
    carries = [
        carried(
            reference_table(setup, one),
            float(seen.prompt[index] * (1.0 - cached[index])),
            float(seen.output[index]),
            one.itl,
        )
        for index, one in enumerate(setup.services)
    ]
    start = [one.variants[0].start for one in setup.services]
    return Known(
        minimum=np.array([one.minimum for one in setup.services]),
        maximum=np.array([one.maximum for one in setup.services]),
        concurrency=np.array([one.concurrency for one in carries]),
        rate=np.array([one.rate for one in carries]),
        peak=seen.peak,
        ttft=np.array([one.ttft for one in setup.services]),
        itl=np.array([one.itl for one in setup.services]),
        load_seconds=np.array([one.pull + one.load for one in start]),
    )
