"""A Prometheus histogram that takes many equal observations at once."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate


class Histogram:
    """Counts by upper bound; the bound of infinity is implied."""

    __slots__ = ("_counts", "bounds", "count", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self.bounds, value)] += times
        self.count += times
        self.total += value * times

    def cumulative(self) -> list[int]:
        """One count per bound, and the last for infinity."""
        return list(accumulate(self._counts))


def one_two_five(limit: int) -> tuple[float, ...]:
    """1, 2, 5, 10, ... up to the limit: vLLM's buckets for lengths, which follow max_model_len."""
    bounds: list[float] = []
    decade = 1
    while True:
        for step in (1, 2, 5):
            if step * decade > limit:
                return tuple(bounds)
            bounds.append(float(step * decade))
        decade *= 10
