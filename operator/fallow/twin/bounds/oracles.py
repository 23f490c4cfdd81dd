"""The floor and the oracles: each adds one thing that reality asks for, so each is above the one before.

Floor: fractions of replicas, each at its best allowed batch. Integer: whole replicas, chosen anew in each interval with
perfect knowledge, at no cost. Schedule: each start costs its load, and replicas come and go at any time; an exact
dynamic programme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fallow.domain.units import Joules
from fallow.twin.bounds.problem import Choices, Cost, Offered, cost_of
from fallow.twin.simulation.demand import Array

# Services that are worked out together: their costs are held in memory at once.
TOGETHER = 128


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

    A request is served in its interval, but for what the TTFT objective lets wait; answers that go on into the next
    interval make up for those that came from the one before. So intervals are many times as long as the objectives
    and an answer. Within one a replica may come or go and is held for its part only, which is worth a start the
    sooner the longer the interval: at 30 s hardly ever. Where it is worth one in every interval, whole replicas are no
    bound, and the integer oracle is the schedule one. A run that misses objectives, or ends with requests unfinished,
    may be below them all.
    """
    rows: list[Array] = []
    for begin in range(0, len(allowed), TOGETHER):
        some = range(begin, min(begin + TOGETHER, len(allowed)))
        costs = [
            cost_of(load.rate[one], load.prompt[one], load.output[one], allowed[one], seconds=load.seconds)
            for one in some
        ]
        least = schedules(costs, [allowed[one] for one in some], seconds=load.seconds)
        whole = np.minimum([integer(cost) * load.seconds for cost in costs], least)
        fluid = np.minimum([floor(cost) * load.seconds for cost in costs], whole)  # but for rounding it is below
        rows.append(np.column_stack((fluid, whole, least)))
    by_service = np.concatenate(rows)
    total = by_service.sum(axis=0)
    return Bounds(Joules(float(total[0])), Joules(float(total[1])), Joules(float(total[2])), by_service)


def floor(cost: Cost) -> float:
    """Sum of W over intervals."""
    return float((cost.least * cost.rate).sum())


def integer(cost: Cost) -> float:
    """Sum of W over intervals."""
    return float(np.maximum(cost.needed * cost.standing + cost.marginal * cost.rate, cost.least * cost.rate).sum())


def schedule(cost: Cost, one: Choices, *, seconds: float) -> float:
    """Of one service whose replicas come and go between intervals only."""
    return float(schedules([cost], [one], seconds=seconds, parted=False)[0])


def schedules(costs: Sequence[Cost], allowed: Sequence[Choices], *, seconds: float, parted: bool = True) -> Array:
    """Least joules of any sequence of replica counts that carries each interval, by service; starts are begun in time,
    and the initial replicas are there.

    `parted`: they may come and go within an interval. From a replicas to b it then has as many as it needs at some
    time, pays for those that it had not, and draws what the lesser of a and b do, or the floor. A dip within an
    interval costs no less than one at its end.
    """
    price, minimum, initial = (
        np.array(column)[:, None]
        for column in zip(*((one.start, one.minimum, one.initial) for one in allowed), strict=True)
    )
    standing, moving, fluid, needed = (
        np.ascontiguousarray(np.transpose(rows))[:, :, None]  # by interval, service and count
        for rows in zip(
            *((one.standing, one.marginal * one.rate, one.least * one.rate, one.needed) for one in costs), strict=True
        )
    )
    # more than are ever needed are of no use
    counts = np.arange(max(needed.max(initial=0), initial.max(), minimum.max()) + 1.0)
    climb = counts * price
    value = np.where(counts < minimum, np.inf, np.maximum(counts - initial, 0.0) * price)
    for now in range(len(standing)):
        drawn = np.maximum(counts * standing[now] + moving[now], fluid[now]) * seconds
        lacking = np.maximum(needed[now] - counts, 0.0) * price
        if parted:
            value = np.minimum(_from_above(value + lacking) + drawn, _from_below(value + drawn, climb) + lacking)
            value[counts < minimum] = np.inf
        else:
            value = np.minimum(_from_above(value), _from_below(value, climb)) + drawn
            value[counts < needed[now]] = np.inf
    return np.asarray(value.min(axis=1))


def _from_above(value: Array) -> Array:
    """The cheapest of this and all higher counts: replicas go for nothing."""
    return np.asarray(np.minimum.accumulate(value[:, ::-1], axis=1)[:, ::-1])


def _from_below(value: Array, climb: Array) -> Array:
    """The cheapest of this and all lower counts, with the starts between."""
    return np.asarray(np.minimum.accumulate(value - climb, axis=1) + climb)
