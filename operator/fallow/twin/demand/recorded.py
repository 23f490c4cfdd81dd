"""Recorded requests, second by second: scaled, stretched, repeated; every request of the file exactly once a round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.demand import Load, Spread
from fallow.twin.traffic import Arrival


class Recorded:
    """One service. `scale`: so many requests for each of the file, by a draw where it is no whole number; `stretch`:
    time runs so many times as slowly. With `seconds` the record is repeated, or cut, to that length.
    """

    def __init__(
        self,
        key: ServiceKey,
        rows: Sequence[Arrival],
        *,
        scale: float = 1.0,
        stretch: float = 1.0,
        seconds: int | None = None,
        seed: int = 0,
        cached: float = 0.0,
    ) -> None:
        """Raises ValueError without rows."""
        if not rows:
            raise ValueError("a record needs at least one request")
        self.services = (key,)
        at, prompt, output = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
        at = (at - at.min()) * stretch
        copies = np.full(len(at), np.floor(scale))
        copies += np.random.default_rng(seed).random(len(at)) < scale - np.floor(scale)
        self._length = int(at.max()) + 1
        self.seconds = self._length if seconds is None else seconds
        second = at.astype(np.int64)
        self._counts = np.asarray(np.bincount(second, copies, self._length), dtype=np.float64)
        some = np.maximum(self._counts, 1.0)
        empty = self._counts == 0
        self._prompt = np.bincount(second, copies * prompt, self._length) / some
        self._output = np.bincount(second, copies * output, self._length) / some
        self._prompt[empty], self._output[empty] = prompt.mean(), output.mean()
        self.spread = Spread(
            np.array([prompt.std() / prompt.mean()]), np.array([output.std() / output.mean()]), np.array([cached])
        )

    def block(self, start: int, stop: int) -> Load:
        at = np.arange(start, stop) % self._length
        return Load(start, self._counts[at][None, :], self._prompt[at][None, :], self._output[at][None, :])
