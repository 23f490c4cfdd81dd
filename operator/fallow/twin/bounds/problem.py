"""The demand in intervals and what each service may run, and what serving it takes then: what all bounds start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fallow.twin.bounds.curve import curve_of
from fallow.twin.simulation.demand import Array, Demand
from fallow.twin.simulation.setup import Setup
from fallow.twin.simulation.sight import IntArray
from fallow.twin.simulation.table import EngineTable

LOOKED = 3600


@dataclass(frozen=True, slots=True)
class Offered:
    """By service and interval of `seconds`: requests per second, mean tokens to compute and to answer."""

    seconds: int
    rate: Array
    prompt: Array
    output: Array


@dataclass(frozen=True, slots=True)
class Choices:
    """What one service may run: tables of its variants and clocks, limits, joules of one start.

    Objectives in seconds, infinite where there is none. `initial` replicas are ready when the demand begins.
    """

    tables: Sequence[EngineTable]
    itl: float
    minimum: int
    maximum: int
    start: float
    ttft: float = 0.0
    initial: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """One service, by interval. `rate`: requests per second that are served. Each takes `least` W per request per
    second at least; or `marginal` W at least beside `standing` W of each replica. `needed`: whole replicas.
    """

    standing: Array
    marginal: Array
    least: Array
    needed: IntArray
    rate: Array


def offered(demand: Demand, *, seconds: int = 30) -> Offered:
    """Reads the demand once, hour by hour; what is beyond the last whole interval is left out."""
    parts: list[tuple[Array, Array, Array]] = []
    uncached = 1.0 - demand.spread.cached
    for begin in range(0, demand.seconds - seconds + 1, LOOKED):
        load = demand.block(begin, min(begin + LOOKED, demand.seconds))
        whole = load.arrivals.shape[1] // seconds * seconds
        shape = (len(uncached), whole // seconds, seconds)
        counts = load.arrivals[:, :whole].reshape(shape)
        total = counts.sum(axis=2)
        weights = counts + 1e-9
        each = weights.sum(axis=2)
        prompt, output = (
            (weights * tokens[:, :whole].reshape(shape)).sum(axis=2) / each for tokens in (load.prompt, load.output)
        )
        parts.append((total / seconds, prompt * uncached[:, None], output))
    rate, prompt, output = (np.concatenate([part[column] for part in parts], axis=1) for column in range(3))
    return Offered(seconds, rate, np.maximum(prompt, 1.0), np.maximum(output, 1.0))


def choices(setup: Setup, *, clocks: Sequence[float] = (1.0,), variants: bool = False) -> list[Choices]:
    """Of each service: its reference, or all `variants`, at each of the `clocks` (shares of the highest one).

    A start is the least that one takes in the mean: its image is there and its graphs are compiled.
    """
    found: list[Choices] = []
    for service in setup.services:
        tables: list[EngineTable] = []
        starts: list[float] = []
        for variant in service.variants if variants else service.variants[:1]:
            for kind in setup.nodes:
                if kind.product in variant.tables and kind.gpus >= variant.gpus:
                    table = variant.tables[kind.product].among(kind.copies)
                    tables += [table.at_clock(clock) for clock in clocks]
                    starts.append(table.loading * variant.start.load)
        found.append(
            Choices(
                tables,
                service.itl,
                service.minimum,
                service.maximum,
                min(starts),
                ttft=service.ttft,
                initial=service.start_replicas,
            )
        )
    return found


def cost_of(rate: Array, prompt: Array, output: Array, one: Choices, *, seconds: float = 30.0) -> Cost:
    """In intervals of `seconds`: requests per second, tokens to compute, tokens to answer.

    Watts are concave in the rate nearly everywhere, so an even split over replicas is not always the cheapest. Any
    split draws at least the standing watts of each replica and, for each request, the least beyond them at any allowed
    batch: that holds for every curve and every router. Of several tables each figure is the least of any, so replicas
    may change their variant and clock at any time for nothing.

    What arrives in the last TTFT objective of an interval may be begun in the next: replicas are needed for the rest.
    """
    requests = [curve_of(table).request(prompt, output, one.itl) for table in one.tables]
    time = np.min([request.seconds for request in requests], axis=0)
    served = np.minimum(rate, one.maximum / time)
    within = 1.0 - min(one.ttft / seconds, 1.0)
    needed = np.ceil(served * time * within - 1e-9).astype(np.int64)
    return Cost(
        standing=np.full(rate.shape, min(table.context for table in one.tables)),
        marginal=np.min([request.beyond for request in requests], axis=0),
        least=np.min([request.all_in for request in requests], axis=0),
        needed=np.maximum(needed, one.minimum),
        rate=served,
    )
