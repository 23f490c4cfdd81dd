"""Requests per second by cycles, over several seasons: the named weeks, and records whose season somebody measured.

Records have means of 10 minutes or of hours. Between these the rate is taken as straight and its bursts as those of
the conversation week; how a rate moves within minutes they do not tell.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.scoreboard.work import SCALES
from fallow.domain.workloads import ServiceKey
from fallow.twin.demand.bursts import CHUNK, Bursts
from fallow.twin.demand.generated import Generated, Stream
from fallow.twin.demand.weeks import DAY, SHAPES, WEEK
from fallow.twin.rates import Rate
from fallow.twin.simulation.demand import Array

# Seconds of one cycle of the operator.
CYCLE = 15
# Replicas at the highest rate, as on the scoreboard.
AT_PEAK = 12
DATA = Path(__file__).resolve().parents[3] / "shared/data/requests"
SERVEGEN, CLUSTERS = "servegen_aggregate_10min_week1.csv", "cluster_cpu_load_hourly.csv"
# The other columns of the file are one week, repeated; this one is a month, repeated with 1 % of change.
CLUSTER, CLUSTER_WEEKS = "google_1", 4
# Requests per second that records are scaled to in the mean: as many as the conversation week has.
MEAN_RATE = 47.0


@dataclass(frozen=True, slots=True)
class Series:
    """`rates`: requests per second of each cycle; `expected`: what they scatter around, which nobody knows.

    A replica carries `each` requests per second. `seasons`: lengths in cycles, the longest last; one of these has
    passed at `learned`. From there on parameters are fitted, from `margins` on margins, from `judged` on all is judged.
    """

    name: str
    seed: int
    rates: Array
    expected: Array
    each: float
    seasons: tuple[int, ...]
    learned: int
    margins: int
    judged: int


@dataclass(frozen=True, slots=True)
class Straight:
    """A rate that is known at every so many seconds (the middle of each mean) and straight between."""

    values: Array
    every: float

    def at(self, times: Array) -> Array:
        middles = (np.arange(len(self.values)) + 0.5) * self.every
        return np.asarray(np.interp(times, middles, self.values))


@dataclass(frozen=True, slots=True)
class Times:
    """Another rate, so many times as high."""

    rate: Rate
    scale: float

    def at(self, times: Array) -> Array:
        return np.asarray(self.scale * self.rate.at(times))


@dataclass(frozen=True, slots=True)
class Source:
    """`seasons` in seconds, the longest last; `parts`: which of the longest is the first to fit by, for margins and to
    judge by, counted from 0, and how many there are.
    """

    name: str
    rate: Rate
    bursts: Bursts
    seasons: tuple[int, ...]
    parts: tuple[int, int, int, int]

    def drawn(self, seed: int, scale: float) -> Series:
        learned, margins, judged, count = (part * self.seasons[-1] for part in self.parts)
        stream = Stream(
            ServiceKey("forecast", self.name), Times(self.rate, scale), SHAPES["conversation"].lengths, self.bursts
        )
        demand = Generated([stream], count, seed=seed)
        hours = [demand.block(start, start + CHUNK).arrivals[0] for start in range(0, count, CHUNK)]
        usual = self.rate.at((np.arange(count // CYCLE, dtype=np.float64) + 0.5) * CYCLE)
        return Series(
            name=self.name,
            seed=seed,
            rates=np.concatenate(hours).reshape(-1, CYCLE).mean(axis=1),
            expected=usual * scale,
            each=float(usual.max()) / AT_PEAK,
            seasons=tuple(season // CYCLE for season in self.seasons),
            learned=learned // CYCLE,
            margins=margins // CYCLE,
            judged=judged // CYCLE,
        )


def named(weeks: int) -> Iterator[Source]:
    """The scoreboard's weeks, one after another: history, weeks to fit by, one for margins, one to judge by."""
    for name, shape in SHAPES.items():
        rate = Times(shape.weekly, SCALES[name])
        yield Source(name, rate, shape.bursts, (DAY, WEEK), (1, weeks - 2, weeks - 1, weeks))


def recorded(folder: Path) -> Iterator[Source]:
    """ServeGen's week of three workloads, of which days are the season, and four weeks of a cluster's load."""
    bursts = SHAPES["conversation"].bursts
    for name, values in servegen(folder / SERVEGEN).items():
        yield Source(name, Straight(values / values.mean() * MEAN_RATE, 600.0), bursts, (DAY,), (1, 3, 5, 7))
    load = column(folder / CLUSTERS, CLUSTER)[: CLUSTER_WEEKS * WEEK // 3600]
    rate = Straight(load / load.mean() * MEAN_RATE, 3600.0)
    yield Source(CLUSTER, rate, bursts, (DAY, WEEK), (1, 2, 3, CLUSTER_WEEKS))


def servegen(path: Path) -> dict[str, Array]:
    """Requests per second of each workload, by windows of 10 minutes."""
    found: dict[str, list[float]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            found.setdefault(line["workload"].split("/")[-1], []).append(float(line["rate_rps"]))
    return {name: np.array(values) for name, values in found.items()}


def column(path: Path, name: str) -> Array:
    with path.open(encoding="utf-8") as lines:
        return np.array([float(line[name]) for line in csv.DictReader(lines) if line[name]])
