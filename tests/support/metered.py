"""Builders for the accounting tests: a small metered cluster whose parts default to one H100 node in one zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Ledger, LineKey, LineKind
from fallow.domain.policies import Operator, Requirement, Selector
from fallow.domain.readings import (
    Activity,
    ActivitySource,
    EnergyCounter,
    EngineReading,
    GpuReading,
    HostMeter,
    HostReading,
    PodRef,
    Power,
    Readings,
    Share,
    Sharing,
)
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import ClusterView, Node, Pod, Snapshot
from fallow.domain.units import GramsPerKWh, Instant, Joules, LitresPerKWh, Watts
from fallow.domain.workloads import ServiceKey
from fallow.domain.zones import Intensity, IntensityKind, IntensitySource, Ratio, Zone, ZoneReading

NOON = Instant(datetime(2026, 3, 14, 12, 0, tzinfo=UTC).timestamp())
CHAT = ServiceKey("llm", "chat")
CHAT_LINE = LineKey(LineKind.SERVICE, "llm", "chat", "bf16")
CODE_LINE = LineKey(LineKind.SERVICE, "llm", "code", "bf16")
FREE = LineKey(LineKind.UNALLOCATED)
LOST = LineKey(LineKind.UNATTRIBUTED)
SILENT = Missing(Reason.NO_SERIES, "no series")


def later(seconds: float) -> Instant:
    return Instant(NOON + seconds)


def gpu(
    seconds: float,
    joules: float | None = None,
    watts: float | None = None,
    *,
    uuid: str = "GPU-a",
    node: str = "node-a",
    holder: str | None = None,
    model: str = "NVIDIA H100 80GB HBM3",
    active: float | None = None,
    shares: Sequence[Share] = (),
) -> GpuReading:
    """`holder` is namespace/name, `active` the share of time in which a kernel ran."""
    return GpuReading(
        uuid=uuid,
        node=node,
        model_name=model,
        power=SILENT if watts is None else Power(Watts(watts), later(seconds)),
        counter=SILENT if joules is None else EnergyCounter(Joules(joules), later(seconds)),
        activity=SILENT if active is None else Activity(active, ActivitySource.ENGINE_ACTIVE, later(seconds)),
        holder=PodRef(*holder.split("/")) if holder else None,
        shares=tuple(shares),
    )


def instance(number: int, profile: str = "1g.10gb", holder: str | None = None, active: float | None = None) -> Share:
    """A MIG instance."""
    slices = int(profile[0])
    return Share(str(number), Sharing.MIG, _ref(holder), slices, _active(active), profile)


def turn(holder: str, active: float | None = None) -> Share:
    """A pod that uses a GPU in turns with others."""
    return Share(holder, Sharing.TURNS, _ref(holder), 0, _active(active))


def _ref(holder: str | None) -> PodRef | None:
    return PodRef(*holder.split("/")) if holder else None


def _active(ratio: float | None) -> Activity | Missing:
    return SILENT if ratio is None else Activity(ratio, ActivitySource.ENGINE_ACTIVE, NOON)


def pod(
    name: str,
    service: str | None = "chat",
    *,
    variant: str = "bf16",
    namespace: str = "llm",
    node: str = "node-a",
    gpus: int = 1,
    started: float = -3600,
    ready: bool = True,
    ready_since: float | None = None,
    scheduled: bool = True,
    uid: str = "",
    instances: Mapping[str, int] | None = None,
    copies: int = 0,
) -> Pod:
    """`gpus` are whole ones; they are none where it asks for instances or copies."""
    parts = sum((instances or {}).values()) + copies
    return Pod(
        ref=PodRef(namespace, name),
        uid=uid or f"uid-{name}",
        node=node,
        address="10.0.0.1",
        port=8000,
        gpus=parts or gpus,
        instances=instances or {},
        copies=copies,
        created=later(started),
        ready=ready,
        deleting=False,
        scheduled=scheduled,
        service=ServiceKey(namespace, service) if service else None,
        variant=variant if service else None,
        started=later(started),
        ready_since=None if ready_since is None else later(ready_since),
    )


def engine(
    seconds: float,
    generated: float = 0,
    *,
    prompt: float = 0,
    requests: float = 0,
    running: float = 0,
    waiting: float = 0,
    asleep: bool = False,
) -> EngineReading:
    return EngineReading(
        at=later(seconds),
        running=running,
        waiting=waiting,
        kv_usage=0.1,
        prompt_tokens=prompt,
        generated_tokens=generated,
        requests=requests,
        asleep=asleep,
    )


def host(
    seconds: float, *joules: float, node: str = "node-a", meter: HostMeter = HostMeter.RAPL, name: str = "package"
) -> HostReading:
    """One counter for each of `joules`."""
    counters = {f"{name}-{index}": Joules(value) for index, value in enumerate(joules)}
    return HostReading(node, counters, later(seconds), meter)


def node(
    name: str = "node-a", gpus: int = 1, labels: Mapping[str, str] | None = None, *, in_turns: bool = False
) -> Node:
    return Node(name, "10.0.1.1", labels or {"region": "north"}, gpus, "NVIDIA-H100-80GB-HBM3", in_turns=in_turns)


def zone(
    name: str = "north",
    *,
    grams: float | Missing = 400,
    region: str | None = None,
    kind: IntensityKind = IntensityKind.AVERAGE,
    on_site: float | None = 0.3,
    at_source: float | None = 2.0,
) -> ZoneReading:
    """The default zone, unless it selects nodes by their `region`."""
    selector = Selector((Requirement("region", Operator.IN, (region,)),)) if region else Selector()
    declared = Zone(
        name=name,
        source=IntensitySource("Static", {}),
        nodes=selector,
        is_default=region is None,
        pue=Ratio(1.1, 1.2, 1.3),
        water_on_site=None if on_site is None else Figure.exact(LitresPerKWh(on_site)),
        water_at_source=None if at_source is None else Figure.exact(LitresPerKWh(at_source)),
        host_per_gpu=Figure(Watts(75), Watts(150), Watts(290)),
    )
    if isinstance(grams, Missing):
        return ZoneReading(declared, grams)
    return ZoneReading(declared, Intensity(Figure.exact(GramsPerKWh(grams)), NOON, "static", kind))


def snapshot(
    seconds: float,
    gpus: Sequence[GpuReading] = (),
    *,
    pods: Sequence[Pod] = (),
    engines: Mapping[str, EngineReading] | None = None,
    nodes: Sequence[Node] = (),
    zones: Sequence[ZoneReading] = (),
    hosts: Sequence[HostReading] = (),
    targets: Mapping[str, float] | None = None,
    before: Snapshot | None = None,
    fault: Missing | None = None,
) -> Snapshot:
    """`engines` by pod name in the namespace llm, `targets` by service there for bf16; `before` is the cycle before."""
    return Snapshot(
        at=later(seconds),
        cluster=ClusterView(
            nodes={one.name: one for one in nodes or (node(),)},
            pods={one.ref: one for one in pods},
        ),
        readings=Readings(
            at=later(seconds),
            engines={PodRef("llm", name): reading for name, reading in (engines or {}).items()},
            gpus={reading.uuid: reading for reading in gpus},
            hosts={reading.node: reading for reading in hosts},
            gpu_fault=fault,
        ),
        zones={one.zone.name: one for one in zones},
        previous=before.readings if before else None,
        targets={(ServiceKey("llm", name), "bf16"): value for name, value in (targets or {}).items()},
    )


def opened(seconds: float = 0) -> Ledger:
    return Ledger(since=later(seconds), at=later(seconds))


def booked(ledger: Ledger) -> dict[LineKey, float]:
    """Best joules of every line, lines without energy left out."""
    totals = {line: book.total.account.energy.best.value for line, book in ledger.books.items()}
    return {line: joules for line, joules in totals.items() if joules}
