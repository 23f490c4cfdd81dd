"""The saturation rule of llm-d's Workload Variant Autoscaler: spare KV cache and spare queue, one replica at a time.

Source: llm-d/llm-d-workload-variant-autoscaler, internal/capacity/analyzer.go at b3ca6d2 (later internal/saturation),
config/samples/saturation-scaling-config.yaml at 957e147, docs/saturation-analyzer.md at 0032ba9 and
internal/engines/saturation/engine.go at 07078b0 (every 30 s). Its HPA follows at once. To zero is off by default.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fallow.twin.baselines.recent import Recent
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray, Known, Sight

# kvCacheThreshold, queueLengthThreshold: a replica is saturated there. kvSpareTrigger, queueSpareTrigger: see below.
KV_THRESHOLD, QUEUE_THRESHOLD = 0.80, 5.0
KV_SPARE, QUEUE_SPARE = 0.1, 3.0
# max_over_time[1m] of both gauges, in seconds.
PEAK_OVER = 60.0


class Saturation:
    """One more where mean spare is below a trigger, one fewer where the rest would still have both.

    Replicas that start keep the number as it is. The rule looks at each replica's peaks; here all are the mean one.
    """

    name = "wva"
    period = 30

    def __init__(self, known: Known) -> None:
        self._minimum, self._maximum = np.maximum(known.minimum, 1), known.maximum
        self._usage, self._queue = Recent(PEAK_OVER), Recent(PEAK_OVER)

    def desired(self, sight: Sight) -> IntArray:
        ready = np.maximum(sight.ready, 1)
        self._usage.add(sight.at, sight.kv_usage)
        self._queue.add(sight.at, sight.waiting / ready)
        usage, queue = self._usage.values(sight.at).max(axis=0), self._queue.values(sight.at).max(axis=0)
        short = ~_spare(usage, queue)
        # with one fewer the same work is on the others
        more = ready / np.maximum(ready - 1, 1)
        ample = (ready > 1) & _spare(usage * more, queue * more)
        settled = sight.asked == sight.ready
        step = np.where(settled, short.astype(np.int64) - (ample & ~short), 0)
        return np.asarray(np.clip(np.maximum(sight.asked, 1) + step, self._minimum, self._maximum))


def _spare(usage: Array, queue: Array) -> NDArray[np.bool_]:
    return (KV_THRESHOLD - usage >= KV_SPARE) & (QUEUE_THRESHOLD - queue >= QUEUE_SPARE)
