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


@dataclass(frozen=True, slots=True)
class Bounds:
    """Joules of all services; `by_service` has a row for each and columns floor, integer, schedule."""

    floor: Joules
    integer: Joules
    schedule: Joules
    by_service: Array


def bounds_of(load: Offered, allowed: Sequence[Choices]) -> Bounds:
    """For demand as offered, every request within its objective. Requests that no allowed number of replicas carries
    are left out.

    Intervals are as long as a start at least, so that what a controller could win within one by parting it is small
    against a start; of a controller that lets requests wait or fail they are no bound.
    """
    rows = []
    for service, one in enumerate(allowed):
        cost = cost_of(load.rate[service], load.prompt[service], load.output[service], one)
        rows.append(
            (
                float(floor(cost) * load.seconds),
                float(integer(cost) * load.seconds),
                schedule(cost, one, seconds=load.seconds),
            )
        )
    by_service = np.array(rows)
    total = by_service.sum(axis=0)
    return Bounds(Joules(float(total[0])), Joules(float(total[1])), Joules(float(total[2])), by_service)


def floor(cost: Cost) -> float:
    """Sum of W over intervals."""
    return float((cost.rate * cost.least).sum())


def integer(cost: Cost) -> float:
    """Sum of W over intervals."""
    return float((cost.needed * cost.standing + cost.marginal * cost.rate).sum())


def schedule(cost: Cost, one: Choices, *, seconds: float) -> float:
    """Least joules of any sequence of replica counts that carries each interval; starts are begun in time.

    The best value for each count needs the cheapest before it: that of a higher count as it is, that of a lower one
    with the starts between, both as running minima.
    """
    counts = np.arange(one.maximum + 1, dtype=np.float64)
    climb = counts * one.start
    value = climb.copy()
    for standing, needed in zip(cost.standing, cost.needed, strict=True):
        from_above = np.minimum.accumulate(value[::-1])[::-1]
        from_below = np.minimum.accumulate(value - climb) + climb
        value = np.minimum(from_above, from_below) + counts * (standing * seconds)
        value[:needed] = np.inf
    return float(value.min() + (cost.marginal * cost.rate).sum() * seconds)
