"""Knative's pod autoscaler (KPA) on concurrency: a stable and a panic window.

Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go and config-autoscaler's defaults: target utilisation 70 %,
stable window 60 s, panic window 10 % of it, panic threshold 200 %, rates of 1000 up and 2 down, scale to zero after a
grace of 30 s; it ticks every 2 s.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray, Known, Sight

STABLE, PANIC = 60, 6
THRESHOLD = 2.0
UP, DOWN = 1000.0, 2.0
GRACE = 30.0
UTILISATION = 0.7


class Knative:
    """Held requests count, as the activator reports them. Panic lasts until a stable window after its last cause."""

    name = "kpa"
    period = 2

    def __init__(self, known: Known, utilisation: float = UTILISATION) -> None:
        self._known = known
        services = len(known.minimum)
        self._target = np.maximum(known.concurrency * utilisation, 1.0)
        self._seen = np.zeros((STABLE, services))
        self._count = 0
        self._panicked_at = np.full(services, -np.inf)
        self._most = np.zeros(services, dtype=np.int64)
        self._idle_since = np.full(services, np.inf)

    def desired(self, sight: Sight) -> IntArray:
        for row in sight.in_flight[-STABLE:]:
            self._seen[self._count % STABLE] = row
            self._count += 1
        stable, panic = self._mean(STABLE), self._mean(PANIC)
        ready = np.maximum(sight.ready, 1)
        up, down = np.ceil(UP * ready), np.floor(ready / DOWN)
        wanted = np.clip(np.ceil(stable / self._target - 1e-9), down, up).astype(np.int64)
        soon = np.clip(np.ceil(panic / self._target - 1e-9), down, up).astype(np.int64)
        causes = (soon / ready >= THRESHOLD) & (sight.ready > 0)
        self._panicked_at = np.where(causes, sight.at, self._panicked_at)
        panics = sight.at - self._panicked_at <= STABLE
        # in panic nothing is taken away
        self._most = np.where(panics, np.maximum(self._most, soon), 0)
        wanted = np.where(panics, np.maximum(np.maximum(self._most, wanted), np.minimum(ready, self._most)), wanted)
        # without requests in the whole stable window the last replica stays for the grace period
        idle = (stable <= 1e-3) & (sight.held <= 0)
        self._idle_since = np.where(idle, np.minimum(self._idle_since, sight.at), np.inf)
        zero = (self._known.minimum == 0) & (sight.at - self._idle_since >= GRACE)
        wanted = np.where(zero, 0, np.maximum(wanted, np.where((sight.asked > 0) | (stable > 1e-3), 1, 0)))
        return np.asarray(np.clip(wanted, self._known.minimum, self._known.maximum))

    def _mean(self, window: int) -> Array:
        """Of the last seconds, as many as there were."""
        kept = min(self._count, window)
        if kept == 0:
            return np.zeros(self._seen.shape[1])
        at = np.arange(self._count - kept, self._count) % STABLE
        return np.asarray(self._seen[at].mean(axis=0))
