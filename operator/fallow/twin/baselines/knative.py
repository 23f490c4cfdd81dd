"""Knative's pod autoscaler (KPA) on concurrency, with a stable and a panic window, to zero.

Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go at 00a4a55 (Scale), pkg/reconciler/autoscaling/kpa/
scaler.go at 00f85ba (handleScaleToZero), defaults of pkg/autoscaler/config/config.go at 01e2d38; it ticks every 2 s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fallow.twin.baselines.gauges import ROUNDING, SOMEBODY
from fallow.twin.simulation.sight import IntArray, Known, Sight

# Seconds: stable-window, panic-window-percentage 10 of it, scale-to-zero-grace-period.
STABLE, PANIC, GRACE = 60, 6, 30
# panic-threshold-percentage 200, max-scale-up-rate, max-scale-down-rate, container-concurrency-target-percentage 70.
THRESHOLD = 2.0
UP, DOWN = 1000, 2
UTILISATION = 0.7
# autoscaling.TargetMin
LEAST_TARGET = 0.01


class Knative:
    """Requests held by the activator count. In panic nothing is taken away, until a window after its last cause."""

    name = "kpa"
    period = 2

    def __init__(self, known: Known, utilisation: float = UTILISATION) -> None:
        services = len(known.minimum)
        self._minimum, self._maximum = known.minimum, known.maximum
        self._target = np.maximum(known.concurrency * utilisation, LEAST_TARGET)
        # the seconds of the stable window, the newest one last
        self._seen = np.zeros((0, services))
        self._panicked_at = np.full(services, -np.inf)
        self._most = np.zeros(services, dtype=np.int64)
        self._busy_at = np.zeros(services)

    def desired(self, sight: Sight) -> IntArray:
        if len(self._seen) == 0:
            # it begins in panic where there is more than one replica, so as to keep them until it knows enough
            self._panicked_at = np.where(sight.ready > 1, sight.at, -np.inf)
            self._most = sight.ready
        self._seen = np.concatenate((self._seen, sight.in_flight))[-STABLE:]
        busy = (sight.arrived > 0) | (sight.in_flight >= SOMEBODY).any(axis=0)
        self._busy_at = np.where(busy, sight.at, self._busy_at)
        quiet = sight.at - self._busy_at
        wanted = self._scaled(sight, quiet < STABLE) if len(self._seen) else sight.asked
        wanted = np.minimum(np.maximum(wanted, self._minimum), self._maximum)
        # at zero the activator takes over first, for a grace; the last replica stays that long
        kept = np.where(quiet >= STABLE + GRACE, 0, np.minimum(sight.asked, 1))
        return np.asarray(np.where(wanted == 0, kept, wanted))

    def _scaled(self, sight: Sight, some: NDArray[np.bool_]) -> IntArray:
        """The pod count of autoscaler.go; no requests but where there were `some`."""
        ready = np.maximum(sight.ready, 1)
        stable = np.ceil(some * self._seen.mean(axis=0) / self._target - ROUNDING)
        panic = np.ceil(some * self._seen[-PANIC:].mean(axis=0) / self._target - ROUNDING)
        self._panicked_at = np.where(panic >= THRESHOLD * ready, sight.at, self._panicked_at)
        panics = sight.at - self._panicked_at <= STABLE
        wanted = np.where(panics, np.maximum(stable, panic), stable)
        wanted = np.minimum(np.maximum(wanted, ready // DOWN), UP * ready).astype(np.int64)
        self._most = np.where(panics, np.maximum(self._most, wanted), 0)
        return np.asarray(np.where(panics, self._most, wanted))
