"""Builders for planner and cycle tests: each gives a healthy default and takes only what the test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from fallow.domain.arrivals import Arrivals
from fallow.domain.autoscalers import Autoscaler, AutoscalerKind
from fallow.domain.figures import Figure, Missing
from fallow.domain.habits import Habits
from fallow.domain.policies import GuardRules, IdleRules, Mode, Policy, PrecisionRules, Tier
from fallow.domain.profiles import Profile, ProfilePoint
from fallow.domain.readings import (
    Activity,
    ActivitySource,
    EnergyCounter,
    EngineReading,
    GpuReading,
    PodRef,
    Power,
    Readings,
    WaitingSeries,
)
from fallow.domain.snapshots import ClusterView, DemandPoint, Node, Pod, Snapshot, Workload
from fallow.domain.tuning import Tuning
from fallow.domain.units import GramsPerKWh, Instant, Joules, Seconds, Watts
from fallow.domain.workloads import Engine, Objectives, Scaling, Service, ServiceKey, ServiceMemory, Variant, Wake
from fallow.domain.zones import Intensity, IntensitySource, Zone, ZoneReading

NOW = Instant(1_800_000_000.0)
CYCLE = Seconds(15)
CHAT = ServiceKey("llm", "chat")
H100, L4 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"
QUIET_WATTS, BUSY_WATTS = 122.0, 500.0

BF16 = Variant("bf16", "meta-llama/Llama-3.1-8B-Instruct", "BF16", gpus=1)
FP8 = Variant("fp8", "meta-llama/Llama-3.1-8B-Instruct-FP8", "FP8", quality=0.995, gpus=1)
INT4 = Variant("int4", "meta-llama/Llama-3.1-8B-Instruct-AWQ", "INT4", quality=0.975, gpus=1)

WAITING = "gateway_requests_waiting"
WAKE = Wake(WAITING, {"service": "chat"})

TIERS = (
    Tier(GramsPerKWh(0), frozenset({"BF16"})),
    Tier(GramsPerKWh(350), frozenset({"FP8", "INT4"})),
)
PRECISION = PrecisionRules(TIERS, require_measured_advantage=False)


def service(
    *variants: Variant,
    minimum: int = 1,
    maximum: int = 8,
    concurrency: float | None = 10.0,
    wake: Wake | None = None,
    objectives: Objectives | None = None,
    key: ServiceKey = CHAT,
    **more: Any,
) -> Service:
    """A service that carries ten requests a replica."""
    chosen = variants or (BF16,)
    plain: dict[str, Any] = {"uid": f"uid-{key.name}", "generation": 1, "served_name": key.name, "created": Instant(0)}
    return Service(
        key=key,
        model=chosen[0].model,
        variants=chosen,
        objectives=objectives or Objectives(),
        scaling=Scaling(minimum, maximum, concurrency, wake),
        engine=Engine(image="vllm/vllm-openai"),
        **{**plain, **more},
    )


def policy(mode: Mode = Mode.ENFORCE, *, idle_after: float | None = 600, **more: Any) -> Policy:
    idle = None if idle_after is None else IdleRules(after=Seconds(idle_after))
    return Policy(**{"name": "green", "mode": mode, "idle": idle, **more})


def guards(**values: Any) -> GuardRules:
    return GuardRules(**values)


def profile(variant: Variant, *points: tuple[float, ...], product: str = H100, **more: Any) -> Profile:
    """Points are (concurrency, tokens/s, W) or, with a fourth number, the ITL in seconds too."""
    return Profile(
        name=f"{variant.name}-{product.lower()}",
        model=variant.model,
        precision=variant.precision,
        gpu_product=product,
        gpus=variant.gpus,
        points=tuple(ProfilePoint(p[0], p[1], Watts(p[2]), Seconds(p[3]) if len(p) > 3 else None) for p in points),
        **more,
    )


def intensity(grams: float, at: Instant = NOW) -> Intensity:
    return Intensity(Figure.exact(GramsPerKWh(grams)), at, "static")


def zone(reading: float | Missing = 200, at: Instant = NOW) -> ZoneReading:
    known = reading if isinstance(reading, Missing) else intensity(reading, at)
    return ZoneReading(Zone("north", IntensitySource("Static"), is_default=True), known)


def node(name: str = "node-a", product: str = H100, gpus: int = 8) -> Node:
    return Node(name, "10.0.1.1", {}, gpus, product)


def ref(name: str, namespace: str = CHAT.namespace) -> PodRef:
    return PodRef(namespace, name)


def pod(name: str = "bf16-0", variant: str = "bf16", *, key: ServiceKey = CHAT, **more: Any) -> Pod:
    plain: dict[str, Any] = {
        "ref": PodRef(key.namespace, name),
        "uid": f"uid-{name}",
        "node": "node-a",
        "address": "10.0.0.1",
        "port": 8000,
        "gpus": 1,
        "created": Instant(NOW - 7200),
        "started": Instant(NOW - 7200),
        "ready": True,
        "deleting": False,
        "scheduled": True,
    }
    return Pod(**{**plain, "service": key, "variant": variant, **more})


def workload(variant: str = "bf16", replicas: int = 1, *, key: ServiceKey = CHAT, **more: Any) -> Workload:
    plain: dict[str, Any] = {"name": f"{key.name}-{variant}", "ready": replicas, "generation": 1}
    return Workload(namespace=key.namespace, service=key, variant=variant, replicas=replicas, **{**plain, **more})


def scaler(minimum: int = 1, maximum: int = 10, *, name: str = "load", **more: Any) -> Autoscaler:
    """An HPA, unless another kind is named."""
    plain: dict[str, Any] = {"kind": AutoscalerKind.HPA, "namespace": CHAT.namespace}
    return Autoscaler(name=name, minimum=minimum, maximum=maximum, **{**plain, **more})


def engine(at: Instant = NOW, **values: Any) -> EngineReading:
    """An engine that rests."""
    plain: dict[str, Any] = {
        "at": at,
        "running": 0.0,
        "waiting": 0.0,
        "kv_usage": 0.0,
        "prompt_tokens": 0.0,
        "generated_tokens": 0.0,
        "requests": 0.0,
    }
    return EngineReading(**{**plain, **values})


def gpu(
    uuid: str = "GPU-0",
    holder: PodRef | None = None,
    *,
    at: Instant = NOW,
    watts: float | Missing = QUIET_WATTS,
    active: float | Missing = 0.0,
    joules: float = 0.0,
    product: str = H100,
) -> GpuReading:
    return GpuReading(
        uuid=uuid,
        node="node-a",
        model_name=product.replace("-", " "),
        power=watts if isinstance(watts, Missing) else Power(Watts(watts), at),
        counter=EnergyCounter(Joules(joules), at),
        activity=active if isinstance(active, Missing) else Activity(active, ActivitySource.ENGINE_ACTIVE, at),
        holder=holder,
    )


def held_series(value: float, at: Instant = NOW, labels: Mapping[str, str] | None = None) -> WaitingSeries:
    return WaitingSeries(WAITING, labels or {"service": "chat"}, value, at)


def point(
    at: Instant = NOW,
    running: float = 0.0,
    ready: int = 1,
    desired: int | None = None,
    *,
    waiting: float = 0.0,
    kv_mean: float | None = None,
    tokens_per_second: float | None = None,
    **more: Any,
) -> DemandPoint:
    asked = ready if desired is None else desired
    return DemandPoint(at, running, waiting, kv_mean, tokens_per_second, ready, asked, **more)


@lru_cache(maxsize=256)
def watched(
    running: float, ready: int, *, seconds: float = 900, now: Instant = NOW, every: float = CYCLE, **more: Any
) -> tuple[DemandPoint, ...]:
    """A load history without a gap up to now."""
    count = int(seconds / every)
    return tuple(point(Instant(now - every * back), running, ready, **more) for back in range(count, -1, -1))


@dataclass(frozen=True)
class Running:
    """Replicas of one variant: how many are asked for and ready, and what their engines show, all pods together."""

    replicas: int = 1
    ready: int | None = None
    running: float = 0.0
    waiting: float = 0.0
    kv: float | None = 0.0
    tokens: float = 0.0
    product: str = H100

    @property
    def is_ready(self) -> int:
        return self.replicas if self.ready is None else self.ready


@lru_cache(maxsize=256)
def pods_of(variant: str, run: Running) -> tuple[Pod, ...]:
    """Pods that are not ready yet were made a minute ago."""
    node_name = "node-a" if run.product == H100 else f"node-{run.product.removeprefix('NVIDIA-').lower()}"
    ready = [pod(f"{variant}-{index}", variant, node=node_name) for index in range(run.is_ready)]
    starting = [
        pod(f"{variant}-{index}", variant, node=node_name, ready=False, created=Instant(NOW - 60), started=None)
        for index in range(run.is_ready, run.replicas)
    ]
    return (*ready, *starting)


@lru_cache(maxsize=256)
def _meters(
    variant: str,
    run: Running,
    at: Instant,
    watts: float | Missing | None,
    active: float | Missing | None,
    counted: float,
) -> tuple[Mapping[PodRef, EngineReading], Mapping[str, GpuReading]]:
    """Of one variant: its engines, which all show the same, and their GPUs."""
    busy = run.running + run.waiting > 0
    share = 1 / max(run.is_ready, 1)
    power = (BUSY_WATTS if busy else QUIET_WATTS) if watts is None else watts
    ratio = (0.9 if busy else 0.0) if active is None else active
    shown = engine(
        at,
        running=run.running * share,
        waiting=run.waiting * share,
        kv_usage=run.kv,
        generated_tokens=(run.tokens + counted) * share,
        requests=counted * share,
    )
    pods = pods_of(variant, run)
    gpus = (gpu(f"GPU-{one.ref.name}", one.ref, at=at, watts=power, active=ratio, product=run.product) for one in pods)
    return {one.ref: shown for one in pods if one.ready}, {one.uuid: one for one in gpus}


def readings(
    variants: Mapping[str, Running],
    *,
    at: Instant = NOW,
    watts: float | Missing | None = None,
    active: float | Missing | None = None,
    waiting: Sequence[WaitingSeries] = (),
    counted: float = 0.0,
    **more: Any,
) -> Readings:
    """What the meters show; GPUs draw and work as their engine's load says, unless told otherwise."""
    engines: dict[PodRef, EngineReading] = {}
    gpus: dict[str, GpuReading] = {}
    for name, run in variants.items():
        of_engines, of_gpus = _meters(name, run, at, watts, active, counted)
        engines |= of_engines
        gpus |= of_gpus
    return Readings(at=at, engines=engines, gpus=gpus, waiting=tuple(waiting), **more)


@dataclass
class Scene:
    """One service in a cluster, to be altered and then taken as a snapshot."""

    service: Service = field(default_factory=service)
    variants: dict[str, Running] = field(default_factory=lambda: {"bf16": Running()})
    policy: Policy | None = field(default_factory=policy)
    memory: ServiceMemory = field(default_factory=ServiceMemory)
    history: tuple[DemandPoint, ...] | None = None
    now: Instant = NOW
    zone: ZoneReading = field(default_factory=zone)
    profiles: tuple[Profile, ...] = ()
    arrivals: Arrivals = field(default_factory=Arrivals)
    readings: Readings | None = None
    previous: Readings | None = None
    earlier: Readings | None = None
    throttled: bool = False
    step_tokens: int | None = None
    scalers: Mapping[str, tuple[Autoscaler, ...]] = field(default_factory=dict)
    nodes: tuple[Node, ...] = field(default_factory=lambda: (node(), node("node-l4", L4)))

    @property
    def ready(self) -> int:
        return sum(run.is_ready for run in self.variants.values())

    @property
    def load(self) -> float:
        return sum(run.running for run in self.variants.values())

    def cluster(self) -> ClusterView:
        pods = [one for name, run in self.variants.items() for one in pods_of(name, run)]
        return ClusterView(
            nodes={one.name: one for one in self.nodes},
            pods={one.ref: one for one in pods},
            workloads=tuple(
                workload(
                    name,
                    run.replicas,
                    ready=run.is_ready,
                    owned=self.service.target is None,
                    tuning=Tuning(self.throttled, self.step_tokens),
                    scalers=self.scalers.get(name, ()),
                )
                for name, run in self.variants.items()
            ),
            services={self.service.key: self.service},
            memories={self.service.key: self.memory},
            policies=(self.policy,) if self.policy else (),
            zones=(self.zone.zone,),
            profiles=self.profiles,
        )

    def snapshot(self) -> Snapshot:
        """By default the cycle before saw the same counters, and the load was the same for long enough."""
        seen = self.readings or readings(self.variants, at=self.now)
        before = self.previous or readings(self.variants, at=Instant(self.now - CYCLE))
        total = sum(run.replicas for run in self.variants.values())
        history = watched(self.load, self.ready, now=self.now, desired=total) if self.history is None else self.history
        return Snapshot(
            at=self.now,
            cluster=self.cluster(),
            readings=seen,
            zones={self.zone.zone.name: self.zone},
            history={self.service.key: history},
            habits={self.service.key: Habits(self.arrivals)},
            previous=before,
            earlier=self.earlier or before,
        )


def beside(one: Snapshot, key: ServiceKey) -> Snapshot:
    """With a second service that has pods, engines, GPUs and a load like those of the first."""
    cluster, seen = one.cluster, one.readings

    def like(found: PodRef) -> PodRef:
        return PodRef(key.namespace, f"x-{found.name}")

    pods = {like(found): replace(pod, ref=like(found), service=key) for found, pod in cluster.pods.items()}
    gpus = {f"x-{u}": replace(g, uuid=f"x-{u}", holder=g.holder and like(g.holder)) for u, g in seen.gpus.items()}
    engines = {like(found): engine for found, engine in seen.engines.items()}
    return replace(
        one,
        cluster=replace(
            cluster,
            services={**cluster.services, key: service(key=key)},
            pods={**cluster.pods, **pods},
            workloads=(*cluster.workloads, *(replace(each, service=key) for each in cluster.workloads)),
        ),
        readings=replace(seen, gpus={**seen.gpus, **gpus}, engines={**seen.engines, **engines}),
        history={**one.history, key: one.history[CHAT]},
    )
