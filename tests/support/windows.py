"""Builders of observed windows: GPUs, engines and holders slot by slot, with defaults that a test need not repeat."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain.readings import ActivitySource, PodRef
from fallow.domain.snapshots import Node
from fallow.domain.units import Instant, Joules, Seconds, Watts
from fallow.domain.windows import (
    EnergyMethod,
    EngineSlot,
    GpuSlot,
    GpuWindow,
    HoldingPod,
    Scaled,
    Survey,
    Tenure,
    Window,
    WorkloadRef,
)
from fallow.domain.zones import Ratio
from fallow.footprint.audit.report import Rates

H100 = "NVIDIA H100 80GB HBM3"
CONTEXT, BARE = 121.6, 71.8
START = Instant(1_800_000_000.0)
SLOT = Seconds(900)
DAY_SLOTS = 96
RATES = Rates(Ratio(1.1, 1.2, 1.4))
CHAT = PodRef("llm", "chat-7d9f-x")
CHAT_DEPLOYMENT = WorkloadRef("llm", "Deployment", "chat")


def tenure(holder: PodRef | None = CHAT, activity: float | None = 0.0, **more: object) -> Tenure:
    source = None if activity is None else more.pop("source", ActivitySource.ENGINE_ACTIVE)
    return Tenure(holder, activity=activity, activity_source=source, **more)  # type: ignore[arg-type]  # a test names what it is about


def gpu_slot(
    watts: float = CONTEXT, *tenures: Tenure, seconds: Seconds = SLOT, method: EnergyMethod = EnergyMethod.COUNTER
) -> GpuSlot:
    energy = Joules(watts * seconds)
    return GpuSlot(seconds, energy, method, Watts(watts), Watts(watts), tenures or (tenure(),))


def gpu(
    slots: Mapping[int, GpuSlot] | GpuSlot, uuid: str = "GPU-1", *, node: str = "gpu-1", count: int = 8
) -> GpuWindow:
    """One slot is meant for all `count` of them."""
    every = dict.fromkeys(range(count), slots) if isinstance(slots, GpuSlot) else slots
    return GpuWindow(uuid, node, H100, uuid.removeprefix("GPU-"), every)


def served(requests: float = 10, running: float = 200, **more: float) -> EngineSlot:
    return EngineSlot(requests=requests, tokens=requests * 300, running=running, busy=1.0, **more)  # type: ignore[arg-type]  # a test names what it is about


QUIET = EngineSlot(requests=0, tokens=0, running=0, busy=0.0)


def window(
    *gpus: GpuWindow,
    engines: Mapping[PodRef, EngineSlot | Mapping[int, EngineSlot]] | None = None,
    count: int = 8,
    slot: Seconds = SLOT,
) -> Window:
    """Of `count` slots; one slot of an engine is meant for all of them."""
    edges = tuple(Instant(START + slot * number) for number in range(count + 1))
    every = {
        pod: dict.fromkeys(range(count), slots) if isinstance(slots, EngineSlot) else slots
        for pod, slots in (engines or {}).items()
    }
    return Window(edges, gpus, every, "a test")


def holding(
    ref: PodRef = CHAT, workload: WorkloadRef = CHAT_DEPLOYMENT, *, node: str = "gpu-1", gpus: int = 1, **more: object
) -> HoldingPod:
    return HoldingPod(ref, workload, node, gpus, Instant(START - 3600), **more)  # type: ignore[arg-type]  # a test names what it is about


def survey(
    *pods: HoldingPod,
    scaled: Mapping[WorkloadRef, Scaled] | None = None,
    nodes: tuple[str, ...] = ("gpu-1",),
    gpus: int = 1,
) -> Survey:
    known = {name: Node(name, "10.0.0.1", {"nvidia.com/gpu.count": str(gpus)}, gpus, "") for name in nodes}
    return Survey(nodes=known, pods={pod.ref: pod for pod in pods}, scaled=scaled or {})
