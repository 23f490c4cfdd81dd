"""Weeks with a name, shaped after what Azure published of 2024, and fleets of many services with such weeks.

Published (Azure/AzurePublicDataset, CC-BY-4.0, and figures drawn from it): coding, 10 to 16 May 2024, 16.80 M requests,
peak over mean 3.07, peak over valley 34.5; conversation, 12 to 18 May 2024, 27.30 M, 1.67 and 3.6. The hours below are
drawn to meet these; lengths are those of the 2023 files, and bursts are fitted to them (docs/twin.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fallow.domain.workloads import ServiceKey
from fallow.twin.demand.bursts import Burst, Bursts
from fallow.twin.demand.generated import Generated, Stream
from fallow.twin.demand.lengths import AZURE_CODE, AZURE_CONVERSATION, Lengths
from fallow.twin.simulation.demand import Array

DAY = 86_400
WEEK = 7 * DAY
HOURS = 24


@dataclass(frozen=True, slots=True)
class Weekly:
    """Requests per second through a week: hours of a working day and of a day off, straight between them.

    `off`: which of the seven days from the start are off. `shift`: hours by which it is later; `scale` multiplies.
    """

    working: tuple[float, ...]
    idle: tuple[float, ...]
    off: tuple[int, ...]
    scale: float = 1.0
    shift: float = 0.0

    def at(self, times: Array) -> Array:
        hours = (times / 3600.0 - self.shift) % (7 * HOURS)
        table = np.concatenate([self.idle if day in self.off else self.working for day in range(7)])
        return np.asarray(self.scale * np.interp(hours, np.arange(7 * HOURS + 1), np.append(table, table[0])))


@dataclass(frozen=True, slots=True)
class Shape:
    """A named week: thousands of requests a minute at each full hour, lengths and bursts after the files of 2023."""

    working: tuple[float, ...]
    idle: tuple[float, ...]
    off: tuple[int, ...]
    lengths: Lengths
    bursts: Bursts

    @property
    def weekly(self) -> Weekly:
        return Weekly(self.working, self.idle, self.off, scale=1000.0 / 60.0)


SHAPES: Mapping[str, Shape] = {
    "coding": Shape(
        working=(
            .34, .32, .31, .31, .32, .34, .41, .73, 1.91, 3.84, 4.92, 5.12,
            4.69, 4.46, 4.92, 5.10, 4.63, 3.39, 2.01, 1.23, .87, .65, .49, .39,
        ),
        idle=(
            .20, .17, .16, .15, .15, .15, .16, .20, .30, .49, .69, .82,
            .87, .87, .87, .82, .73, .65, .57, .49, .41, .34, .27, .23,
        ),
        off=(1, 2),  # it begins on a Friday
        lengths=AZURE_CODE,
        # Counts of the 2023 file (2.6 requests/s, 57 minutes): variance over mean 13.1 in a second, 145 to 164 in a
        # minute, less and more with the trend; beyond Poisson their correlation is .83, .69, .57, .48, .43 at 1 to 5 s,
        # .29 at 10 s, .03 from 17 s on. An excess of 12.1 for 7 s is 13.1 and 151. At the rates of 2024 (85/s) that
        # would make peaks of 8 to 9 k a minute where 5 to 5.9 k are published. The same 7 s, and 30 in a minute: peaks
        # of 5.8 to 6.3 k on working days, so there is hardly room for more; 14 would meet 5.9 k in a week.
        bursts=Bursts((Burst(excess=2.34, seconds=7.0),)),
    ),
    "conversation": Shape(
        working=(
            2.18, 2.04, 1.94, 1.90, 1.87, 1.85, 1.90, 2.04, 2.53, 3.27, 3.87, 4.27,
            4.44, 4.50, 4.52, 4.50, 4.33, 4.04, 3.71, 3.38, 3.05, 2.79, 2.53, 2.33,
        ),
        idle=(
            1.63, 1.50, 1.42, 1.35, 1.29, 1.26, 1.26, 1.28, 1.38, 1.54, 1.72, 1.90,
            2.04, 2.14, 2.21, 2.25, 2.28, 2.28, 2.25, 2.21, 2.14, 2.04, 1.90, 1.76,
        ),
        off=(0, 6),  # it begins on a Sunday
        lengths=AZURE_CONVERSATION,
        # Counts of the 2023 file (5.8 requests/s, its first 33 minutes): variance over mean 1.33 in a second and 14.8
        # in a minute, but the rate rises from 4.5/s to 8/s meanwhile, and what rises the hours above have already.
        # Without a straight line it is 1.13 and 4.1, without a parabola 1.12 and 2.5; correlation is some .05 up to a
        # minute. These parts are 1.14 and 3.9 (3.3 and 3.2 when a line or a parabola is taken out of half an hour): a
        # time of 30 s to 4 minutes would do as well.
        bursts=Bursts((Burst(excess=0.07), Burst(excess=0.065, seconds=60.0))),
    ),
}  # fmt: skip


def week(name: str, *, seed: int, scale: float = 1.0, days: float = 7.0, key: ServiceKey | None = None) -> Generated:
    """One service with a named week, its rate times `scale`; raises KeyError for another name."""
    shape = SHAPES[name]
    stream = Stream(
        key or ServiceKey("azure", name), replace(shape.weekly, scale=shape.weekly.scale * scale), shape.lengths,
        shape.bursts,
    )  # fmt: skip
    return Generated([stream], int(days * DAY), seed=seed)


@dataclass(frozen=True, slots=True)
class Sporadic:
    """Busy at `rate` for some minutes, silent for hours: spells of exponential length, the same for a seed.

    `busy`, `quiet`: mean seconds of each.
    """

    rate: float
    busy: float
    quiet: float
    seed: int

    def at(self, times: Array) -> Array:
        last = float(times[-1]) + 1.0
        generator = np.random.default_rng(self.seed)
        turns: list[float] = []
        now = float(generator.exponential(self.quiet))
        while now < last:
            turns.append(now)
            now += float(generator.exponential(self.busy if len(turns) % 2 else self.quiet))
        inside = np.searchsorted(np.array(turns), times, side="right") % 2
        return np.asarray(np.where(inside == 1, self.rate, 0.0))


@dataclass(frozen=True, slots=True)
class Jobs:
    """Batches that come at times of their own, the same for a seed: in the mean one `every` so many seconds, each with
    that many `requests` that are handed in `over` some seconds.

    How long they may wait is the service's objective for the first token: that is their deadline.
    """

    every: float
    requests: float
    over: float
    seed: int

    def at(self, times: Array) -> Array:
        last = float(times[-1]) + 1.0
        generator = np.random.default_rng(self.seed)
        begins: list[float] = []
        now = float(generator.exponential(self.every))
        while now < last:
            begins.append(now)
            now += float(generator.exponential(self.every))
        starts = np.array(begins)
        open_ = np.searchsorted(starts, times, side="right") - np.searchsorted(starts + self.over, times, side="right")
        return np.asarray(open_ * (self.requests / self.over))


def many(count: int, *, seed: int, days: float = 7.0, mean_rate: float = 3.0, sporadic: float = 0.2) -> Generated:
    """`count` services with weeks of either shape, of lognormal sizes and in time zones of their own; every fifth or so
    is sporadic. `mean_rate`: requests per second of a service on average. Sizes and zones are choices.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    streams: list[Stream] = []
    for number in range(count):
        name = "coding" if generator.random() < 0.5 else "conversation"
        shape, size = SHAPES[name], float(generator.lognormal(-0.5, 1.0)) * mean_rate
        key = ServiceKey("fleet", f"{name}-{number}")
        if generator.random() < sporadic:
            rate = Sporadic(size, 1200.0, 4 * 3600.0, int(generator.integers(1 << 31)))
            streams.append(Stream(key, rate, shape.lengths))
            continue
        mean = float(shape.weekly.at(np.arange(0, WEEK, 600.0)).mean())
        weekly = replace(
            shape.weekly, scale=shape.weekly.scale * size / mean, shift=float(generator.integers(0, HOURS))
        )
        streams.append(Stream(key, weekly, shape.lengths, shape.bursts))
    return Generated(streams, int(days * DAY), seed=seed)
