"""The saturation rule of llm-d's Workload Variant Autoscaler: spare KV cache and spare queue, one replica at a time.

Source: llm-d-workload-variant-autoscaler v0.7, deploy/configmap-saturation-scaling.yaml and its percentage-based
analyser: a replica is saturated at 80 % of its cache or 5 waiting; more are asked for while the mean spare is below
10 % or 3, one fewer where the rest would still have that spare. The controller's period is 60 s.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.simulation.sight import IntArray, Known, Sight

KV_THRESHOLD, QUEUE_THRESHOLD = 0.80, 5.0
KV_SPARE, QUEUE_SPARE = 0.1, 3.0
# Scale to zero is off by default; where it is on, after 10 minutes without a request.
RETENTION = 600.0


class Saturation:
    """Replicas that still start count, and keep more from being asked for."""

    name = "wva"
    period = 60

    def __init__(self, known: Known, *, to_zero: bool = False) -> None:
        self._known = known
        self._to_zero = (known.minimum == 0) & to_zero
        self._seen_at = np.zeros(len(known.minimum))

    def desired(self, sight: Sight) -> IntArray:
        ready = np.maximum(sight.ready, 1)
        usage, queue = sight.kv_usage, sight.waiting / ready
        spare_cache, spare_queue = KV_THRESHOLD - usage, QUEUE_THRESHOLD - queue
        starting = sight.asked > sight.ready
        short = (spare_cache < KV_SPARE) | (spare_queue < QUEUE_SPARE)
        # with one fewer the same work is on the others
        fewer = np.maximum(ready - 1, 1)
        enough = (KV_THRESHOLD - usage * ready / fewer >= KV_SPARE) & (
            QUEUE_THRESHOLD - sight.waiting / fewer >= QUEUE_SPARE
        )
        asked = np.maximum(sight.asked, 1)
        step = np.where(short & ~starting, 1, np.where(enough & ~starting & (ready > 1), -1, 0))
        self._seen_at = np.where((sight.arrived > 0) | (sight.held > 0), sight.at, self._seen_at)
        wanted = np.clip(asked + step, np.maximum(self._known.minimum, 1), self._known.maximum)
        rests = self._to_zero & (sight.at - self._seen_at >= RETENTION)
        return np.asarray(np.where(rests, 0, wanted))
