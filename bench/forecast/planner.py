"""Fallow itself on the scoreboard's weeks, with crests over other rates than those of its last minute: over five
minutes, and over what requests will scatter around when a replica that is asked for now serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import fmean
from unittest.mock import patch

import numpy as np

from bench.forecast.traffic import CYCLE
from bench.scoreboard.work import MONDAY, SCALES, START, assembled
from fallow.app.simulation.running import FALLOW, How, all_run
from fallow.domain.snapshots import DemandPoint
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey
from fallow.planner import crests
from fallow.twin.demand.generated import Generated, Stream
from fallow.twin.demand.together import Together
from fallow.twin.demand.weeks import SHAPES, WEEK
from fallow.twin.rates import Rate
from fallow.twin.simulation.demand import Demand

Rates = list[tuple[Instant, float]]
Looks = Callable[[Sequence[DemandPoint], float], Rates]

LONG = 300.0
# Seconds of a start, in whole cycles.
AHEAD = ceil((START.pull + START.load + START.compile_) / CYCLE) * CYCLE


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a service in the mean: kWh of the GPUs held, share of the requests in time, replica-hours, starts."""

    week: str
    rates: str
    energy: float
    in_time: float
    hours: float
    starts: float


def looks(rate: Rate) -> Mapping[str, Looks]:
    """What takes the place of `crests.rates`, and so of `crests.latest`, by name."""
    as_it_is = crests.rates

    def known(points: Sequence[DemandPoint], window: float) -> Rates:
        found = as_it_is(points, window)
        times = np.array([at for at, _ in found]) - MONDAY + AHEAD
        return [(at, float(one)) for (at, _), one in zip(found, rate.at(times), strict=True)] if found else []

    return {
        "last minute, as it is": as_it_is,
        "last 5 min": lambda points, window: as_it_is(points, max(window, LONG)),
        f"the rate itself, {AHEAD} s ahead": known,
    }


def latest_of(look: Looks) -> Callable[[Sequence[DemandPoint], float], float | None]:
    """What takes the place of `crests.latest`."""

    def latest(points: Sequence[DemandPoint], window: float) -> float | None:
        found = look(points, window)
        return found[-1][1] if found else None

    return latest


def outcomes(seeds: Sequence[int]) -> Iterator[Outcome]:
    """Seeds of a week are services beside each other."""
    for name, shape in SHAPES.items():
        rate = replace(shape.weekly, scale=shape.weekly.scale * SCALES[name])
        streams = [Stream(ServiceKey(name, f"seed-{seed}"), rate, shape.lengths, shape.bursts) for seed in seeds]
        parts: list[Demand] = [
            Generated([stream], WEEK, seed=seed) for stream, seed in zip(streams, seeds, strict=True)
        ]
        one = assembled(Together(parts))
        for words, look in looks(rate).items():
            # the planner takes no forecast, so what it takes for the rate is exchanged
            with patch.multiple(crests, rates=look, latest=latest_of(look)):
                services = all_run(one, [FALLOW], lambda *_: None, How(0))[0].services
            yield Outcome(
                week=name,
                rates=words,
                energy=fmean(service.energy.value for service in services) / 3.6e6,
                in_time=sum(service.good for service in services)
                / sum(service.done + service.failed for service in services),
                hours=fmean(sum(service.replica_hours.values()) for service in services),
                starts=fmean(service.starts for service in services),
            )
