"""Nodes, GPUs and pods over time: who holds which GPU, what each draws, and the engines inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.gpu import GpuDevice, Work
from fallow.twin.physics.constants import GIB, GPU_MEMORY_UTILIZATION, GPUS
from fallow.twin.physics.engine import Engine, EngineState
from fallow.twin.physics.laws import DoesNotFit, law_for
from fallow.twin.physics.requests import Request
from fallow.twin.pods import NodeFacts, PodFacts, PodPhase

# What a GPU's memory holds beside weights and KV cache: nothing without a context, a CUDA context while asleep.
BARE_BYTES = 4.0 * 2**20
CONTEXT_BYTES = 1.5 * GIB


@dataclass(slots=True)
class Energy:
    """Joules of the GPUs a pod held, by what it did meanwhile. The parts add up to `total`."""

    pulling: float = 0.0
    loading: float = 0.0
    idle: float = 0.0
    active: float = 0.0

    @property
    def total(self) -> float:
        return self.pulling + self.loading + self.idle + self.active

    def add(self, other: Energy) -> None:
        self.pulling += other.pulling
        self.loading += other.loading
        self.idle += other.idle
        self.active += other.active


@dataclass(slots=True, eq=False)
class SimulatedPod:
    facts: PodFacts
    created: float
    gpus: list[GpuDevice] = field(default_factory=list)
    engine: Engine | None = None
    energy: Energy = field(default_factory=Energy)
    ready_at: float | None = None
    fault: str = ""

    @property
    def listening(self) -> bool:
        """VLLM opens its port once the engine is ready, and keeps it open while it drains."""
        return self.engine is not None

    @property
    def serving(self) -> bool:
        """May be given requests: ready, awake, not draining."""
        return self.facts.phase is PodPhase.READY and self.engine is not None and not self.engine.asleep

    def watts(self) -> float:
        """Of all GPUs this pod holds, at this moment."""
        return sum(self._watts_per_gpu(gpu) for gpu in self.gpus)

    def advance(self, until: float, seconds: float) -> None:
        if self.engine is not None:
            self._advance_engine(self.engine, until)
            return
        for gpu in self.gpus:
            joules = self._watts_per_gpu(gpu) * seconds
            busy = self.facts.activity * seconds if self.facts.phase is PodPhase.READY else 0.0
            gpu.book(Work(joules, busy))
            self._add(joules, busy > 0)

    def _advance_engine(self, engine: Engine, until: float) -> None:
        counters = engine.counters
        joules, idle, busy = engine.joules, engine.idle_joules, counters.busy_seconds
        flops, read = counters.flops, counters.read_bytes
        engine.advance(until)
        spent, rested = engine.joules - joules, engine.idle_joules - idle
        self.energy.idle += rested
        self.energy.active += spent - rested
        work = Work(
            spent / len(self.gpus), counters.busy_seconds - busy, counters.flops - flops, counters.read_bytes - read
        )
        used = CONTEXT_BYTES if engine.state is EngineState.SLEEPING else GPU_MEMORY_UTILIZATION * engine.law.gpu.memory
        for gpu in self.gpus:
            gpu.book(work)
            gpu.used_bytes = used

    def _watts_per_gpu(self, gpu: GpuDevice) -> float:
        if self.engine is not None:
            return self.engine.watts() / len(self.gpus)
        if self.facts.phase in {PodPhase.PULLING, PodPhase.DRAINING}:
            return gpu.spec.bare
        if self.facts.engine is not None and not self.fault:
            return gpu.spec.loading
        return gpu.spec.context if self.facts.watts is None else self.facts.watts

    def _add(self, joules: float, busy: bool) -> None:
        if self.facts.phase is PodPhase.PULLING:
            self.energy.pulling += joules
        elif self.facts.phase is PodPhase.LOADING:
            self.energy.loading += joules
        elif busy:
            self.energy.active += joules
        else:
            self.energy.idle += joules


class Fleet:
    """Changed by facts about nodes and pods, moved by `advance`. Facts take effect at the fleet's own time."""

    def __init__(self, *, now: float) -> None:
        self.now = now
        self.nodes: dict[str, NodeFacts] = {}
        self.pods: dict[PodRef, SimulatedPod] = {}
        self.retired: dict[ServiceKey | None, Energy] = {}
        self.gone_joules = 0.0
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
        held = sum(pod.watts() for pod in self.pods.values())
        return held + sum(gpu.spec.bare for gpu in self.gpus() if gpu.holder is None)

    def put_node(self, node: NodeFacts) -> list[Request]:
        """Another uid or other GPUs make it a new node: its counters and its pods' engines begin again.

        Gives the requests that died with them.
        """
        known = self.nodes.get(node.name)
        self.nodes[node.name] = node
        if known is not None and (known.uid, known.gpu, known.gpus) == (node.uid, node.gpu, node.gpus):
            return []
        lost: list[Request] = []
        here = [pod.facts for pod in self.pods.values() if pod.facts.node == node.name]
        for facts in here:
            lost.extend(self.remove_pod(facts.ref))
        again = node.name in self._seen_nodes
        self._seen_nodes.add(node.name)
        self.gone_joules += sum(gpu.joules for gpu in self.gpus_of(node.name))
        self._gpus[node.name] = [
            GpuDevice(GPUS[node.gpu], node.name, index, now=self.now, fresh=again) for index in range(node.gpus)
        ]
        for facts in here:
            self.put_pod(facts)
        self._place()
        return lost

    def remove_node(self, name: str) -> list[Request]:
        """Gives the requests that died with the node's pods."""
        self.nodes.pop(name, None)
        self.gone_joules += sum(gpu.joules for gpu in self._gpus.pop(name, []))
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
        if self._at.get(pod.facts.address) == ref:
            del self._at[pod.facts.address]
        self.retired.setdefault(pod.facts.service, Energy()).add(pod.energy)
        for gpu in pod.gpus:
            gpu.holder = None
            gpu.container = ""
            gpu.has_context = False
            gpu.used_bytes = BARE_BYTES
        lost: list[Request] = []
        if pod.engine is not None:
            pod.engine.abort_all()
            lost = pod.engine.take_finished()
        self._place()
        return lost

    def advance(self, until: float) -> None:
        seconds = until - self.now
        if seconds <= 0:
            return
        for pod in self.pods.values():
            pod.advance(until, seconds)
        for gpu in self.gpus():
            if gpu.holder is None:
                gpu.book(Work(gpu.spec.bare * seconds))
        self.now = until

    def take_samples(self) -> None:
        for gpu in self.gpus():
            gpu.take_sample(self.now)

    def _place(self) -> None:
        """The first free indices of the node; a pod that finds too few waits for the next change."""
        for pod in self.pods.values():
            facts = pod.facts
            if pod.gpus or facts.gpus == 0:
                continue
            free = [gpu for gpu in self.gpus_of(facts.node) if gpu.holder is None]
            if len(free) < facts.gpus:
                continue
            pod.gpus = free[: facts.gpus]
            for gpu in pod.gpus:
                gpu.holder = facts.ref
                gpu.container = facts.container
            self._mark(pod)
            if facts.phase is PodPhase.READY and pod.engine is None:
                self._start_engine(pod)

    def _start_engine(self, pod: SimulatedPod) -> None:
        facts = pod.facts.engine
        node = self.nodes.get(pod.facts.node)
        if facts is None or node is None or not pod.gpus:
            return
        try:
            law = law_for(node.gpu, facts.model_class, facts.precision, len(pod.gpus))
        except DoesNotFit as error:
            pod.fault = str(error)
            return
        pod.engine = Engine(law, facts.limits, now=self.now)
        pod.ready_at = self.now
        self._mark(pod)

    def _mark(self, pod: SimulatedPod) -> None:
        has_context = pod.facts.phase is not PodPhase.PULLING
        for gpu in pod.gpus:
            gpu.has_context = has_context
            gpu.used_bytes = CONTEXT_BYTES if has_context else BARE_BYTES
