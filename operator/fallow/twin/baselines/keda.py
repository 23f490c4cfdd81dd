"""KEDA's ScaledObject on queue depth: an HPA on an external metric, and scale to and from zero beside it.

Source: kedacore/keda at 7f17c10, pkg/scaling/executor/scale_scaledobjects.go (RequestScale) with the defaults of the
ScaledObject (pollingInterval 30 s, cooldownPeriod 300 s, activationThreshold 0); triggers as in
vllm-project/production-stack at 183a136, docs/source/use_cases/autoscaling-keda.rst.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.baselines.gauges import SOMEBODY
from fallow.twin.baselines.hpa import PERIOD, Recommender, by_total
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray, Known, Sight

POLLING = 30.0
COOLDOWN = 300.0
# Waiting requests a replica, and the second trigger of that page: requests that came within a minute.
THRESHOLD = 5.0
KEEPALIVE = 60.0


class Keda:
    """Waiting requests ask for replicas, `threshold` each, those at the gateway among them.

    A queue alone lets a busy service without one go to zero after the cooldown, whatever runs; so production-stack adds
    `keepalive` where it scales to zero. With `running` those in work count as well.
    """

    name = "keda"
    period = PERIOD

    def __init__(
        self, known: Known, threshold: Array | float = THRESHOLD, *, keepalive: bool = True, running: bool = False
    ) -> None:
        self._recommender = Recommender(known.minimum, known.maximum)
        self._first = np.maximum(known.minimum, 1)
        self._zero = known.minimum == 0
        self._threshold, self._keepalive, self._running = threshold, keepalive, running
        # assumed: what is there when the run begins was active until then
        self._active_at = np.zeros(len(known.minimum))
        self._arrived_at = np.full(len(known.minimum), -np.inf)
        self._polled_at = -POLLING

    def desired(self, sight: Sight) -> IntArray:
        queue = sight.waiting + sight.held + (sight.running if self._running else 0.0)
        asleep = sight.asked == 0
        # the HPA rests at zero: from there KEDA alone brings the first replica
        current = np.maximum(sight.asked, 1)
        wanted = np.where(asleep, 0, by_total(current, queue, self._threshold))
        asked = np.where(asleep, 0, self._recommender.next(sight.at, current, wanted))
        self._arrived_at = np.where(sight.arrived > 0, sight.at, self._arrived_at)
        if sight.at - self._polled_at < POLLING:
            return asked
        self._polled_at = sight.at
        active = queue >= SOMEBODY
        if self._keepalive:
            active = active | (sight.at - self._arrived_at < KEEPALIVE)
        self._active_at = np.where(active, sight.at, self._active_at)
        rests = self._zero & (sight.at - self._active_at >= COOLDOWN)
        return np.where(rests, 0, np.where(asleep & (active | ~self._zero), self._first, asked))
