"""The demand in intervals, and what serving it takes at least: the common ground of the floor and the oracles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    """What one service may run: tables of its variants and clocks, objective (s), limits, and joules of one start."""

    tables: Sequence[EngineTable]
    itl: float
    minimum: int
    maximum: int
    start: float


@dataclass(frozen=True, slots=True)
class Cost:
    """One service, by interval. `standing`: W of each replica; `marginal`: W for each request per second beyond that;
    `least`: the same all in, where replicas need not be whole; `needed`: whole replicas; `rate`: what they serve.
    """

    standing: Array
    marginal: Array
    least: Array
    needed: IntArray
    rate: Array


def offered(demand: Demand, *, seconds: int = 60) -> Offered:
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
    """Of each service: its reference, or all `variants`, at each of the `clocks` (shares of the highest one)."""
    found: list[Choices] = []
    for service in setup.services:
        tables: list[EngineTable] = []
        starts: list[float] = []
        for variant in service.variants if variants else service.variants[:1]:
            for kind in setup.nodes:
                if kind.product in variant.tables and kind.gpus >= variant.gpus:
                    table = variant.tables[kind.product]
                    tables += [table.at_clock(clock) for clock in clocks]
                    starts.append(table.loading * variant.start.load)
        found.append(Choices(tables, service.itl, service.minimum, service.maximum, min(starts)))
    return found


def cost_of(rate: Array, prompt: Array, output: Array, one: Choices) -> Cost:
    """At each batch b a replica serves 1 / (output * step(b) / b + prompt / prefill_rate) requests per second (steady
    state solved for the rate), draws W(b), and is allowed where its mean gap keeps the objective.

    Watts are concave in the rate nearly everywhere, so an even split is not always the cheapest one. Any split of the
    load over n replicas draws at least n times standing watts and the smallest marginal watts at any allowed batch for
    each request: that holds for every curve, and is met where some replicas are full and the others idle.
    """
    answers = [_of_table(rate, prompt, output, one, table) for table in one.tables]
    cheapest = np.argmin(
        [answer.needed * answer.standing + answer.marginal * answer.rate for answer in answers], axis=0
    )

    def pick(values: list[Array]) -> Array:
        return np.asarray(np.choose(cheapest, values))

    return Cost(
        standing=np.min([answer.standing for answer in answers], axis=0),
        marginal=np.min([answer.marginal for answer in answers], axis=0),
        least=np.min([answer.least for answer in answers], axis=0),
        needed=np.min([answer.needed for answer in answers], axis=0) if len(answers) > 1 else answers[0].needed,
        rate=pick([answer.rate for answer in answers]),
    )


def _of_table(rate: Array, prompt: Array, output: Array, one: Choices, table: EngineTable) -> Cost:
    batch = np.arange(1, table.slots + 1, dtype=np.float64)
    step, watts = table.step[1:], table.watts[1:]
    prefill = (prompt / table.prefill_rate)[:, None]
    served = 1.0 / (output[:, None] * (step / batch) + prefill)
    share = served * prefill
    drawn = (1.0 - share) * watts + share * table.prefill_watts
    room = batch <= (table.cache / (prompt + output))[:, None]
    allowed = room & (step / (1.0 - share) <= one.itl)
    allowed[:, 0] |= ~allowed.any(axis=1)  # an objective that is met nowhere forbids nothing but company
    most = np.where(allowed, served, 0.0).max(axis=1)
    marginal = np.where(allowed, (drawn - table.context) / served, np.inf).min(axis=1)
    least = np.where(allowed, drawn / served, np.inf).min(axis=1)
    carried = np.minimum(rate, most * one.maximum)
    needed = np.ceil(carried / most - 1e-9).astype(np.int64)
    return Cost(
        standing=np.full(rate.shape, table.context),
        marginal=np.maximum(marginal, 0.0),
        least=least,
        needed=np.maximum(needed, one.minimum),
        rate=carried,
    )
