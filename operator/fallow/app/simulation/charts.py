"""Values over time as the paths of an SVG drawing: no script, nothing to fetch.

A drawing is SIDE units wide and high and is stretched to its place, so that it fits a telephone and a sheet of paper;
texts stand beside it and are not stretched. Paths are staircases: a sample is a mean over its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np

from fallow.twin.simulation.demand import Array

SIDE = 1000
MOST_TICKS = 4
# What is less is the rounding of sums, and drawn as nothing.
LEAST = 1e-9
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
# Between two marks of the time axis, and the unit that they count.
STEPS = (
    (10 * MINUTE, MINUTE, "min"),
    (HOUR, HOUR, "h"),
    (3 * HOUR, HOUR, "h"),
    (6 * HOUR, HOUR, "h"),
    (DAY, DAY, "day"),
    (7 * DAY, DAY, "day"),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A text at a share of an axis, from its beginning."""

    share: float
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from 0 to `top`, a round number, with a mark `every`."""

    top: float
    every: float

    @property
    def marks(self) -> tuple[Mark, ...]:
        count = round(self.top / self.every)
        return tuple(Mark(step / count, f"{self.every * step:,.6g}") for step in range(count + 1))


@dataclass(frozen=True, slots=True)
class Envelope:
    """Lowest, mean and highest of the samples in each stretch; a stretch ends at its `ends`, in seconds."""

    ends: Array
    low: Array
    mean: Array
    high: Array

    def scaled(self, factor: float) -> Envelope:
        return Envelope(self.ends, self.low * factor, self.mean * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Area:
    """A filled path; `name` says of what."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Plot:
    """`band` from lowest to highest, `areas` on top of each other, `line` the mean; `said` is all that in words."""

    title: str
    marks: tuple[Mark, ...]
    band: str
    areas: tuple[Area, ...]
    line: str
    said: str


def envelope(times: Array, values: Array, most: int) -> Envelope:
    """Of at most `most` stretches that hold about as many samples each; none is left out."""
    count = min(len(times), most)
    if count == 0:
        return Envelope(times, values, values, values)
    starts = np.arange(count) * len(times) // count
    stops = np.append(starts[1:], len(times))
    return Envelope(
        times[stops - 1],
        np.minimum.reduceat(values, starts),
        np.add.reduceat(values, starts) / (stops - starts),
        np.maximum.reduceat(values, starts),
    )


def highest(values: Envelope) -> float:
    return float(values.high.max(initial=0.0))


def scale(reach: float, *, whole: bool = False) -> Scale:
    """The least round one that holds `reach`, with at most MOST_TICKS steps; `whole` numbers only, where asked."""
    if reach < LEAST:
        return Scale(1.0, 1.0)
    reach = max(reach, 1.0) if whole else reach
    power = 10.0 ** (floor(log10(reach)) - 1)
    steps = (factor * power * ten for ten in (1, 10) for factor in (1, 2, 5, 10))
    every = next(step for step in steps if reach / step <= MOST_TICKS and (step >= 1 or not whole))
    return Scale(every * ceil(reach / every - 1e-9), every)


def over_time(title: str, values: Envelope, axis: Scale, unit: str) -> Plot:
    """A line of means in a band from lowest to highest."""
    low, high = values.low.min(initial=highest(values)), highest(values)
    said = f"{title}: mean {_mean(values):.3g} {unit}, {low:.3g} to {high:.3g}"
    return Plot(
        title,
        axis.marks,
        _band(values.ends, values.low, values.high, axis),
        (),
        _stairs(values.ends, values.mean, axis),
        said,
    )


def stacked(title: str, parts: Mapping[str, Envelope], whole: Envelope, axis: Scale, unit: str) -> Plot:
    """Means of `parts` on top of each other, the first below; the band goes from there to the highest of all."""
    base = np.zeros_like(whole.mean)
    areas = []
    for name, part in parts.items():
        top = base + part.mean
        if part.high.any():
            areas.append(Area(name, _band(whole.ends, base, top, axis)))
        base = top
    shares = ", ".join(f"{name} {_mean(part):.3g}" for name, part in parts.items() if part.high.any())
    said = f"{title}: mean {_mean(whole):.3g} {unit}, at most {highest(whole):.3g}" + (f"; {shares}" if shares else "")
    return Plot(title, axis.marks, _band(whole.ends, base, whole.high, axis), tuple(areas), "", said)


def times(last: float) -> tuple[Mark, ...]:
    """Marks of a time axis that ends at `last` seconds; a day is named at its beginning."""
    if last <= 0:
        return ()
    step, unit, name = next((one for one in STEPS if last / one[0] <= 8), STEPS[-1])
    count = ceil(last / step - 1e-9)
    marks = (number * step for number in range(count))
    if unit == DAY:
        return tuple(Mark(at / last, f"day {at / DAY + 1:.0f}") for at in marks)
    return tuple(Mark(at / last, f"{at / unit:.0f} {name}") for at in marks)


def rules(marks: Iterable[Mark]) -> str:
    """Upright lines at the marks of the time axis."""
    return "".join(f"M{mark.share * SIDE:.0f} 0V{SIDE}" for mark in marks)


def _stairs(ends: Array, values: Array, axis: Scale) -> str:
    if not len(ends):
        return ""
    xs, ys = _across(ends), _up(values, axis)
    return f"M0 {ys[0]}" + _steps(xs, ys)


def _band(ends: Array, low: Array, high: Array, axis: Scale) -> str:
    """Empty where it has no height anywhere."""
    if not len(ends) or not (high > low).any():
        return ""
    xs, below, above = _across(ends), _up(low, axis), _up(high, axis)
    back = _steps([*reversed(xs[:-1]), 0], list(reversed(below)))
    return f"M0 {above[0]}" + _steps(xs, above) + f"V{below[-1]}" + back + "Z"


def _steps(xs: Sequence[int], ys: Sequence[int]) -> str:
    """From where the path is: to each height, then along to each place; equal heights are one step."""
    parts = []
    for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if number and y != ys[number - 1]:
            parts.append(f"V{y}")
        if number + 1 == len(ys) or ys[number + 1] != y:
            parts.append(f"H{x}")
    return "".join(parts)


def _across(ends: Array) -> list[int]:
    return [round(float(one)) for one in ends / ends[-1] * SIDE]


def _up(values: Array, axis: Scale) -> list[int]:
    return [round(float(one)) for one in SIDE - values / axis.top * SIDE]


def _mean(values: Envelope) -> float:
    lengths = np.diff(values.ends, prepend=0.0)
    return float(np.average(values.mean, weights=lengths)) if len(values.ends) else 0.0
