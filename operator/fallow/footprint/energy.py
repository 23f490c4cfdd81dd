"""Energy of one GPU over one interval: by its counter, by its power, or across a counter's new start.

Each stretch of time has one method, never two (formulas E1..E4 of docs/methodology.md). A counter that falls has begun
anew; it is never read as one that ran over, since those in use (NVML, DCGM) count millijoules in 64 bits: 285,000 years
at 1 kW, and 285 years before a double loses the last one.
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
# times that differ by more than this come from a clock that was wrong
CLOCK_FAULT = Seconds(3600)
# an interval of no length has no mean power and no place in the calendar
SHORTEST = Seconds(1)
# what nobody measured for this long is not modelled either: the GPU starts from a new mark
MODEL_LIMIT = Seconds(7 * 86_400)
# over more than this, a counter that shows less than half of the bare power says that the machine slept, or that the
# clock was wrong: the time held is then only what the energy can account for
REST_LIMIT = Seconds(3600)
# no GPU draws this much for long; a falling counter that claims more since its new start is not believed
GPU_LIMIT = Watts(2000)
# a jump beyond this is a broken meter (DCGM's blanks read 9e18), not a GPU
ABSURD = Watts(100_000)


@dataclass(frozen=True, slots=True)
class Metered:
    """What an interval used; `modelled` joules of the best value were not measured by a counter.

    It may start after the mark: where the time before is not booked, or cannot have been that long.
    """

    start: Instant
    end: Instant
    energy: Figure[Joules]
    modelled: Joules = Joules(0)
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
    if duration < -CLOCK_FAULT:
        return after_wrong_clock(mark, sample, hardware)
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
        return by_counter(mark, sample, used, hardware)
    return after_fall(mark, sample, sample.joules, used * -1, hardware)


def after_fall(mark: GpuMark, sample: Sample, since: Joules, fall: Joules, hardware: Hardware) -> Metered | None:
    """A counter that is lower than before has begun anew, unless it claims more since than any GPU can draw."""
    if since <= energy(GPU_LIMIT, Seconds(sample.at - mark.at + SAMPLE_LAG)):
        return across_reset(mark, sample, since, hardware)
    if fall <= energy(GPU_LIMIT, SAMPLE_LAG):
        # an older sample under a newer time, as replicas of one Prometheus give: the next difference covers it
        return None
    return by_power(mark, sample, hardware, reset=True)


def by_counter(mark: GpuMark, sample: Sample, used: Joules, hardware: Hardware) -> Metered:
    """E1: the difference of the energy counter."""
    start, duration = mark.at, Seconds(sample.at - mark.at)
    slowest = hardware.bare * 0.5
    if duration > REST_LIMIT and used < energy(slowest, duration):
        start = Instant(sample.at - max(used.value / slowest.value, SHORTEST))
    return Metered(start, sample.at, Figure.around(used, COUNTER_BOUNDS))


def after_wrong_clock(mark: GpuMark, sample: Sample, hardware: Hardware) -> Metered | None:
    """E1 where the mark lies in the future: which of the two is the later one is told by the counter alone.

    A lower counter is an older sample, as a source gives it when it is asked by a clock that is behind.
    """
    if mark.joules is None or sample.joules is None:
        return None
    used = sample.joules - mark.joules
    if not 0 < used.value <= energy(GPU_LIMIT, MODEL_LIMIT).value:
        return None
    watts = sample.watts if sample.watts is not None and sample.watts.value > 0 else hardware.bare
    start = Instant(sample.at - max(used.value / watts.value, SHORTEST))
    return Metered(start, sample.at, Figure.around(used, COUNTER_BOUNDS))


def by_power(mark: GpuMark, sample: Sample, hardware: Hardware, *, reset: bool = False) -> Metered:
    """E2: trapezoid of power over time; E3 where the samples are far apart: at least bare, at most design power."""
    start = max(mark.at, Instant(sample.at - MODEL_LIMIT))
    duration = Seconds(sample.at - start)
    used = energy(_mean_of_ends(mark, sample, hardware), duration)
    figure = Figure.around(used, POWER_BOUNDS)
    if duration > POWER_GAP or (mark.watts is None and sample.watts is None):
        at_least, at_most = energy(hardware.bare, duration), energy(hardware.design, duration)
        figure = Figure(min(figure.low, at_least), used, max(figure.high, at_most))
    return Metered(start, sample.at, figure, modelled=used, reset=reset)


def across_reset(mark: GpuMark, sample: Sample, since: Joules, hardware: Hardware) -> Metered:
    """E4: the counter's value since it started anew, and a model of the time before.

    The new start is placed as early as the present power allows. The time before is taken to have been like its ends,
    and lies between nothing and design power; what is certain is only that nothing drew more than that. Of a machine
    that was away the time before is not booked: it was off, or outside the cluster.
    """
    duration = Seconds(min(sample.at - mark.at, MODEL_LIMIT))
    running = duration
    if sample.watts is not None and sample.watts.value > 0:
        running = Seconds(min(duration, max(since.value / sample.watts.value, SHORTEST)))
    unseen = Seconds(0 if mark.away else duration - running)
    modelled = energy(_mean_of_ends(mark, sample, hardware), unseen)
    counted, most = Figure.around(since, COUNTER_BOUNDS), energy(hardware.design, duration) - since
    figure = Figure(counted.low, since + modelled, counted.high + max(most, modelled))
    return Metered(Instant(sample.at - running - unseen), sample.at, figure, modelled=modelled, reset=True)


def _mean_of_ends(mark: GpuMark, sample: Sample, hardware: Hardware) -> Watts:
    """The mean of the powers at both ends; where none is known, half-way between bare and design power."""
    ends = [watts.value for watts in (mark.watts, sample.watts) if watts is not None]
    known = ends or [hardware.bare.value, hardware.design.value]
    return Watts(sum(known) / len(known))
