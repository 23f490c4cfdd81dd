"""Builders of simulated engines, nodes and pods, with defaults that a test need not repeat."""

from __future__ import annotations

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.behaviours import Behaviour
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import Gpu
from fallow.twin.physics.engine import Engine, EngineLimits
from fallow.twin.physics.parts import profile_from
from fallow.twin.physics.requests import Request
from fallow.twin.pods import (
    GPU_RESOURCE,
    Division,
    EngineFacts,
    ExporterFacts,
    NodeFacts,
    PodFacts,
    PodPhase,
)

CHAT = ServiceKey("demo", "chat")


def an_engine(
    model: str = "8b",
    precision: Precision = Precision.BF16,
    *,
    gpu: Gpu = Gpu.H100,
    gpus: int = 1,
    limits: EngineLimits | None = None,
    throttles: bool = False,
) -> Engine:
    return Engine(law_for(gpu, model, precision, gpus), limits or EngineLimits(), now=0.0, throttles=throttles)


def submitted(engine: Engine, *, at: float = 0.0, prompt: int = 100, output: int = 50) -> Request:
    request = Request(at, prompt, output)
    engine.submit(request, at)
    return request


def engine_facts(precision: Precision = Precision.BF16, **limits: float) -> EngineFacts:
    return EngineFacts("org/model-8B", "chat", precision, EngineLimits(**limits), like="8b")  # type: ignore[arg-type]  # a test names the limits it is about


def a_node(
    name: str = "gpu-1",
    *,
    gpus: int = 8,
    uid: str = "n1",
    address: str = "127.0.0.9",
    division: Division | None = None,
    virtual_gpus: bool = False,
) -> NodeFacts:
    exporter = ExporterFacts(virtual_gpus)
    return NodeFacts(name, uid, address, Gpu.H100, gpus, division or Division(), exporter)


def instances(*names: str, gpus: int = 1) -> Division:
    """The same MIG instances on each GPU."""
    profiles = [profile_from(name) for name in names]
    return Division(tuple(tuple(filter(None, profiles)) for _ in range(gpus)))


def a_foreign_pod(
    name: str,
    behaviour: Behaviour | None = None,
    *,
    phase: PodPhase = PodPhase.READY,
    resource: str = GPU_RESOURCE,
    gpus: int = 1,
    watts: float | None = None,
    activity: float = 0.0,
) -> PodFacts:
    """Of another team, and no vLLM."""
    return PodFacts(
        ref=PodRef("lab", name),
        uid=name,
        node="gpu-1",
        address="",
        phase=phase,
        gpus=gpus,
        watts=watts,
        activity=activity,
        resource=resource,
        behaviour=behaviour,
    )


def a_pod(
    name: str = "chat-0",
    phase: PodPhase = PodPhase.READY,
    *,
    node: str = "gpu-1",
    gpus: int = 1,
    uid: str = "",
    address: str = "127.0.0.2",
    engine: EngineFacts | None = None,
    service: ServiceKey | None = CHAT,
    resource: str = GPU_RESOURCE,
) -> PodFacts:
    return PodFacts(
        ref=PodRef("demo", name),
        uid=uid or name,
        node=node,
        address=address,
        phase=phase,
        gpus=gpus,
        service=service,
        variant="bf16",
        engine=engine or engine_facts(),
        resource=resource,
    )
