"""Engines that sleep by themselves, as an activator in front of them has it: after a while without a request, until the
next one, which waits outside meanwhile.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import ceil, inf

import numpy as np

from fallow.twin.simulation.demand import Array, Load
from fallow.twin.simulation.fleet import Fleet, Life, Pod

# Requests in flight are means: less than half of one is none.
NOBODY = 0.5


class Sleepers:
    """Puts the ready replicas of a service to sleep, all of them, and wakes them all, at whole seconds: they begin to
    wake in the one in which a request comes. Nothing to do without a rule.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        rules = [one.sleep for one in fleet.setup.services]
        self._any = any(rule is not None for rule in rules)
        self._after = np.array([inf if rule is None else rule.after for rule in rules])
        self._level = [0 if rule is None else rule.level for rule in rules]
        self._busy_at = np.zeros(len(rules))
        self._waking: list[tuple[float, int, Pod]] = []

    def settle(self, now: int, load: Load) -> None:
        """All that is due as the second begins in which the next requests of `load` come."""
        if not self._any:
            return
        fleet = self._fleet
        while self._waking and self._waking[0][0] <= now:
            fleet.awaken(heappop(self._waking)[2], float(now))
        called = (load.arrivals[:, now - load.start] > 0) | (fleet.engines.waiting > 0)
        for service in np.flatnonzero((fleet.asleep > 0) & called).tolist():
            for pod in self._pods(service, Life.SLEEPING):
                heappush(self._waking, (fleet.wake(pod, float(now)), pod.number, pod))
        for service in np.flatnonzero((self._due() <= now) & ~called).tolist():
            for pod in self._pods(service, Life.READY):
                fleet.sleep(pod, self._level[service], float(now))

    def next_at(self, now: int, load: Load) -> float:
        """The second after `now` at which something is due."""
        if not self._any:
            return inf
        times = [max(ceil(self._waking[0][0]), now + 1)] if self._waking else []
        due = self._due().min()
        if due < inf:
            times.append(max(ceil(due), now + 1))
        asleep = self._fleet.asleep > 0
        if asleep.any():
            called = np.flatnonzero(load.arrivals[asleep, now - load.start + 1 :].any(axis=0))
            times += [now + 1 + int(called[0])] if len(called) else []
        return min(times, default=inf)

    def watch(self, now: int, load: Load, in_flight: Array) -> None:
        """What a stretch up to `now` had in flight, a row a second."""
        if not self._any:
            return
        seconds = len(in_flight)
        end = now - load.start
        busy = (load.arrivals[:, end - seconds : end].T > 0) | (in_flight >= NOBODY)
        last = seconds - np.argmax(busy[::-1], axis=0)
        self._busy_at = np.where(busy.any(axis=0), now - seconds + last, self._busy_at)

    def _due(self) -> Array:
        """When the ready replicas of each service fall asleep: after a quiet in which none was started."""
        fleet = self._fleet
        ready = fleet.engines.by_service(fleet.engines.ready[: fleet.engines.pools])
        return np.where(ready > 0, np.maximum(self._busy_at, fleet.ready_since) + self._after, inf)

    def _pods(self, service: int, life: Life) -> list[Pod]:
        return [pod for (of, _), pods in self._fleet.pods.items() if of == service for pod in pods if pod.life is life]
