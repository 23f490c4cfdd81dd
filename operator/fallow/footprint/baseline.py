"""What each GPU draws at rest, bare and with a loaded engine: learned from its counter while it certainly rests.

The shipped constants are the prior. Nothing is learned from the lowest power seen, which only an empty GPU can reach,
and nothing while the GPU works, so that a start of Fallow under load learns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

from fallow.domain.figures import Missing
from fallow.domain.ledger import Baseline, GpuMark, Level, LineKind, Rest, Watch
from fallow.domain.readings import GpuReading
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds, Watts
from fallow.footprint.attribution import Holding
from fallow.footprint.energy import Metered, Sample
from fallow.footprint.hardware import IDLE_TOLERANCE, Hardware

# clocks and temperature fall for some time after work, and its last energy shows one exporter interval (30 s) late
SETTLED = Seconds(60)
# four exporter intervals, from one step of the counter to another, so that its coarseness is left out
WINDOW = Seconds(120)
# a sample is the median of so many windows: one or two that were not what they seemed cannot move it
WINDOWS = 5
# an interval longer than this may hide somebody who came and went
WATCHED = Seconds(300)
# the share of time in which a kernel may have run, for rounding in what DCGM reports
STILL = 0.005
# how many samples (ten minutes of rest each) the constants weigh: measured elsewhere, or only assumed
PRIOR, ASSUMED_PRIOR = 3, 1
# a new sample weighs at least 1/96, so that a new driver's level is learned within a day or two of rest
MEMORY = 96


@dataclass(frozen=True, slots=True)
class Levels:
    """What a GPU draws at rest, the constants and its own samples taken together; `bare` is at most `loaded`."""

    bare: Watts
    loaded: Watts


def levels(baseline: Baseline | None, hardware: Hardware) -> Levels:
    """B1: the prior and the learned level, each by its samples."""
    known = baseline or Baseline()
    bare = _weighed(known.bare, hardware.bare, assumed="bare" in hardware.assumed)
    loaded = _weighed(known.loaded, hardware.context, assumed="context" in hardware.assumed)
    return Levels(min(bare, loaded), loaded)


def _weighed(level: Level | None, prior: Watts, *, assumed: bool) -> Watts:
    if level is None:
        return prior
    weight = ASSUMED_PRIOR if assumed else PRIOR
    return (level.watts * level.samples + prior * weight) * (1 / (level.samples + weight))


@dataclass(frozen=True, slots=True)
class Stretch:
    """One GPU from its mark to its newest sample."""

    reading: GpuReading
    holding: Holding
    mark: GpuMark
    sample: Sample
    used: Metered
    hardware: Hardware


def rest_of(snapshot: Snapshot, stretch: Stretch, *, idle: bool) -> Rest | None:
    """How the GPU rested; None where it worked, or where that is not certain.

    `idle` says that its holder certainly had no work.
    """
    reading, holding, mark = stretch.reading, stretch.holding, stretch.mark
    if not isinstance(reading.activity, Missing) and reading.activity.ratio > STILL:
        return None
    if holding.line != mark.line or holding.holder != mark.holder or reading.shares:
        return None
    if holding.line.kind is LineKind.UNALLOCATED:
        return Rest.BARE
    if not idle or holding.holder is None or holding.pod is None:
        return None
    engine = snapshot.readings.engines.get(holding.holder)
    ready = holding.pod.ready_since
    if engine is None or engine.asleep or ready is None or ready > mark.at:
        return None
    return Rest.LOADED


class Rested:
    """The baselines and watches of a ledger, with what one step adds to them."""

    def __init__(self, baselines: Mapping[str, Baseline], watches: Mapping[str, Watch]) -> None:
        self.baselines = dict(baselines)
        self.watches = dict(watches)

    def watch(self, stretch: Stretch, rest: Rest | None) -> None:
        uuid = stretch.reading.uuid
        before = self.watches.pop(uuid, None)
        following, watts = watched(before, rest, stretch)
        if following is not None:
            self.watches[uuid] = following
        if watts is not None and rest is not None:
            self.baselines[uuid] = learned(self.baselines.get(uuid), rest, watts, stretch.sample.at)


def watched(watch: Watch | None, rest: Rest | None, stretch: Stretch) -> tuple[Watch | None, Watts | None]:
    """B2: the watch after one more interval, and a sample of the level once enough windows are complete."""
    mark, sample = stretch.mark, stretch.sample
    if rest is None or sample.joules is None or mark.joules is None or stretch.used.reset:
        return _interrupted(watch), None
    if sample.at - mark.at > WATCHED:
        return _interrupted(watch), None
    known = watch if watch is not None and watch.rest is rest else Watch(rest)
    since = known.resting_since if known.resting_since is not None else mark.at
    known = replace(known, resting_since=since)
    if sample.joules == mark.joules or sample.at - since < SETTLED:
        return known, None
    if known.start is None:
        return replace(known, start=sample.at, joules=sample.joules), None
    if sample.at - known.start < WINDOW:
        return known, None
    mean = (sample.joules - known.joules).value / (sample.at - known.start)
    following = replace(known, start=sample.at, joules=sample.joules)
    if not _believable(mean, stretch):
        return following, None
    windows = (*known.windows, mean)
    if len(windows) < WINDOWS:
        return replace(following, windows=windows), None
    return replace(following, windows=()), Watts(median(windows))


def _interrupted(watch: Watch | None) -> Watch | None:
    """Complete windows stay; the one that was running is dropped."""
    if watch is None or not watch.windows:
        return None
    return replace(watch, resting_since=None, start=None)


def _believable(mean: float, stretch: Stretch) -> bool:
    """A GPU whose activity is not read may work unseen: then only what a GPU at rest can draw counts."""
    still = not isinstance(stretch.reading.activity, Missing)
    return mean > 0 and (still or mean <= stretch.hardware.context.value * IDLE_TOLERANCE)


def learned(baseline: Baseline | None, rest: Rest, watts: Watts, at: Instant) -> Baseline:
    """The baseline with one sample more; an old level is forgotten slowly."""
    known = baseline or Baseline()
    if rest is Rest.BARE:
        return replace(known, bare=_more(known.bare, watts, at))
    return replace(known, loaded=_more(known.loaded, watts, at))


def _more(level: Level | None, watts: Watts, at: Instant) -> Level:
    if level is None:
        return Level(watts, 1, at)
    weight = min(level.samples, MEMORY - 1)
    return Level((level.watts * weight + watts) * (1 / (weight + 1)), level.samples + 1, level.since)
