"""A pod on its places: the engine inside or the behaviour of any other GPU pod, and the energy it took."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field, replace

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.behaviours import Draw, drawn
from fallow.twin.gpu import CONTEXT_BYTES, GpuDevice, Place, Work
from fallow.twin.physics.constants import GPU_MEMORY_UTILIZATION
from fallow.twin.physics.engine import Engine, EngineState
from fallow.twin.physics.requests import Request
from fallow.twin.pods import PodFacts, PodPhase


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


@dataclass(frozen=True, slots=True)
class Served:
    """What engines counted over their lives."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generated_tokens: int = 0
    iterations: int = 0
    requests: int = 0

    def plus(self, other: Served) -> Served:
        return Served(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class PodAccount:
    """What a pod took and did, up to now or to its end."""

    ref: PodRef
    uid: str
    node: str
    service: ServiceKey | None
    variant: str
    energy: Energy
    served: Served


@dataclass(slots=True, eq=False)
class SimulatedPod:
    """`loaded_at`: when a container that started again will be ready, `stopped`: it cannot start again, by its `fault`.

    `before`: what its earlier engines served.
    """

    facts: PodFacts
    created: float
    places: list[Place] = field(default_factory=list)
    engine: Engine | None = None
    energy: Energy = field(default_factory=Energy)
    ready_at: float | None = None
    fault: str = ""
    loaded_at: float | None = None
    stopped: bool = False
    before: Served = field(default_factory=Served)

    @property
    def gpus(self) -> list[GpuDevice]:
        return list(dict.fromkeys(place.gpu for place in self.places))

    @property
    def listening(self) -> bool:
        """VLLM opens its port once the engine is ready, and keeps it open while it drains."""
        return self.engine is not None

    @property
    def serving(self) -> bool:
        """May be given requests: ready, awake, not draining."""
        return self.facts.phase is PodPhase.READY and self.engine is not None and not self.engine.asleep

    @property
    def loading(self) -> bool:
        loads = self.facts.phase is PodPhase.LOADING or self.loaded_at is not None
        return loads and self.facts.engine is not None

    @property
    def served(self) -> Served:
        if self.engine is None:
            return self.before
        counters = self.engine.counters
        own = Served(
            counters.prompt_tokens,
            counters.cached_tokens,
            counters.generated_tokens,
            counters.iterations.count,
            sum(counters.finished.values()),
        )
        return self.before.plus(own)

    def end_engine(self) -> list[Request]:
        """The process dies; gives the requests that died with it."""
        if self.engine is None:
            return []
        self.engine.abort_all()
        self.before = self.served
        lost, self.engine = self.engine.take_finished(), None
        return lost

    def account(self) -> PodAccount:
        facts = self.facts
        return PodAccount(
            facts.ref, facts.uid, facts.node, facts.service, facts.variant, replace(self.energy), self.served
        )

    def demand(self, at: float) -> float:
        """The share of a GPU's time that the pod asks for."""
        if self.engine is not None:
            return 1.0 if self.engine.in_flight and not (self.engine.asleep or self.engine.hung) else 0.0
        return max((self._draw(place, at).busy for place in self.places), default=0.0)

    def watts(self, now: float) -> float:
        """Of all places that this pod holds, at this moment."""
        base = sum(place.base_watts for place in self.places)
        if self.engine is not None:
            return base + self.engine.watts()
        return base + sum(self._own(place, self._draw(place, now)).watts for place in self.places)

    def advance(self, until: float, seconds: float) -> None:
        for place in self.places:
            base = place.base_watts * seconds
            if base:
                place.book(Work(base))
                self._add(base, busy=False)
        if self.engine is not None:
            self._advance_engine(self.engine, until)
            return
        for place in self.places:
            draw = self._own(place, self._draw(place, until - seconds / 2.0))
            busy, spec = draw.busy * seconds, place.spec
            flops, read = draw.tensor * spec.flops * seconds, draw.dram * spec.bandwidth * seconds
            place.book(Work(draw.watts * seconds, busy, flops, read))
            if place.has_context:
                place.used_bytes = max(draw.memory * spec.memory, CONTEXT_BYTES)
            self._add(draw.watts * seconds, busy=busy > 0)

    def _advance_engine(self, engine: Engine, until: float) -> None:
        counters = engine.counters
        joules, idle, busy = engine.joules, engine.idle_joules, counters.busy_seconds
        flops, read = counters.flops, counters.read_bytes
        engine.pace = 1.0 / max(place.gpu.crowd for place in self.places)
        engine.advance(until)
        spent, rested = engine.joules - joules, engine.idle_joules - idle
        self.energy.idle += rested
        self.energy.active += spent - rested
        work = Work(
            spent / len(self.places), counters.busy_seconds - busy, counters.flops - flops, counters.read_bytes - read
        )
        used = CONTEXT_BYTES if engine.state is EngineState.SLEEPING else GPU_MEMORY_UTILIZATION * engine.law.gpu.memory
        for place in self.places:
            place.book(work)
            place.used_bytes = used
            place.fallen = engine.fallen

    def _own(self, place: Place, draw: Draw) -> Draw:
        """Of a GPU in turns only what goes beyond its context, and that in the pod's turns only."""
        if not place.gpu.in_turns:
            return draw
        crowd = place.gpu.crowd if draw.busy else 1.0
        watts = max(draw.watts - place.spec.context, 0.0) / crowd
        return Draw(watts, draw.busy / crowd, draw.tensor / crowd, draw.dram / crowd, draw.memory)

    def _draw(self, place: Place, at: float) -> Draw:
        """What a pod without a running engine draws."""
        spec, facts = place.spec, self.facts
        if not place.gpu.usable:
            return Draw(0.0 if place.gpu.dark else spec.bare, memory=0.0)
        if facts.phase in {PodPhase.PULLING, PodPhase.DRAINING}:
            return Draw(spec.bare, memory=0.0)
        if facts.engine is not None and not self.fault:
            return Draw(spec.loading, memory=0.0)
        if facts.phase is PodPhase.READY and facts.behaviour is not None:
            return drawn(facts.behaviour, spec, at=at, who=facts.uid)
        busy = facts.activity if facts.phase is PodPhase.READY else 0.0
        return Draw(spec.context if facts.watts is None else facts.watts, busy, memory=0.0)

    def _add(self, joules: float, *, busy: bool) -> None:
        if self.facts.phase is PodPhase.PULLING:
            self.energy.pulling += joules
        elif self.facts.phase is PodPhase.LOADING or self.loaded_at is not None:
            self.energy.loading += joules
        elif busy:
            self.energy.active += joules
        else:
            self.energy.idle += joules
