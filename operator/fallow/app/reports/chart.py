"""Stacked bars as an SVG drawing's rectangles: no script, no font, nothing to fetch, so that a report is one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960.0, 260.0, 64.0, 28.0, 10.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle with the series that gives its colour, and what is shown when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    series: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A text at a place: a tick of an axis."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    bars: tuple[Bar, ...]
    days: tuple[Mark, ...]
    ticks: tuple[Mark, ...]
    width: float = WIDTH
    height: float = HEIGHT


def stacked(labels: Sequence[str], series: Mapping[str, Sequence[float]], unit: str) -> Chart:
    """One bar for each label, of the series' values on top of each other; each series has a value for each label."""
    sums = [sum(values[number] for values in series.values()) for number in range(len(labels))]
    top = _ceiling(max(sums, default=0.0))
    slot = (WIDTH - LEFT) / max(len(labels), 1)
    scale = (HEIGHT - BOTTOM - TOP) / top
    bars: list[Bar] = []
    for number, label in enumerate(labels):
        base = HEIGHT - BOTTOM
        for name, values in series.items():
            height = values[number] * scale
            if height > 0:
                base -= height
                title = f"{label}, {name}: {values[number]:.3g} {unit}"
                bars.append(Bar(LEFT + (number + 0.1) * slot, base, 0.8 * slot, height, name, title))
    every = max(1, -(-len(labels) // 16))
    days = (
        Mark(LEFT + (number + 0.5) * slot, HEIGHT - 10, labels[number][5:]) for number in range(0, len(labels), every)
    )
    ticks = (
        Mark(LEFT - 8, HEIGHT - BOTTOM - top * part * scale, f"{top * part:.3g}") for part in (0, 0.25, 0.5, 0.75, 1)
    )
    return Chart(tuple(bars), tuple(days), tuple(ticks))


def _ceiling(value: float) -> float:
    """The next of 1, 2, 4, 5, 10 times a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{value:.0f}") - 1) if value >= 1 else 1.0
    while power > value:
        power /= 10
    return next(factor * power for factor in (1, 2, 4, 5, 10) if factor * power >= value)
