"""A strong opponent: sized by arrival rate and objectives, up at once, down after five minutes, zero by a fixed TTL.

Five minutes is what the break-even rule of arXiv 2605.23918 comes to in its own comparison. The fleet packs nodes for
every controller alike.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from fallow.twin.simulation.sight import IntArray, Known, Sight

PERIOD = 15
LOOK = 60.0
HEADROOM = 0.1
STABLE = 300.0
TTL = 300.0


class Strong:
    """Replicas for the arrivals of the last minute, as many as one measured replica carries within its objectives."""

    name = "strong"
    period = PERIOD

    def __init__(self, known: Known) -> None:
        self._known = known
        self._arrived: deque[tuple[float, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]] = deque()
        self._needed: deque[tuple[float, IntArray]] = deque()
        self._seen_at = np.zeros(len(known.minimum))

    def desired(self, sight: Sight) -> IntArray:
        self._arrived.append((sight.at, sight.arrived))
        while sight.at - self._arrived[0][0] >= LOOK:
            self._arrived.popleft()
        seconds = min(max(sight.at, PERIOD), len(self._arrived) * PERIOD)
        rate = np.sum([one for _, one in self._arrived], axis=0) / seconds
        latest = sight.arrived / PERIOD if sight.at > 0 else np.zeros(len(rate))
        # a backlog is to be worked off within a minute
        rate = np.maximum(rate, np.minimum(latest, 2 * rate)) + (sight.waiting + sight.held) / LOOK
        needed = np.ceil(rate * (1.0 + HEADROOM) / self._known.rate - 1e-9).astype(np.int64)
        self._needed.append((sight.at, needed))
        while sight.at - self._needed[0][0] > STABLE:
            self._needed.popleft()
        wanted = np.maximum(np.max([one for _, one in self._needed], axis=0), 1)
        if sight.at == 0:
            wanted = np.maximum(wanted, sight.asked)
        self._seen_at = np.where(
            (sight.arrived > 0) | (sight.held > 0) | (sight.running > 0.5), sight.at, self._seen_at
        )
        rests = (self._known.minimum == 0) & (sight.at - self._seen_at >= TTL)
        return np.asarray(np.where(rests, 0, np.clip(wanted, np.maximum(self._known.minimum, 1), self._known.maximum)))
