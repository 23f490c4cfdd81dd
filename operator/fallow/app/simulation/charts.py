"""Lines and bars as the parts of an SVG drawing: no script, nothing to fetch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960.0, 58.0, 12.0, 8.0, 22.0
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A text at a place along an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """`path` is an SVG path; `name` tells which colour it has."""

    name: str
    path: str
    said: str


@dataclass(frozen=True, slots=True)
class Lines:
    title: str
    lines: tuple[Line, ...]
    ticks: tuple[Mark, ...]
    times: tuple[Mark, ...]
    height: float
    width: float = WIDTH
    left: float = LEFT


def lines(
    title: str,
    seconds: Sequence[float],
    series: Mapping[str, Sequence[float]],
    unit: str,
    *,
    height: float = 130.0,
    steps: bool = False,
) -> Lines:
    """One line a series over time; values are means of samples that end at `seconds`. With `steps` as a staircase."""
    highest = max((value for values in series.values() for value in values), default=0.0)
    ceiling, every = _scale(highest)
    last = max(seconds[-1], 1.0) if seconds else 1.0
    across, up = (WIDTH - LEFT - RIGHT) / last, (height - TOP - BOTTOM) / ceiling
    drawn = []
    for name, values in series.items():
        points = [(LEFT + at * across, height - BOTTOM - value * up) for at, value in zip(seconds, values, strict=True)]
        mean = sum(values) / max(len(values), 1)
        drawn.append(
            Line(
                name,
                _path(points, steps=steps),
                f"{name}: mean {mean:.3g} {unit}, at most {max(values, default=0):.3g}",
            )
        )
    count = round(ceiling / every)
    ticks = tuple(Mark(height - BOTTOM - every * step * up, f"{every * step:g}") for step in range(count + 1))
    return Lines(title, tuple(drawn), ticks, _times(last, across), height)


def _path(points: Sequence[tuple[float, float]], *, steps: bool) -> str:
    if not points:
        return ""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for x, y in points[1:]:
        parts.append(f"V{y:.1f}H{x:.1f}" if steps else f"L{x:.1f} {y:.1f}")
    return "".join(parts)


def _scale(highest: float) -> tuple[float, float]:
    """A round ceiling and the distance of its ticks, 3 to 6 of them."""
    if highest <= 0:
        return 1.0, 1.0
    power = 10.0 ** floor(log10(highest))
    every = next(factor * power for factor in (0.2, 0.25, 0.5, 1, 2, 2.5) if highest / (factor * power) <= 5.001)
    return every * -(-highest // every), every


def _times(last: float, across: float) -> tuple[Mark, ...]:
    step, name = next(
        (step, name)
        for step, name in (
            (600.0, "min"),
            (3600.0, "h"),
            (6 * 3600.0, "h"),
            (DAY, "day"),
            (7 * DAY, "day"),
            (1e12, "day"),
        )
        if last / step <= 13
    )
    unit = {"min": 60.0, "h": 3600.0, "day": DAY}[name]
    return tuple(
        Mark(LEFT + at * across, f"{at / unit:g} {name}" if at else "0")
        for at in (number * step for number in range(int(last // step) + 1))
    )


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    value: float
    width: float
    text: str
    keeps: bool


@dataclass(frozen=True, slots=True)
class Bars:
    """`limits` are vertical lines that no bar can be left of."""

    bars: tuple[Bar, ...]
    limits: tuple[Mark, ...]
    left: float = 110.0
    width: float = WIDTH
    row: float = 30.0

    @property
    def height(self) -> float:
        return self.row * len(self.bars) + 34.0


def bars(values: Sequence[tuple[str, float, str, bool]], limits: Sequence[tuple[str, float]]) -> Bars:
    """`values`: name, length, text, and whether objectives were kept."""
    left, room = 110.0, WIDTH - 110.0 - 190.0
    highest = max([value for _, value, _, _ in values], default=1.0) or 1.0
    return Bars(
        tuple(Bar(name, value, value / highest * room, text, keeps) for name, value, text, keeps in values),
        tuple(Mark(left + value / highest * room, text) for text, value in limits),
        left,
    )
