"""llm-d's law on objectives: replicas follow the P90 of latency over its objective, through a KEDA formula and an HPA.

Source: llm-d/llm-d at a4d856f, docs/architecture/advanced/autoscaling/slo-aware-keda.md, and at c397e67,
guides/workload-autoscaling/slo-aware/{prometheus-rule,scaledobject}.yaml. Its fallback on measured latencies is taken,
as no predictor is modelled; the guide's 3 to 8 replicas are those of its example.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.baselines.gauges import ROUNDING
from fallow.twin.baselines.hpa import PERIOD, Behaviour, Recommender, by_total
from fallow.twin.baselines.recent import Recent
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import LATENCY_BOUNDS, IntArray, Known, Sight

# Shares of the objective: more are asked for above the first, fewer below the second.
UP, DOWN = 0.55, 0.40
QUANTILE = 0.9
# Seconds: rate()[1m] of the histograms, avg_over_time()[45s] of the signal; clamp_max() of each of its samples.
RATE_OVER, MEAN_OVER = 60.0, 45.0
CAP = 2.0
BEHAVIOUR = Behaviour(
    up_window=30.0, up_period=60.0, down_window=180.0, down_period=120.0, down_pods=1, down_share=0.0
)  # fmt: skip


class SloLaw:
    """A pool without traffic reads zero. While replicas start, the signal of those that serve is discounted.

    A quantile is no finer than its bucket: with all requests between 5 and 10 ms a token it is 9.5 ms, of 25 ms that is
    .38, and few replicas are ever taken away. The router's own bounds (5, 10, 20, 40 ms) do the same.
    """

    name = "llm-d"
    period = PERIOD

    def __init__(self, known: Known) -> None:
        self._objectives = np.stack((known.ttft, known.itl))
        self._recommender = Recommender(known.minimum, known.maximum, BEHAVIOUR)
        self._counts, self._signal = Recent(RATE_OVER), Recent(MEAN_OVER)

    def desired(self, sight: Sight) -> IntArray:
        self._counts.add(sight.at, np.concatenate((sight.ttft, sight.itl)))
        p90 = quantile(self._counts.values(sight.at).sum(axis=0), QUANTILE).reshape(self._objectives.shape)
        self._signal.add(sight.at, np.minimum((p90 / self._objectives).max(axis=0), CAP))
        current = np.maximum(sight.asked, 1)
        wanted = law(self._signal.values(sight.at).mean(axis=0), current, sight.ready)
        return self._recommender.next(sight.at, current, by_total(current, wanted, 1.0))


def law(signal: Array, replicas: IntArray, ready: IntArray) -> Array:
    """Replicas by the mean `signal`, of which `ready` ones are discounted for those that start on the way up only."""
    credit = np.where((ready > 0) & (ready < replicas), ready / replicas, 1.0)
    more = replicas + np.ceil(replicas * (signal * credit / UP - 1.0) - ROUNDING)
    fewer = replicas - np.floor(replicas * (1.0 - signal / DOWN) + ROUNDING)
    return np.asarray(np.where(signal > UP, more, np.where(signal < DOWN, fewer, replicas)))


def quantile(counts: Array, share: float) -> Array:
    """As Prometheus' histogram_quantile: linear within a bucket, the highest finite bound beyond; 0 without counts.

    `counts`: a column for each of LATENCY_BOUNDS.
    """
    rows = np.arange(len(counts))
    upto = counts.cumsum(axis=1)
    rank = share * upto[:, -1]
    bucket = np.minimum((upto < rank[:, None]).sum(axis=1), len(LATENCY_BOUNDS) - 1)
    low = np.append(0.0, LATENCY_BOUNDS)[bucket]
    inside = counts[rows, bucket]
    into = (rank - upto[rows, bucket] + inside) / np.where(inside > 0, inside, 1.0)
    last = LATENCY_BOUNDS[-2]
    value = low + np.clip(into, 0.0, 1.0) * (np.minimum(LATENCY_BOUNDS[bucket], last) - low)
    return np.asarray(np.where(rank > 0, value, 0.0))
