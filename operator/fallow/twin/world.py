"""The whole simulation: fleet, one gateway per service, and the traffic that enters. It moves by `advance` alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.fleet import Fleet
from fallow.twin.gateway import Gateway
from fallow.twin.physics.requests import Request
from fallow.twin.pods import NodeFacts, PodFacts
from fallow.twin.simulated import Energy, SimulatedPod
from fallow.twin.traffic import Traffic

# A late tick is lived through in slices, so that requests are still spread over engines by their present load.
SLICE_SECONDS = 0.25
# What a client of the twin's own asks, over and over: long answers, so that the engine's batch stays as large as meant.
CLIENT_PROMPT, CLIENT_OUTPUT = 200, 2000


@dataclass(slots=True)
class _Source:
    traffic: Traffic
    origin: float


class World:
    """Facts about nodes and pods take effect at the world's own time, which is that of the last `advance`.

    Requests find engines, and GPUs in turns are shared out, once in each slice of `slice_seconds`.
    """

    def __init__(self, *, started: float, sample_seconds: float = 1.0, slice_seconds: float = SLICE_SECONDS) -> None:
        self.started = started
        self.fleet = Fleet(now=started)
        self.gateways: dict[ServiceKey, Gateway] = {}
        self._sources: dict[ServiceKey, _Source] = {}
        self._sample_seconds = sample_seconds
        self._slice_seconds = slice_seconds
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
        self._book(self.fleet.put_node(node))

    def remove_node(self, name: str) -> None:
        self._book(self.fleet.remove_node(name))

    def put_pod(self, facts: PodFacts) -> None:
        if facts.service is not None:
            self.gateway(facts.service)
        self._book(self.fleet.put_pod(facts))

    def remove_pod(self, ref: PodRef) -> None:
        self._book(self.fleet.remove_pod(ref))

    def crash(self, ref: PodRef) -> None:
        self._book(self.fleet.crash(ref))

    def hang(self, ref: PodRef, *, hung: bool) -> None:
        pod = self.fleet.pods.get(ref)
        if pod is not None and pod.engine is not None:
            pod.engine.hung = hung

    def fail_gpu(self, uuid: str, xid: int) -> None:
        self._book(self.fleet.fail_gpu(uuid, xid))

    def lose_node(self, name: str, *, lost: bool) -> None:
        self._book(self.fleet.lose_node(name, lost=lost))

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
        while until - self.now > self._slice_seconds:
            self._step(self.now + self._slice_seconds)
        if until > self.now:
            self._step(until)

    def reset(self, what: str, who: str) -> int:
        """Energy counters start at zero: those of a `gpu` by UUID, of all GPUs of a `node`, or of its `host`."""
        if what == "host":
            host = self.fleet.hosts.get(who)
            if host is not None:
                host.reset()
            return int(host is not None)
        gpus = self.fleet.gpus_of(who) if what == "node" else [gpu for gpu in self.fleet.gpus() if gpu.uuid == who]
        for gpu in gpus:
            gpu.reset_counter()
        return len(gpus)

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
        self._receive(until)
        pods = self._pods_by_service()
        for key, gateway in self.gateways.items():
            if gateway.waiting:
                gateway.dispatch(pods[key])
        for pod in self.fleet.pods.values():
            self._ask_again(pod)
        self.fleet.advance(until)
        for pod in self.fleet.pods.values():
            if pod.engine is not None:
                self._book(pod.engine.take_finished())
        if until >= self._next_sample:
            self.fleet.take_samples()
            while self._next_sample <= until:
                self._next_sample += self._sample_seconds

    def _receive(self, until: float) -> None:
        for key, source in self._sources.items():
            gateway = self.gateways[key]
            for arrival in source.traffic.until(until - source.origin):
                created = source.origin + arrival.at
                request = Request(created, arrival.prompt, arrival.output, service=key)
                gateway.accept(request, at=created - self.started)

    def _ask_again(self, pod: SimulatedPod) -> None:
        """Each of the pod's own clients asks again when its last answer is complete; nobody counts these requests."""
        engine, facts = pod.engine, pod.facts.engine
        if engine is None or facts is None or not pod.serving:
            return
        for _ in range(facts.clients - engine.in_flight):
            engine.submit(Request(self.now, CLIENT_PROMPT, CLIENT_OUTPUT), self.now)

    def _pods_by_service(self) -> defaultdict[ServiceKey, list[SimulatedPod]]:
        pods: defaultdict[ServiceKey, list[SimulatedPod]] = defaultdict(list)
        for pod in self.fleet.pods.values():
            if pod.facts.service is not None:
                pods[pod.facts.service].append(pod)
        return pods

    def _book(self, ended: list[Request]) -> None:
        for request in ended:
            if request.service is not None:
                self.gateway(request.service).book([request])
