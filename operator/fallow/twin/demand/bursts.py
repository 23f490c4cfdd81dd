"""How uneven requests are and for how long: parts with an index of dispersion and a correlation time, and the factors
of a rate that make counts so.

Each factor is a normal process that forgets exponentially, mapped to a gamma of mean one by its quantiles. So bursts
grow as gradually as they fade, as they do in Azure's coding file of 2023 (the skew of changes from one second to the
next is -0.4 there; bursts that begin at once and fade would make it 4 to 7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, sqrt

import numpy as np
from scipy.special import gammainccinv, gammaincinv, ndtr

from fallow.twin.simulation.demand import Array

# Seconds that are drawn together.
CHUNK = 3600
# Normal noise of a part (its number) in an hour: so many of its last seconds. Hours are whole; -1 is before the first.
Noise = Callable[[int, int, int], Array]

# A rate that varies more than this is off most of the time; at low rates measured indices would ask for that.
MOST_VARIANCE = 4.0
# Correlation times after which a seam is forgotten: exp(-8) of it is left.
FORGOTTEN = 8.0


@dataclass(frozen=True, slots=True)
class Burst:
    """`excess`: variance over mean of counts in a second beyond Poisson's 1. It holds at any rate: the sum of more
    clients varies by the same index, and so by less against its mean.

    Correlation falls with lag k as exp(-k / `seconds`); 0: each second on its own.
    """

    excess: float
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.excess < 0 or not 0 <= self.seconds <= CHUNK / FORGOTTEN:
            raise ValueError(f"a burst needs an excess of at least 0 and 0 to {CHUNK / FORGOTTEN:g} seconds: {self}")

    def over(self, window: int) -> float:
        """Excess of the index of dispersion of counts in windows of so many seconds.

        The sum of exp(-|i - j| / seconds) over a window, by its length (variance-time curve: Cox and Lewis, The
        Statistical Analysis of Series of Events, 1966, 4.5).
        """
        kept = exp(-1.0 / self.seconds) if self.seconds > 0 else 0.0
        ends = 2.0 * kept * (1.0 - kept**window) / (window * (1.0 - kept) ** 2)
        return self.excess * ((1.0 + kept) / (1.0 - kept) - ends)


@dataclass(frozen=True, slots=True)
class Bursts:
    """Parts that vary independently, each for a share of the requests; none is Poisson."""

    parts: tuple[Burst, ...] = ()

    def index(self, window: int) -> float:
        """Index of dispersion (variance over mean) of counts in windows of so many seconds, at a steady rate."""
        return 1.0 + sum(part.over(window) for part in self.parts)

    def factors(self, rate: Array, hour: int, noise: Noise) -> Array:
        """What each second's rate in an hour is multiplied by; it goes on from the noise of the hour before."""
        roots = [sqrt(part.excess) for part in self.parts]
        whole = sum(roots)
        if whole <= 0:
            return np.ones_like(rate)
        # shares of the requests by the root of the excess: then all factors have the same variance
        deviation = whole / np.sqrt(np.maximum(rate, whole**2 / MOST_VARIANCE))
        typical = float(np.mean(deviation**2))
        return np.asarray(
            sum(
                root / whole * _gamma(_wandering(part.seconds * _longer(typical), hour, number, noise), deviation)
                for number, (part, root) in enumerate(zip(self.parts, roots, strict=True))
            )
        )


def _longer(variance: float) -> float:
    """By how much a normal process must remember longer than its gamma is to.

    The mapping loses correlation: of its sum over all lags 2.7 % at a variance of 0.25, 9 % at 1, 24 % at 4 (by the
    Hermite coefficients of the gamma's quantiles). This gives the sum back to 1 %.
    """
    return 1.0 + variance / (9.0 + variance)


def _wandering(seconds: float, hour: int, number: int, noise: Noise) -> Array:
    """A normal process of variance one with that correlation time."""
    if seconds <= 0:
        return noise(number, hour, CHUNK)
    # late: it brings all of scipy.stats, half of what `fallow simulate` takes to start
    from scipy.signal import lfilter

    kept = exp(-1.0 / seconds)
    before = min(ceil(FORGOTTEN * seconds), CHUNK)
    steps = np.concatenate([noise(number, hour - 1, before), noise(number, hour, CHUNK)])
    steps[1:] *= sqrt(1.0 - kept**2)
    return np.asarray(lfilter([1.0], [1.0, -kept], steps)[before:])


# Steps of the table of quantiles, per unit of the normal variable and of the gamma's standard deviation.
PER_UNIT = 16
OUTERMOST = 6.0


@lru_cache(maxsize=1)
def _quantiles() -> Array:
    """Gamma of mean one at quantiles of the normal distribution: rows by its standard deviation, from 0 on."""
    normal = np.arange(-OUTERMOST, OUTERMOST + 2.0 / PER_UNIT, 1.0 / PER_UNIT)
    deviations = np.arange(1.0, sqrt(MOST_VARIANCE) * PER_UNIT + 2.0) / PER_UNIT
    shape = 1.0 / deviations[:, None] ** 2
    # each tail from its own side, where it is exact
    low, high = gammaincinv(shape, ndtr(normal)), gammainccinv(shape, ndtr(-normal))
    return np.vstack([np.ones_like(normal), np.where(normal < 0, low, high) / shape])


def _gamma(normal: Array, deviation: Array) -> Array:
    """Of mean one and that standard deviation, where a standard normal variable has the same quantile: straight between
    the entries of the table, since its functions are too slow for every second of a week.
    """
    table = _quantiles()
    across = (np.clip(normal, -OUTERMOST, OUTERMOST) + OUTERMOST) * PER_UNIT
    down = deviation * PER_UNIT
    column, row = across.astype(np.intp), down.astype(np.intp)
    right, below = across - column, down - row
    flat, width = table.ravel(), table.shape[1]
    at = row * width + column
    upper = flat[at] + right * (flat[at + 1] - flat[at])
    lower = flat[at + width] + right * (flat[at + width + 1] - flat[at + width])
    return np.asarray(upper + below * (lower - upper))
