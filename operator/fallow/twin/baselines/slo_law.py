"""llm-d's law on objectives: replicas follow the P90 of latency over its objective.

As documented for llm-d: above .55 of the objective more are asked for, below .40 fewer, on a mean over 45 s. What the
documents leave open is inferred: the worse of TTFT and ITL counts, and replicas change in proportion to the ratio over
the middle of the two thresholds, at most doubling.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import LATENCY_BOUNDS, IntArray, Known, Sight

UP, DOWN = 0.55, 0.40
MEAN_OVER = 45.0
QUANTILE = 0.9
MOST = 2.0


class SloLaw:
    """Replicas that still start keep more from being asked for."""

    name = "llm-d"
    period = 15

    def __init__(self, known: Known) -> None:
        self._known = known
        self._ratios: deque[tuple[float, Array]] = deque()

    def desired(self, sight: Sight) -> IntArray:
        ttft = quantile(sight.ttft, QUANTILE) / self._known.ttft
        itl = quantile(sight.itl, QUANTILE) / self._known.itl
        waits = np.where(sight.held > 0, MOST, 0.0)
        self._ratios.append((sight.at, np.maximum(np.maximum(ttft, itl), waits)))
        while sight.at - self._ratios[0][0] >= MEAN_OVER:
            self._ratios.popleft()
        ratio = np.mean([one for _, one in self._ratios], axis=0)
        asked = np.maximum(sight.asked, 1)
        middle = (UP + DOWN) / 2
        more = np.ceil(asked * np.minimum(ratio / middle, MOST) - 1e-9)
        wanted = np.where((ratio > UP) & (sight.asked <= sight.ready), more, asked)
        wanted = np.where((ratio < DOWN) & (sight.asked <= sight.ready), asked - 1, wanted)
        return np.asarray(np.clip(wanted.astype(np.int64), np.maximum(self._known.minimum, 1), self._known.maximum))


def quantile(counts: Array, share: float) -> Array:
    """Upper bound of the bucket that holds the quantile, by service; 0 without counts."""
    cumulative = counts.cumsum(axis=1)
    total = cumulative[:, -1:]
    index = (cumulative < share * total).sum(axis=1)
    bounds = np.append(LATENCY_BOUNDS[:-1], LATENCY_BOUNDS[-2])
    return np.asarray(np.where(total[:, 0] > 0, bounds[np.minimum(index, len(bounds) - 1)], 0.0))
