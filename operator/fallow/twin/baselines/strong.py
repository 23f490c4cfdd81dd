"""A strong opponent: sized by arrival rate and objectives, up at once, down after five minutes, to zero by a fixed TTL.

Not published as a whole. Five minutes is what the break-even rule of arXiv 2605.23918 comes to in its own comparison;
headroom and windows are choices. The fleet packs nodes for every controller alike.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.baselines.gauges import ROUNDING, SOMEBODY
from fallow.twin.baselines.recent import Recent
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray, Known, Sight

PERIOD = 15
# Seconds: arrivals are counted over, a backlog is worked off within, fewer are asked for after, zero follows after.
LOOK = 60.0
STABLE = 300.0
TTL = 300.0
HEADROOM = 0.1
# A rise is believed up to so many times the rate of the last minute.
RISE = 2.0


class Strong:
    """Replicas for the arrivals of the last minute, as many as one measured replica carries within its objectives."""

    name = "strong"
    period = PERIOD

    def __init__(self, known: Known, headroom: Array | float = HEADROOM) -> None:
        self._known, self._headroom = known, headroom
        self._least = np.maximum(known.minimum, 1)
        self._arrived, self._needed = Recent(LOOK), Recent(STABLE)
        self._busy_at = np.zeros(len(known.minimum))

    def desired(self, sight: Sight) -> IntArray:
        if sight.at == 0:
            # nothing has been counted yet: what is there stays for as long as anything needed would
            self._needed.add(sight.at, sight.asked)
        else:
            self._arrived.add(sight.at, sight.arrived)
            self._needed.add(sight.at, self._sized(sight))
        busy = (sight.arrived > 0) | (sight.held > 0) | (sight.running >= SOMEBODY)
        self._busy_at = np.where(busy, sight.at, self._busy_at)
        wanted = np.clip(self._needed.values(sight.at).max(axis=0), self._least, self._known.maximum)
        rests = (self._known.minimum == 0) & (sight.at - self._busy_at >= TTL)
        return np.asarray(np.where(rests, 0, wanted))

    def _sized(self, sight: Sight) -> IntArray:
        counts = self._arrived.values(sight.at)
        rate = counts.sum(axis=0) / (len(counts) * PERIOD)
        rising = np.minimum(sight.arrived / PERIOD, RISE * rate)
        rate = np.maximum(rate, rising) + (sight.waiting + sight.held) / LOOK
        return np.asarray(np.ceil(rate * (1.0 + self._headroom) / self._known.rate - ROUNDING).astype(np.int64))
