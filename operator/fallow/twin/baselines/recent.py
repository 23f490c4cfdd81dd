"""What an autoscaler remembers of the last so many seconds: an array by service for each time that it was asked."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Recent:
    """Values younger than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[tuple[float, NDArray[Any]]] = deque()

    def add(self, at: float, values: NDArray[Any]) -> None:
        self._kept.append((at, values))

    def values(self, at: float) -> NDArray[Any]:
        """A row for each time up to `at`, oldest first; empty where there is none."""
        while self._kept and at - self._kept[0][0] >= self._seconds:
            self._kept.popleft()
        return np.array([values for _, values in self._kept])
