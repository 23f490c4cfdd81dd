"""Kubernetes' HorizontalPodAutoscaler, v2, on a Pods or an External metric with an AverageValue target.

Source: kubernetes/kubernetes v1.33, pkg/controller/podautoscaler/{replica_calculator,horizontal}.go:
calcPlainMetricReplicas, GetExternalPerPodMetricReplicas, stabilizeRecommendationWithBehaviors and
convertDesiredReplicasWithBehaviorRate, with the documented defaults of the flags and of spec.behavior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fallow.twin.baselines.gauges import ROUNDING
from fallow.twin.baselines.recent import Recent
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray, Known, Sight

# --horizontal-pod-autoscaler-sync-period, in seconds, and --horizontal-pod-autoscaler-tolerance.
PERIOD = 15
TOLERANCE = 0.1
# Of the concurrency that meets the ITL objective; 70 % as Knative's target utilisation. A choice: the HPA has none.
SHARE = 0.7
# More replicas than anybody has.
MANY = 2**31


@dataclass(frozen=True, slots=True)
class Behaviour:
    """spec.behavior: windows of stabilisation and periods of policies, in seconds.

    In a period so many pods may come or go, or such a share of those at its start, whichever is more.
    """

    up_window: float = 0.0
    up_period: float = 15.0
    up_pods: int = 4
    up_share: float = 1.0
    down_window: float = 300.0
    down_period: float = 15.0
    down_pods: int = 0
    down_share: float = 1.0


class Recommender:
    """What the HPA does once the metric has spoken: stabilisation, policies and limits; never below one replica."""

    def __init__(self, minimum: IntArray, maximum: IntArray, behaviour: Behaviour | None = None) -> None:
        self._minimum, self._maximum = np.maximum(minimum, 1), maximum
        self._behaviour = behaviour or Behaviour()
        self._low, self._high = Recent(self._behaviour.up_window), Recent(self._behaviour.down_window)
        self._came, self._went = Recent(self._behaviour.up_period), Recent(self._behaviour.down_period)
        self._began = False

    def next(self, at: float, current: IntArray, wanted: IntArray) -> IntArray:
        """`wanted`: replicas by the metric alone. To be asked at each sync."""
        if not self._began:
            self._low.add(at, current)
            self._high.add(at, current)
            self._began = True
        # up to the lowest of the one window, down to the highest of the other
        low = np.minimum(wanted, self._low.values(at).min(axis=0, initial=MANY))
        high = np.maximum(wanted, self._high.values(at).max(axis=0, initial=0))
        self._low.add(at, wanted)
        self._high.add(at, wanted)
        stable = np.minimum(np.maximum(current, low), high)
        paced = self._paced(at, current, stable)
        asked = np.asarray(np.minimum(np.maximum(paced, self._minimum), self._maximum))
        self._came.add(at, np.maximum(asked - current, 0))
        self._went.add(at, np.maximum(current - asked, 0))
        return asked

    def _paced(self, at: float, current: IntArray, wanted: IntArray) -> IntArray:
        pace = self._behaviour
        before = current - self._came.values(at).sum(axis=0)
        most = np.maximum(before + pace.up_pods, np.ceil(before * (1.0 + pace.up_share)))
        before = current + self._went.values(at).sum(axis=0)
        least = np.minimum(before - pace.down_pods, np.floor(before * (1.0 - pace.down_share)))
        paced = np.minimum(np.maximum(wanted, np.minimum(least, current)), np.maximum(most, current))
        return np.asarray(paced.astype(np.int64))


def by_pods(current: IntArray, ready: IntArray, total: Array, target: Array) -> IntArray:
    """Replicas by a Pods metric that sums up to `total` over the `ready` ones; `target`: wanted of each.

    A pod without a metric counts as using nothing on the way up and just the target on the way down. Pods that are
    still pulled differ from those that load on the way down only; as the two are not told apart, all count as loading.
    """
    there = np.maximum(ready, 1)
    missing = np.maximum(current - there, 0)
    ratio = total / (there * target)
    used = total + np.where(ratio <= 1.0, missing * target, 0.0)
    again = used / ((there + missing) * target)
    turned = (ratio - 1.0) * (again - 1.0) < 0.0
    hold = (np.abs(again - 1.0) <= TOLERANCE) | turned | (ready == 0)
    return np.asarray(np.where(hold, current, np.ceil(used / target - ROUNDING)).astype(np.int64))


def by_total(current: IntArray, total: Array, target: Array | float) -> IntArray:
    """Replicas by an External metric, `target` of it each. Whether pods are ready is not looked at."""
    hold = np.abs(total / (np.maximum(current, 1) * target) - 1.0) <= TOLERANCE
    return np.asarray(np.where(hold, current, np.ceil(total / target - ROUNDING)).astype(np.int64))


class Hpa:
    """On running requests per pod: `share` of the concurrency that just meets the ITL objective."""

    name = "hpa"
    period = PERIOD

    def __init__(self, known: Known, share: Array | float = SHARE) -> None:
        self._target = known.concurrency * share
        self._recommender = Recommender(known.minimum, known.maximum)

    def desired(self, sight: Sight) -> IntArray:
        current = np.maximum(sight.asked, 1)
        return self._recommender.next(sight.at, current, by_pods(current, sight.ready, sight.running, self._target))
