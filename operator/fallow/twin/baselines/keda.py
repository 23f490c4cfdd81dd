"""KEDA's ScaledObject: an HPA on an external metric, and scale to and from zero beside it.

Source: keda.sh, ScaledObject specification v2 (pollingInterval 30 s, cooldownPeriod 300 s, activation above 0); the
trigger as in vLLM production-stack's tutorial: waiting requests, 5 a replica.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.baselines.hpa import PERIOD, Recommender
from fallow.twin.simulation.sight import IntArray, Known, Sight

POLLING = 30.0
COOLDOWN = 300.0
THRESHOLD = 5.0


class Keda:
    """Waiting requests ask for replicas, `threshold` each. Waiting ones alone would let a busy service without a queue
    go to zero; production-stack therefore keeps a second trigger on incoming requests, which here is the ones running.
    """

    name = "keda"
    period = PERIOD

    def __init__(self, known: Known, threshold: float = THRESHOLD) -> None:
        self._recommender = Recommender(known.minimum, known.maximum)
        self._zero = known.minimum == 0
        self._threshold = np.full(len(known.minimum), threshold)
        self._active_at = np.zeros(len(known.minimum))
        self._polled = -POLLING

    def desired(self, sight: Sight) -> IntArray:
        waiting = sight.waiting + sight.held
        if sight.at - self._polled >= POLLING - 1e-9:
            self._polled = sight.at
            active = (waiting > 1e-6) | (sight.running > 0.5) | (sight.arrived > 0)
            self._active_at = np.where(active, sight.at, self._active_at)
            woken = active & (sight.asked == 0)
        else:
            woken = np.zeros(len(waiting), dtype=bool)
        current = np.maximum(sight.asked, 1)
        wanted = self._recommender.next(sight.at, current, sight.ready, waiting, self._threshold)
        # at zero the HPA rests: KEDA alone brings the first replica, and takes the last one after the cooldown
        rests = self._zero & (sight.at - self._active_at >= COOLDOWN)
        asleep = (sight.asked == 0) & ~woken
        return np.asarray(np.where(asleep & self._zero, 0, np.where(rests, 0, wanted)))
