"""Nodes, GPUs and pods over time: who holds which GPU or part of one, what each draws, and the engines inside."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.gpu import BARE_BYTES, CONTEXT_BYTES, FATAL_XIDS, XID_MESSAGES, GpuDevice, Place, Work
from fallow.twin.host import Host
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import GPUS
from fallow.twin.physics.engine import Engine
from fallow.twin.physics.laws import DoesNotFit, Law
from fallow.twin.physics.loading import load_seconds
from fallow.twin.physics.requests import Request
from fallow.twin.pods import EngineFacts, NodeFacts, PodFacts, PodPhase
from fallow.twin.simulated import Energy, PodAccount, SimulatedPod

# Accounts of pods that are gone; a demo that runs for weeks must not grow without end.
KEPT_ACCOUNTS = 10_000


class Fleet:
    """Changed by facts about nodes and pods, moved by `advance`. Facts take effect at the fleet's own time."""

    def __init__(self, *, now: float) -> None:
        self.now = now
        self.nodes: dict[str, NodeFacts] = {}
        self.pods: dict[PodRef, SimulatedPod] = {}
        self.hosts: dict[str, Host] = {}
        self.retired: dict[ServiceKey | None, Energy] = {}
        self.gone: deque[PodAccount] = deque(maxlen=KEPT_ACCOUNTS)
        self.gone_joules = 0.0
        self.gone_host_joules = 0.0
        self._at: dict[str, PodRef] = {}
        self._gpus: dict[str, list[GpuDevice]] = {}
        self._seen_nodes: set[str] = set()

    def gpus(self) -> Iterator[GpuDevice]:
        for devices in self._gpus.values():
            yield from devices

    def gpus_of(self, node: str) -> list[GpuDevice]:
        return self._gpus.get(node, [])

    def pod_at(self, address: str) -> SimulatedPod | None:
        ref = self._at.get(address)
        return None if ref is None else self.pods.get(ref)

    def watts(self) -> float:
        """Of every GPU in the cluster, at this moment."""
        held = sum(pod.watts(self.now) for pod in self.pods.values())
        return held + sum(gpu.unheld_watts for gpu in self.gpus())

    def put_node(self, node: NodeFacts) -> list[Request]:
        """Another uid or other GPUs make it a new node: its counters and its pods' engines begin again.

        Gives the requests that died with them.
        """
        known = self.nodes.get(node.name)
        self.nodes[node.name] = node
        if known is not None and known.hardware == node.hardware:
            return []
        lost: list[Request] = []
        here = [pod.facts for pod in self.pods.values() if pod.facts.node == node.name]
        for facts in here:
            lost.extend(self.remove_pod(facts.ref))
        again = node.name in self._seen_nodes
        self._seen_nodes.add(node.name)
        self._retire_hardware(node.name)
        self.hosts[node.name] = Host(node.name, fresh=again)
        self._gpus[node.name] = [
            GpuDevice(GPUS[node.gpu], node.name, index, now=self.now, division=node.division, fresh=again)
            for index in range(node.gpus)
        ]
        for facts in here:
            self.put_pod(facts)
        self._place()
        return lost

    def remove_node(self, name: str) -> list[Request]:
        """Gives the requests that died with the node's pods."""
        self.nodes.pop(name, None)
        self._retire_hardware(name)
        lost: list[Request] = []
        for pod in [pod for pod in self.pods.values() if pod.facts.node == name]:
            lost.extend(self.remove_pod(pod.facts.ref))
        return lost

    def put_pod(self, facts: PodFacts) -> list[Request]:
        """Gives the requests that died, where this is another pod under a known name."""
        pod = self.pods.get(facts.ref)
        lost: list[Request] = []
        if pod is not None and pod.facts.uid != facts.uid:
            lost = self.remove_pod(facts.ref)
            pod = None
        if pod is None:
            pod = self.pods[facts.ref] = SimulatedPod(facts, created=self.now)
        pod.facts = facts
        if facts.address:
            self._at[facts.address] = facts.ref
        self._place()
        if facts.phase is PodPhase.READY and pod.engine is None:
            self._start_engine(pod)
        self._mark(pod)
        return lost

    def remove_pod(self, ref: PodRef) -> list[Request]:
        """Frees its GPUs, keeps its energy under its service, and gives the requests that died with it."""
        pod = self.pods.pop(ref, None)
        if pod is None:
            return []
        facts = pod.facts
        if self._at.get(facts.address) == ref:
            del self._at[facts.address]
        self.retired.setdefault(facts.service, Energy()).add(pod.energy)
        for place in pod.places:
            place.release()
        self.gone.append(pod.account())
        lost = pod.end_engine()
        self._place()
        return lost

    def crash(self, ref: PodRef) -> list[Request]:
        """The engine dies and its container starts again; gives the requests that died."""
        pod = self.pods.get(ref)
        return [] if pod is None else self._stop(pod, "")

    def fail_gpu(self, uuid: str, xid: int) -> list[Request]:
        """Engines on it die; after a fatal XID they come back when it is reset (0). Gives the requests that died."""
        lost: list[Request] = []
        why = f"XID {xid}: {XID_MESSAGES[xid]}" if xid in FATAL_XIDS else ""
        for gpu in [gpu for gpu in self.gpus() if gpu.uuid == uuid]:
            forgotten = xid == 0 and gpu.usable
            gpu.xid = xid
            for ref in () if forgotten else gpu.holders:
                lost.extend(self._stop(self.pods[ref], why))
        return lost

    def lose_node(self, name: str, *, lost: bool) -> list[Request]:
        """It loses its power, or comes back with counters at zero; gives the requests that died."""
        gpus, host = self.gpus_of(name), self.hosts[name]
        host.dark = lost
        for gpu in gpus:
            gpu.dark = lost
            if not lost:
                gpu.xid = 0
                gpu.reset_counter()
        if not lost:
            host.reset()
        pods = [pod for pod in self.pods.values() if pod.facts.node == name]
        return [request for pod in pods for request in self._stop(pod, f"node {name} is lost" if lost else "")]

    def _stop(self, pod: SimulatedPod, why: str) -> list[Request]:
        """Its engine dies; without a reason to stay away the container starts again and loads."""
        ran = pod.engine is not None or pod.loaded_at is not None or pod.stopped
        pod.loaded_at, pod.stopped = None, ran and bool(why)
        pod.fault = why or pod.fault
        lost = pod.end_engine()
        if ran and not why and pod.facts.engine is not None:
            pod.fault = ""
            seconds = pod.facts.load_seconds
            if seconds is None:
                seconds = load_seconds(self._law(pod, pod.facts.engine).weights, compiled=True)
            pod.loaded_at = self.now + seconds
        return lost

    def advance(self, until: float) -> None:
        seconds = until - self.now
        if seconds <= 0:
            return
        for pod in self.pods.values():
            if pod.loaded_at is not None and pod.loaded_at <= self.now and pod.facts.phase is PodPhase.READY:
                self._start_engine(pod)
        busy = {node: sum(gpu.busy_seconds for gpu in gpus) for node, gpus in self._gpus.items()}
        for gpu in self.gpus():
            if gpu.in_turns:
                gpu.crowd = self._crowd(gpu)
        for pod in self.pods.values():
            pod.advance(until, seconds)
        for gpu in self.gpus():
            gpu.book(Work(gpu.unheld_watts * seconds))
        for node, host in self.hosts.items():
            worked = sum(gpu.busy_seconds for gpu in self._gpus[node]) - busy[node]
            loading = sum(len(pod.places) for pod in self.pods.values() if pod.loading and pod.facts.node == node)
            host.advance(seconds, busy=worked / seconds, loading=loading)
        self.now = until

    def take_samples(self) -> None:
        for gpu in self.gpus():
            gpu.take_sample(self.now)

    def _crowd(self, gpu: GpuDevice) -> float:
        return max(sum(self.pods[holder].demand(self.now) for holder in gpu.holders), 1.0)

    def _retire_hardware(self, name: str) -> None:
        self.gone_joules += sum(gpu.joules for gpu in self._gpus.pop(name, []))
        host = self.hosts.pop(name, None)
        self.gone_host_joules += 0.0 if host is None else host.joules

    def _place(self) -> None:
        """A pod that finds too few places of its kind waits for the next change."""
        for pod in self.pods.values():
            facts = pod.facts
            if pod.places or facts.gpus == 0:
                continue
            free = self._free(facts.node, facts.resource)
            if len(free) < facts.gpus:
                continue
            pod.places = free[: facts.gpus]
            for place in pod.places:
                place.hold(facts.ref, facts.container)
            self._mark(pod)
            if facts.phase is PodPhase.READY and pod.engine is None:
                self._start_engine(pod)

    def _free(self, node: str, resource: str) -> list[Place]:
        """The first free ones; copies in turns from GPU to GPU, as the device plugin spreads them."""
        free = [
            place
            for gpu in self.gpus_of(node)
            for place in gpu.places
            if place.holder is None and place.resource == resource
        ]
        busy = {gpu: sum(place.holder is not None for place in gpu.places) for gpu in self.gpus_of(node)}
        turns: list[tuple[int, Place]] = []
        for place in free:
            turns.append((busy[place.gpu] if place.gpu.in_turns else 0, place))
            busy[place.gpu] += 1
        return [place for _, place in sorted(turns, key=lambda turn: turn[0])]

    def _start_engine(self, pod: SimulatedPod) -> None:
        facts = pod.facts.engine
        loads = pod.loaded_at is not None and self.now < pod.loaded_at
        if facts is None or pod.facts.node not in self.nodes or not pod.places or loads:
            return
        first = pod.places[0]
        try:
            law = self._law(pod, facts)
        except DoesNotFit as error:
            pod.fault = str(error)
            return
        pod.loaded_at = None
        if not all(gpu.usable for gpu in pod.gpus):
            pod.fault, pod.stopped = "its GPUs are of no use", True
            return
        floor = first.spec.context if first.gpu.in_turns else 0.0
        # whoever else is on a GPU holds its clocks up
        throttles = facts.throttles and all(len(gpu.places) == 1 for gpu in pod.gpus)
        pod.engine = Engine(law, facts.limits, now=self.now, floor_watts=floor, throttles=throttles)
        pod.ready_at = self.now
        self._mark(pod)

    def _law(self, pod: SimulatedPod, facts: EngineFacts) -> Law:
        gpu, part = self.nodes[pod.facts.node].gpu, pod.places[0].profile
        return law_for(gpu, facts.like or facts.model, facts.precision, len(pod.places), part=part)

    def _mark(self, pod: SimulatedPod) -> None:
        has_context = pod.facts.phase is not PodPhase.PULLING
        for place in pod.places:
            place.has_context = has_context
            place.used_bytes = CONTEXT_BYTES if has_context else BARE_BYTES
