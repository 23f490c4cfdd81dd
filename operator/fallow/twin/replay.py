"""The same engines and the same requests over a fleet that nobody steers, as fast as the machine allows.

It answers what a trace would have cost with fixed replicas: energy, tokens and attainment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fallow.domain.readings import PodRef
from fallow.domain.units import Joules
from fallow.domain.workloads import ServiceKey
from fallow.twin.pods import EngineFacts, NodeFacts, PodFacts, PodPhase
from fallow.twin.state import quantile
from fallow.twin.traffic import Arrival, TraceTraffic, Traffic
from fallow.twin.world import World

STEP_SECONDS = 0.25


class ReplayError(ValueError):
    """A fleet that cannot hold its replicas; the message says what is too small."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Fixed replicas of one service: loading from `start`, ready `load_seconds` later, there until the end."""

    service: ServiceKey
    engine: EngineFacts
    count: int
    gpus: int = 1
    variant: str = ""
    start: float = 0.0
    load_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Objectives:
    """Seconds; None is no objective."""

    ttft: float | None = None
    itl: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """`attainment` is the share of ended requests within the objectives, None when none ended."""

    service: ServiceKey
    energy: Joules
    loading: Joules
    idle: Joules
    arrivals: int
    done: int
    failed: int
    unfinished: int
    prompt_tokens: int
    generated_tokens: int
    ttft_p95: float | None
    itl_p95: float | None
    attainment: float | None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`energy` is of every GPU of the fleet, `unallocated` the part of those that nobody held."""

    seconds: float
    energy: Joules
    unallocated: Joules
    services: tuple[ServiceResult, ...] = field(default=())

    @property
    def generated_tokens(self) -> int:
        return sum(service.generated_tokens for service in self.services)


def replay(
    nodes: Sequence[NodeFacts],
    replicas: Sequence[Replicas],
    traffic: Mapping[ServiceKey, Traffic | Sequence[Arrival]],
    *,
    seconds: float,
    objectives: Mapping[ServiceKey, Objectives] | None = None,
) -> ReplayResult:
    """A sequence of arrivals is taken at its own times, counted from the start, as GET /trace gives them."""
    world = World(started=0.0)
    for node in nodes:
        world.put_node(node)
    for key, source in traffic.items():
        stream, origin = _stream(source)
        world.set_traffic(key, stream, origin=origin)
    changes = sorted(_life(replicas, nodes), key=lambda change: change[0])
    for at, facts in changes:
        if at > seconds:
            break
        _advance(world, at)
        world.put_pod(facts)
    _advance(world, seconds)
    _all_are_placed(world)
    return _result(world, seconds, objectives or {})


def _advance(world: World, until: float) -> None:
    while world.now < until:
        world.advance(min(world.now + STEP_SECONDS, until))


def _stream(source: Traffic | Sequence[Arrival]) -> tuple[Traffic, float]:
    if isinstance(source, Sequence):
        rows = sorted(source)
        return TraceTraffic(rows), rows[0].at if rows else 0.0
    return source, 0.0


def _life(replicas: Sequence[Replicas], nodes: Sequence[NodeFacts]) -> list[tuple[float, PodFacts]]:
    """When each pod begins to load and when it is ready, each on the first node with GPUs left."""
    free = {node.name: node.offers for node in nodes}
    life: list[tuple[float, PodFacts]] = []
    for number, group in enumerate(replicas):
        for index in range(group.count):
            node = next((name for name, left in free.items() if left >= group.gpus), None)
            if node is None:
                raise ReplayError(
                    f"{group.service}: no node has {group.gpus} GPUs left for replica {index + 1} of {group.count}"
                )
            free[node] -= group.gpus
            ref = PodRef(group.service.namespace, f"{group.service.name}-{number}-{index}")
            for at, phase in (
                (group.start, PodPhase.LOADING),
                (group.start + group.load_seconds, PodPhase.READY),
            ):
                facts = PodFacts(
                    ref=ref,
                    uid=str(ref),
                    node=node,
                    address="",
                    phase=phase,
                    gpus=group.gpus,
                    service=group.service,
                    variant=group.variant,
                    engine=group.engine,
                )
                life.append((at, facts))
    return life


def _all_are_placed(world: World) -> None:
    for pod in world.fleet.pods.values():
        if pod.fault:
            raise ReplayError(f"{pod.facts.ref}: {pod.fault}")


def _result(world: World, seconds: float, objectives: Mapping[ServiceKey, Objectives]) -> ReplayResult:
    services = tuple(_service(world, key, objectives.get(key, Objectives())) for key in sorted(world.gateways))
    total = sum(gpu.joules for gpu in world.fleet.gpus())
    held = sum(service.energy.value for service in services)
    return ReplayResult(seconds, Joules(total), Joules(total - held), services)


def _service(world: World, key: ServiceKey, objectives: Objectives) -> ServiceResult:
    gateway = world.gateways[key]
    energy = world.energy(key)
    return ServiceResult(
        service=key,
        energy=Joules(energy.total),
        loading=Joules(energy.loading),
        idle=Joules(energy.idle),
        arrivals=len(gateway.arrivals),
        done=gateway.done,
        failed=gateway.failed,
        unfinished=len(gateway.arrivals) - gateway.done - gateway.failed,
        prompt_tokens=gateway.prompt_tokens,
        generated_tokens=gateway.generated_tokens,
        ttft_p95=quantile(gateway.ttft, 0.95),
        itl_p95=quantile([value for value in gateway.itl if value >= 0], 0.95),
        attainment=gateway.attainment(ttft=objectives.ttft, itl=objectives.itl),
    )
