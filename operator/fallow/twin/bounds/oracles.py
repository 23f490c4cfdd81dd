"""The floor and the oracles: each adds one thing that reality asks for, so each is above the one before.

Floor: fractions of replicas, each at its best allowed batch. Integer: whole replicas, chosen anew in each interval with
perfect knowledge, at no cost. Schedule: the same, where each start costs its load; an exact dynamic programme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fallow.domain.units import Joules
from fallow.twin.bounds.problem import Choices, Cost, Offered, cost_of
from fallow.twin.simulation.demand import Array

# Services that are worked out together: their costs are held in memory at once.
TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """Joules of all services; `by_service` has a row for each and columns floor, integer, schedule."""

    floor: Joules
    integer: Joules
    schedule: Joules
    by_service: Array


def bounds_of(load: Offered, allowed: Sequence[Choices]) -> Bounds:
    """For demand as offered, every request within its objectives; what no allowed number of replicas carries is left
    out. With an `itl` and a `ttft` of inf in `allowed`: whatever the latency.

    The floor holds for every controller in its steady states. The oracles serve a request in its interval, but for what
    the TTFT objective lets wait, and change replicas between intervals. Shorter ones would take a burst that is over
    before its answers are for a need of replicas; in longer ones a controller could win more by parting them, which
    wins at most the standing watts of one interval for each start and each stop, and pays for the start. 60 s lie
    between: objectives are of seconds, and a start costs about as much as 60 s of context watts. A run that misses
    objectives, or ends with requests unfinished, may be below them all.
    """
    rows: list[Array] = []
    for begin in range(0, len(allowed), TOGETHER):
        some = range(begin, min(begin + TOGETHER, len(allowed)))
        costs = [
            cost_of(load.rate[one], load.prompt[one], load.output[one], allowed[one], seconds=load.seconds)
            for one in some
        ]
        parts = [[floor(cost) * load.seconds, integer(cost) * load.seconds] for cost in costs]
        rows.append(np.column_stack((parts, schedules(costs, [allowed[one] for one in some], seconds=load.seconds))))
    by_service = np.maximum.accumulate(np.concatenate(rows), axis=1)  # they are added up in different orders
    total = by_service.sum(axis=0)
    return Bounds(Joules(float(total[0])), Joules(float(total[1])), Joules(float(total[2])), by_service)


def floor(cost: Cost) -> float:
    """Sum of W over intervals."""
    return float((cost.least * cost.rate).sum())


def integer(cost: Cost) -> float:
    """Sum of W over intervals."""
    return float(np.maximum(cost.needed * cost.standing + cost.marginal * cost.rate, cost.least * cost.rate).sum())


def schedule(cost: Cost, one: Choices, *, seconds: float) -> float:
    """As `schedules`, of one service."""
    return float(schedules([cost], [one], seconds=seconds)[0])


def schedules(costs: Sequence[Cost], allowed: Sequence[Choices], *, seconds: float) -> Array:
    """Least joules of any sequence of replica counts that carries each interval, by service; starts are begun in time,
    and the initial replicas are there.

    The best value for each count needs the cheapest before it: that of a higher count as it is, that of a lower one
    with the starts between, both as running minima.
    """
    most = max(one.maximum for one in allowed)
    counts = np.arange(max(most, *(one.initial for one in allowed)) + 1.0)
    climb = counts * np.array([[one.start] for one in allowed])
    initial = np.array([[one.initial] for one in allowed])
    standing, moving, fluid, needed = (
        np.array(rows)[:, :, None]
        for rows in zip(
            *((one.standing, one.marginal * one.rate, one.least * one.rate, one.needed) for one in costs), strict=True
        )
    )
    value = np.where(counts == initial, 0.0, np.inf)
    for now in range(standing.shape[1]):
        from_above = np.minimum.accumulate(value[:, ::-1], axis=1)[:, ::-1]
        from_below = np.minimum.accumulate(value - climb, axis=1) + climb
        drawn = np.maximum(counts * standing[:, now] + moving[:, now], fluid[:, now])
        value = np.minimum(from_above, from_below) + drawn * seconds
        value[counts < needed[:, now]] = np.inf
    return np.asarray(value.min(axis=1))
