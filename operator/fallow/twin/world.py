"""The whole simulation: fleet, one gateway per service, and the traffic that enters. It moves by `advance` alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.fleet import Energy, Fleet, SimulatedPod
from fallow.twin.gateway import Gateway
from fallow.twin.physics.requests import Request
from fallow.twin.pods import NodeFacts, PodFacts
from fallow.twin.traffic import Traffic

# A late tick is lived through in slices, so that requests are still spread over engines by their present load.
SLICE_SECONDS = 0.25


@dataclass(slots=True)
class _Source:
    traffic: Traffic
    origin: float


class World:
    """Facts about nodes and pods take effect at the world's own time, which is that of the last `advance`."""

    def __init__(self, *, started: float, sample_seconds: float = 1.0) -> None:
        self.started = started
        self.fleet = Fleet(now=started)
        self.gateways: dict[ServiceKey, Gateway] = {}
        self._sources: dict[ServiceKey, _Source] = {}
        self._sample_seconds = sample_seconds
        self._next_sample = started + sample_seconds

    @property
    def now(self) -> float:
        return self.fleet.now

    def gateway(self, key: ServiceKey) -> Gateway:
        if key not in self.gateways:
            self.gateways[key] = Gateway(key)
        return self.gateways[key]

    def set_traffic(self, key: ServiceKey, traffic: Traffic, *, origin: float | None = None) -> None:
        """From `origin` on (default: now) this is the service's traffic, instead of what it had."""
        self.gateway(key)
        self._sources[key] = _Source(traffic, self.now if origin is None else origin)

    def stop_traffic(self, key: ServiceKey) -> None:
        self._sources.pop(key, None)

    def put_node(self, node: NodeFacts) -> None:
        self._book_lost(self.fleet.put_node(node))

    def remove_node(self, name: str) -> None:
        self._book_lost(self.fleet.remove_node(name))

    def put_pod(self, facts: PodFacts) -> None:
        if facts.service is not None:
            self.gateway(facts.service)
        self._book_lost(self.fleet.put_pod(facts))

    def remove_pod(self, ref: PodRef) -> None:
        self._book_lost(self.fleet.remove_pod(ref))

    def ask_service(self, key: ServiceKey, request: Request) -> None:
        """A request from outside, through the service's gateway."""
        request.service = key
        self.gateway(key).accept(request, at=request.created - self.started)

    def ask_pod(self, pod: SimulatedPod, request: Request) -> None:
        """A request from outside, straight to one engine."""
        if pod.engine is None:
            raise ValueError(f"{pod.facts.ref} has no engine yet")
        request.service = pod.facts.service
        pod.engine.submit(request, request.created)
        if pod.facts.service is not None:
            self.gateway(pod.facts.service).record(request, at=request.created - self.started)

    def abort(self, request: Request) -> None:
        """The client of a request from outside went away."""
        if request.service is not None and self.gateway(request.service).withdraw(request):
            return
        for pod in self.fleet.pods.values():
            if pod.engine is not None and pod.engine.holds(request):
                pod.engine.abort(request)
                return

    def generated(self, request: Request) -> int:
        """Tokens that a request has so far; 0 while it waits anywhere."""
        for pod in self.fleet.pods.values():
            if pod.engine is not None and pod.engine.holds(request):
                return pod.engine.generated(request)
        return request.generated

    def advance(self, until: float) -> None:
        while until - self.now > SLICE_SECONDS:
            self._step(self.now + SLICE_SECONDS)
        if until > self.now:
            self._step(until)

    def energy(self, key: ServiceKey | None) -> Energy:
        """Of the GPUs that this service's pods hold and held; None is for pods of no service."""
        total = Energy()
        if key in self.fleet.retired:
            total.add(self.fleet.retired[key])
        for pod in self.fleet.pods.values():
            if pod.facts.service == key:
                total.add(pod.energy)
        return total

    def _step(self, until: float) -> None:
        for key, source in self._sources.items():
            gateway = self.gateways[key]
            for arrival in source.traffic.until(until - source.origin):
                created = source.origin + arrival.at
                request = Request(created, arrival.prompt, arrival.output, service=key)
                gateway.accept(request, at=created - self.started)
        pods = self._pods_by_service()
        for key, gateway in self.gateways.items():
            if gateway.waiting:
                gateway.dispatch(pods[key])
        self.fleet.advance(until)
        for key, own in pods.items():
            for pod in own:
                if pod.engine is not None:
                    self.gateways[key].book(pod.engine.take_finished())
        if until >= self._next_sample:
            self.fleet.take_samples()
            while self._next_sample <= until:
                self._next_sample += self._sample_seconds

    def _pods_by_service(self) -> defaultdict[ServiceKey, list[SimulatedPod]]:
        pods: defaultdict[ServiceKey, list[SimulatedPod]] = defaultdict(list)
        for pod in self.fleet.pods.values():
            if pod.facts.service is not None:
                pods[pod.facts.service].append(pod)
        return pods

    def _book_lost(self, lost: list[Request]) -> None:
        for request in lost:
            if request.service is not None:
                self.gateway(request.service).book([request])
