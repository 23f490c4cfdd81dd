"""One service's front door: gives requests to the least busy ready engine, holds them while there is none."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence

from fallow.domain.workloads import ServiceKey
from fallow.twin.physics.requests import FinishReason, Request
from fallow.twin.simulated import SimulatedPod
from fallow.twin.traffic import Arrival


class Gateway:
    """Also the service's truth: what arrived, what was answered, and how long that took."""

    def __init__(self, key: ServiceKey) -> None:
        self.key = key
        self.arrivals: list[Arrival] = []
        self.done = 0
        self.failed = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        # Per answered request: time to first token, and mean time between tokens (negative: a single token).
        self.ttft = array("d")
        self.itl = array("d")
        self._held: deque[Request] = deque()

    @property
    def waiting(self) -> int:
        return len(self._held)

    def accept(self, request: Request, *, at: float) -> None:
        """`at` counts from the start of the twin, for the record of what arrived."""
        self.record(request, at=at)
        self._held.append(request)

    def record(self, request: Request, *, at: float) -> None:
        """A request that went straight to an engine."""
        self.arrivals.append(Arrival(at, request.prompt, request.output))

    def withdraw(self, request: Request) -> bool:
        """The client went away; False when the request is no longer held here."""
        if request not in self._held:
            return False
        self._held.remove(request)
        self.failed += 1
        return True

    def dispatch(self, pods: Sequence[SimulatedPod]) -> None:
        """`pods` in a fixed order; a request is never given away twice."""
        engines = [pod.engine for pod in pods if pod.serving and pod.engine is not None]
        if not engines:
            return
        load = [engine.in_flight for engine in engines]
        while self._held:
            request = self._held.popleft()
            choice = load.index(min(load))
            engines[choice].submit(request, request.created)
            load[choice] += 1

    def book(self, ended: Sequence[Request]) -> None:
        for request in ended:
            if request.reason is FinishReason.ABORT or request.first_token is None:
                self.failed += 1
                continue
            self.done += 1
            self.prompt_tokens += request.prompt
            self.generated_tokens += request.generated
            self.ttft.append(request.first_token - request.created)
            itl = request.mean_itl
            self.itl.append(-1.0 if itl is None else itl)

    def attainment(self, *, ttft: float | None, itl: float | None) -> float | None:
        """Share of ended requests within the objectives; a failed one is outside. None when none ended."""
        ended = self.done + self.failed
        if ended == 0:
            return None
        good = sum(
            1
            for first, between in zip(self.ttft, self.itl, strict=True)
            if (ttft is None or first <= ttft) and (itl is None or between <= itl)
        )
        return good / ended
