"""Energy of one GPU over one interval: by its counter, by its power, or across a counter's new start.

Within an interval one method is used, never two (formula E1..E4 of docs/methodology.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.ledger import GpuMark
from fallow.domain.readings import GpuReading
from fallow.domain.units import Instant, Joules, Seconds, Watts, energy
from fallow.footprint.hardware import Hardware

# NVML accuracy class, +-5 % per board (arXiv 2312.02741)
COUNTER_BOUNDS = Bounds(0.95, 1.05)
# A100 and H100 sample power for 25 % of the time only (arXiv 2312.02741): bursts between samples are not seen
POWER_BOUNDS = Bounds(0.65, 1.35)
# two power samples further apart say little about the time between them
POWER_GAP = Seconds(300)
# how long a counter that fell silent is waited for before power stands in: four exporter intervals of 30 s
COUNTER_PATIENCE = Seconds(120)
# a counter's value may be one exporter interval older than its sample's time
SAMPLE_LAG = Seconds(60)
# an interval of no length has no mean power and no place in the calendar
SHORTEST = Seconds(1)
# no GPU draws this much for long; a falling counter that claims more since its new start is not believed
GPU_LIMIT = Watts(2000)
# a jump beyond this is a broken meter (DCGM's blanks read 9e18), not a GPU
ABSURD = Watts(100_000)


@dataclass(frozen=True, slots=True)
class Metered:
    """What an interval used. It may start after the mark where nothing is known of the time before (a reset)."""

    start: Instant
    end: Instant
    energy: Figure[Joules]
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """The meters of a GPU at one time. `joules` is None where it has no counter, `watts` where it gives no power."""

    at: Instant
    joules: Joules | None
    watts: Watts | None


def sample_of(reading: GpuReading) -> Sample | None:
    """The newest usable sample; the counter's time counts where there is one. None: nothing usable was read."""
    watts = None
    if not isinstance(reading.power, Missing) and 0 <= reading.power.watts.value < ABSURD.value:
        watts = reading.power.watts
    if not isinstance(reading.counter, Missing):
        joules = reading.counter.joules
        if isfinite(joules.value) and joules.value >= 0:
            return Sample(reading.counter.at, joules, watts)
    if watts is None or isinstance(reading.power, Missing):
        return None
    return Sample(reading.power.at, None, watts)


def metered(mark: GpuMark, sample: Sample, hardware: Hardware) -> Metered | None:
    """What was used from the mark to the sample. None: nothing can be booked yet and the mark stays where it is."""
    duration = Seconds(sample.at - mark.at)
    if duration <= 0:
        return None
    if mark.joules is None:
        return by_power(mark, sample, hardware)
    if sample.joules is None:
        return None if duration < COUNTER_PATIENCE else by_power(mark, sample, hardware)
    used = sample.joules - mark.joules
    if used.value >= 0:
        if used > energy(ABSURD, Seconds(duration + SAMPLE_LAG)):
            return by_power(mark, sample, hardware, reset=True)
        return by_counter(mark, sample, used)
    believable = energy(GPU_LIMIT, Seconds(duration + SAMPLE_LAG))
    if sample.joules <= believable:
        return across_reset(mark, sample, sample.joules, hardware)
    if used * -1 <= energy(GPU_LIMIT, SAMPLE_LAG):
        # an older sample under a newer time, as replicas of one Prometheus give: the next difference covers it
        return None
    return by_power(mark, sample, hardware, reset=True)


def by_counter(mark: GpuMark, sample: Sample, used: Joules) -> Metered:
    """E1: the difference of the energy counter."""
    return Metered(mark.at, sample.at, Figure.around(used, COUNTER_BOUNDS))


def by_power(mark: GpuMark, sample: Sample, hardware: Hardware, *, reset: bool = False) -> Metered:
    """E2: trapezoid of power over time; E3 where the samples are far apart: at least bare, at most design power."""
    known = [watts for watts in (mark.watts, sample.watts) if watts is not None]
    duration = Seconds(sample.at - mark.at)
    at_least, at_most = energy(hardware.bare, duration), energy(hardware.design, duration)
    if not known:
        middle = (at_least + at_most) * 0.5
        return Metered(mark.at, sample.at, Figure(at_least, middle, at_most), reset)
    used = energy(Watts(sum(watts.value for watts in known) / len(known)), duration)
    figure = Figure.around(used, POWER_BOUNDS)
    if duration > POWER_GAP:
        figure = Figure(min(figure.low, at_least), used, max(figure.high, at_most))
    return Metered(mark.at, sample.at, figure, reset)


def across_reset(mark: GpuMark, sample: Sample, since: Joules, hardware: Hardware) -> Metered:
    """E4: the counter's value since it started anew; the high bound allows design power for the time before.

    The new start is placed as early as the present power allows; of the time before it nothing is booked.
    """
    duration = Seconds(sample.at - mark.at)
    running = duration
    if sample.watts is not None and sample.watts.value > 0:
        running = Seconds(min(duration, max(since.value / sample.watts.value, SHORTEST)))
    unseen = energy(hardware.design, Seconds(duration - running))
    figure = Figure.around(since, COUNTER_BOUNDS)
    return Metered(
        Instant(sample.at - running),
        sample.at,
        Figure(figure.low, figure.best, figure.high + unseen),
        reset=True,
    )
