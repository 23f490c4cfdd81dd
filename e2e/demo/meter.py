"""What the simulated GPUs truly used, second by second: the ruler that Fallow's own figures are held against."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from e2e.harness.errors import HarnessError
from e2e.harness.process import wait_for
from e2e.harness.stack import Stack

PERIOD = 0.5
LIMIT = 15.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Joules since the twin began, of all GPUs and by service."""

    at: float
    cluster: float
    services: Mapping[str, float]


class Meter:
    """Reads the twin's counters in the background from `with` to its end."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._samples: list[Sample] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def __enter__(self) -> Self:
        self._samples.append(sample(self._stack.twin_state()))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(LIMIT)

    def wait_past(self, time: float, *, limit: float = LIMIT) -> None:
        """Until there is a sample at or after that time, so that it can be read in proportion."""
        wait_for(lambda: self._samples[-1].at >= time, "the meter's next sample", limit)

    def cluster_at(self, time: float) -> float:
        return self._at(time, lambda one: one.cluster)

    def service_at(self, service: str, time: float) -> float:
        return self._at(time, lambda one: one.services.get(service, 0.0))

    def _at(self, time: float, value: Callable[[Sample], float]) -> float:
        """Straight between two samples; the nearest one outside."""
        samples = list(self._samples)
        index = bisect_left(samples, time, key=lambda one: one.at)
        if index == 0:
            return value(samples[0])
        if index == len(samples):
            return value(samples[-1])
        before, after = samples[index - 1], samples[index]
        share = (time - before.at) / (after.at - before.at)
        return value(before) + share * (value(after) - value(before))

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD):
            # A twin that died is told by the story, which checks its programs.
            with suppress(HarnessError, OSError):
                new = sample(self._stack.twin_state())
                if new.at > self._samples[-1].at:
                    self._samples.append(new)


def sample(state: Mapping[str, Any]) -> Sample:
    services = {f"{one['namespace']}/{one['service']}": float(one["joules"]["total"]) for one in state["services"]}
    return Sample(float(state["now"]), float(state["cluster"]["joules"]), services)
