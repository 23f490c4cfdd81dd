"""How long queries take when only quantiles are known: correlated draws of time to first token and of token rate.

Jegham et al. (arXiv 2505.09598, and their published script): a Gaussian copula with rho = -0.3 joins the two, and the
marginals are piecewise linear through the 5th, 25th, 50th, 75th and 95th percentile, cut at the 5th and the 95th.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from fallow.domain.units import Seconds

LEVELS = (0.05, 0.25, 0.50, 0.75, 0.95)
DRAWS = 10_000
CORRELATION = -0.3


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The 5th, 25th, 50th, 75th and 95th percentile; raises ValueError unless there are five that never fall."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(LEVELS) or any(after < before for before, after in pairwise(self.values)):
            raise ValueError(f"not five values that never fall: {self.values}")

    def at(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value below which this share of all lies; beyond the outer percentiles their own values."""
        return np.interp(probability, LEVELS, self.values)


@dataclass(frozen=True, slots=True)
class Draws:
    """What the drawn latencies come to, s."""

    mean: Seconds
    p5: Seconds
    p50: Seconds
    p95: Seconds


def drawn_latencies(
    ttft: Quantiles,
    tokens_per_second: Quantiles,
    tokens: float,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    correlation: float = CORRELATION,
) -> Draws:
    """Q4: T = ttft + tokens / rate for correlated draws of both; ttft in s, rate above 0, correlation within -1..1."""
    normal = np.random.default_rng(seed).standard_normal((draws, 2))
    rates = correlation * normal[:, 0] + np.sqrt(1 - correlation**2) * normal[:, 1]
    latency = ttft.at(ndtr(normal[:, 0])) + tokens / tokens_per_second.at(ndtr(rates))
    p5, p50, p95 = np.percentile(latency, (5, 50, 95))
    return Draws(Seconds(float(latency.mean())), Seconds(float(p5)), Seconds(float(p50)), Seconds(float(p95)))
