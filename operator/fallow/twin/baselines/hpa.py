"""Kubernetes' HorizontalPodAutoscaler, v2: a Pods or External metric with an AverageValue target.

Source: kubernetes/kubernetes v1.33, pkg/controller/podautoscaler/{horizontal,replica_calculator}.go and the API's
documented defaults: sync 15 s, tolerance 10 %, up by 4 pods or 100 % a period of 15 s whichever is more, down by 100 %
a period with a stabilisation window of 300 s.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray, Known, Sight

PERIOD = 15
TOLERANCE = 0.1
DOWN_WINDOW = 300.0
UP_PODS, UP_SHARE, UP_PERIOD = 4, 1.0, 15.0


class Recommender:
    """Everything of the HPA that comes after the metric: tolerance, unready pods, stabilisation, policies, limits."""

    def __init__(self, minimum: IntArray, maximum: IntArray) -> None:
        self._minimum, self._maximum = np.maximum(minimum, 1), maximum
        self._past: deque[tuple[float, IntArray]] = deque()
        self._asked: deque[tuple[float, IntArray]] = deque()

    def next(self, at: float, current: IntArray, ready: IntArray, total: Array, target: Array) -> IntArray:
        """`total`: the metric over the ready pods, `target`: wanted of each."""
        wanted = _by_metric(current, ready, total, target)
        while self._past and at - self._past[0][0] > DOWN_WINDOW:
            self._past.popleft()
        self._past.append((at, wanted))
        # the highest of the window: less is asked for only after all of it said so
        stable = np.max([one for _, one in self._past], axis=0)
        wanted = np.where(wanted < current, np.minimum(stable, current), wanted)
        while self._asked and at - self._asked[0][0] >= UP_PERIOD:
            self._asked.popleft()
        started = np.min([one for _, one in self._asked], axis=0) if self._asked else current
        most = np.maximum(started + UP_PODS, np.ceil(started * (1.0 + UP_SHARE))).astype(np.int64)
        wanted = np.minimum(wanted, np.maximum(most, current))
        self._asked.append((at, current))
        return np.asarray(np.clip(wanted, self._minimum, self._maximum))


def _by_metric(current: IntArray, ready: IntArray, total: Array, target: Array) -> IntArray:
    """Unready pods count as using nothing on the way up, so that one burst is not answered twice."""
    some = np.maximum(ready, 1)
    ratio = total / some / target
    rising = ratio > 1.0
    again = np.where(rising, total / np.maximum(current, 1) / target, ratio)
    # counted with the unready pods the answer may have turned: then nothing is changed
    turned = rising & (again < 1.0)
    count = np.where(rising, np.maximum(current, 1), some)
    wanted = np.ceil(again * count - 1e-9)
    hold = (np.abs(ratio - 1.0) <= TOLERANCE) | (np.abs(again - 1.0) <= TOLERANCE) | turned | (ready == 0)
    return np.asarray(np.where(hold, current, wanted).astype(np.int64))


class Hpa:
    """On running requests per pod: `share` of the concurrency that just meets the ITL objective."""

    name = "hpa"
    period = PERIOD

    def __init__(self, known: Known, share: float = 0.7) -> None:
        self._target = np.maximum(known.concurrency * share, 1.0)
        self._recommender = Recommender(known.minimum, known.maximum)

    def desired(self, sight: Sight) -> IntArray:
        current = np.maximum(sight.asked, 1)
        return self._recommender.next(sight.at, current, sight.ready, sight.running, self._target)
