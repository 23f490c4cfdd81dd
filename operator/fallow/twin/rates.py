"""Arrival rates over time: piecewise profiles for a story, daily shapes for a week."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, pi
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Rate(Protocol):
    """Requests per second at times in seconds since the traffic began."""

    def at(self, times: Array) -> Array: ...


@dataclass(frozen=True, slots=True)
class Piecewise:
    """Through (seconds, requests per second) points, straight between them or held until the next; flat at the ends."""

    points: tuple[tuple[float, float], ...]
    held: bool = False

    def at(self, times: Array) -> Array:
        starts = np.array([point[0] for point in self.points])
        rates = np.array([point[1] for point in self.points])
        if not self.held:
            return np.asarray(np.interp(times, starts, rates), dtype=np.float64)
        return np.asarray(rates[np.clip(np.searchsorted(starts, times, side="right") - 1, 0, None)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Daily:
    """One peak a day: mean * exp(k cos) / I0(k), k chosen for the wanted ratio of peak to mean.

    `quiet` are hours without any request, as (from, to); a pair may pass midnight. `seconds_per_day` shortens the day.
    """

    mean: float
    peak_to_mean: float = 1.67
    peak_hour: float = 14.0
    start_hour: float = 0.0
    seconds_per_day: float = 86400.0
    quiet: tuple[tuple[float, float], ...] = ()

    def at(self, times: Array) -> Array:
        hours = (times / self.seconds_per_day * 24.0 + self.start_hour) % 24.0
        sharpness = _sharpness(self.peak_to_mean)
        shape = np.exp(sharpness * np.cos(2.0 * pi * (hours - self.peak_hour) / 24.0)) / np.i0(sharpness)
        for begin, end in self.quiet:
            inside = (hours >= begin) & (hours < end) if begin <= end else (hours >= begin) | (hours < end)
            shape = np.where(inside, 0.0, shape)
        return np.asarray(self.mean * shape, dtype=np.float64)


def _sharpness(peak_to_mean: float) -> float:
    """The k for which exp(k) / I0(k) is the ratio; it grows with k without bound."""
    low, high = 0.0, 200.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if exp(middle) / float(np.i0(middle)) < peak_to_mean:
            low = middle
        else:
            high = middle
    return low
