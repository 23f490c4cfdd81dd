"""One frozen picture of everything a cycle knows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.figures import Missing
from fallow.domain.habits import Habits
from fallow.domain.policies import UTC, Policy
from fallow.domain.profiles import Profile
from fallow.domain.readings import PodRef, Readings
from fallow.domain.refusals import Refusal
from fallow.domain.tuning import PLAIN, Tuning
from fallow.domain.units import Instant
from fallow.domain.workloads import NO_MEMORY, Service, ServiceKey, ServiceMemory
from fallow.domain.zones import Spell, Zone, ZoneReading


@dataclass(frozen=True, slots=True)
class Node:
    """`gpus` are the physical ones, however they are handed out; `in_turns` where copies of each are (time-slicing).
    `instances`: into how many they are divided where pods ask for these as if they were GPUs (MIG's strategy `single`).

    `cordoned`: it takes no new pods. `emptying`: since when it is so by Fallow, which moves its replicas elsewhere;
    `kept_since`: when Fallow last gave that up. `pinned`: its owner tells autoscalers of nodes not to remove it.
    """

    name: str
    address: str
    labels: Mapping[str, str]
    gpus: int
    gpu_product: str
    ready: bool = True
    in_turns: bool = False
    cordoned: bool = False
    emptying: Instant | None = None
    kept_since: Instant | None = None
    instances: int = 0
    pinned: bool = False

    @property
    def places(self) -> int:
        """What pods can ask for as GPUs: the GPUs, or the instances that they are divided into."""
        return self.instances or self.gpus


class Shield(StrEnum):
    """Whether Fallow keeps autoscalers of nodes from moving a pod; OVER: it did, or never is to."""

    NONE = "None"
    UP = "Up"
    OVER = "Over"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that holds GPUs or belongs to a service. `service` and `variant` are None for foreign pods.

    `gpus` are all the GPUs or parts of them that it asked for; of these `instances` by their MIG profile, and `copies`
    of GPUs that are used in turns, where they have a name of their own.
    `placed`: when its node took it on, which containers that start anew do not change. `pinned`: its owner tells
    autoscalers of nodes not to move it.
    """

    ref: PodRef
    uid: str
    node: str
    address: str
    port: int
    gpus: int
    created: Instant
    ready: bool
    deleting: bool
    scheduled: bool
    service: ServiceKey | None = None
    variant: str | None = None
    started: Instant | None = None
    ready_since: Instant | None = None
    deleting_since: Instant | None = None
    instances: Mapping[str, int] = field(default_factory=dict)
    copies: int = 0
    placed: Instant | None = None
    shield: Shield = Shield.NONE
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment that serves a variant: replicas asked for and ready, as last seen.

    `tuning`: how Fallow has its engines started. `rolling`: pods of an older template are there yet. `scalers` are all
    the autoscalers that set its replicas; more than one is one too many.
    """

    namespace: str
    name: str
    service: ServiceKey
    variant: str
    replicas: int
    ready: int
    generation: int
    applied: str = ""
    owned: bool = True
    tuning: Tuning = PLAIN
    rolling: bool = False
    scalers: tuple[Autoscaler, ...] = ()

    @property
    def scaler(self) -> Autoscaler | None:
        """The one autoscaler that owns its replicas."""
        return self.scalers[0] if len(self.scalers) == 1 else None


@dataclass(frozen=True, slots=True)
class Invalid:
    """An object whose spec could not be read: `message` names the field and what to write."""

    kind: str
    namespace: str
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster as last watched; the metric source is not part of it.

    `leftovers` are autoscalers with a minimum of Fallow's whose Deployment no service claims any more.
    `pods_by_service`, those of them that are `serving` (ready, and to stay) and `workloads_by_service` are the same
    pods and workloads, found without searching; `rolling` are the services of which a workload is.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    pods: Mapping[PodRef, Pod] = field(default_factory=dict)
    workloads: tuple[Workload, ...] = ()
    services: Mapping[ServiceKey, Service] = field(default_factory=dict)
    memories: Mapping[ServiceKey, ServiceMemory] = field(default_factory=dict)
    policies: tuple[Policy, ...] = ()
    zones: tuple[Zone, ...] = ()
    profiles: tuple[Profile, ...] = ()
    invalid: tuple[Invalid, ...] = ()
    leftovers: tuple[Autoscaler, ...] = ()
    pods_by_service: Mapping[ServiceKey, tuple[Pod, ...]] = field(init=False, repr=False, compare=False)
    serving: Mapping[ServiceKey, tuple[Pod, ...]] = field(init=False, repr=False, compare=False)
    workloads_by_service: Mapping[ServiceKey, tuple[Workload, ...]] = field(init=False, repr=False, compare=False)
    rolling: frozenset[ServiceKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pods, workloads = defaultdict(list), defaultdict(list)
        for pod in self.pods.values():
            if pod.service is not None:
                pods[pod.service].append(pod)
        for workload in self.workloads:
            workloads[workload.service].append(workload)
        object.__setattr__(self, "pods_by_service", {key: tuple(found) for key, found in pods.items()})
        serving = {key: tuple(pod for pod in found if pod.ready and not pod.deleting) for key, found in pods.items()}
        object.__setattr__(self, "serving", serving)
        object.__setattr__(self, "workloads_by_service", {key: tuple(found) for key, found in workloads.items()})
        object.__setattr__(self, "rolling", frozenset(one.service for one in self.workloads if one.rolling))

    def memory_of(self, key: ServiceKey) -> ServiceMemory:
        return self.memories.get(key, NO_MEMORY)


@dataclass(frozen=True, slots=True)
class Flow:
    """Through a service's engines, per second: requests that `came`, that `began` (left the queue) and were `answered`,
    of those in work the half; tokens of prompts that were computed, not found in cache, and tokens of `answers`.
    `running`: requests in work meanwhile, in the mean; 0 where that is not known.
    """

    came: float
    began: float
    answered: float
    prompts: float
    answers: float
    running: float = 0.0


@dataclass(frozen=True, slots=True)
class DemandPoint:
    """A service's load at an instant, summed over its ready pods.

    Rates are per second since the readings before, None where there are none; `late` requests missed an objective.
    `desired` replicas were asked for then.
    """

    at: Instant
    running: float
    waiting: float
    kv_mean: float | None
    tokens_per_second: float | None
    ready: int
    desired: int
    flow: Flow | None = None
    late: float | None = None

    @property
    def in_flight(self) -> float:
        return self.running + self.waiting


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`previous` are the readings of the cycle before, `earlier` those at the start of the estimation window.

    `targets` are the requests in flight that one replica of a variant should carry, where that is known. `habits` are
    as of the cycle before until this one was estimated, and then of now.
    `spells` say what was read of each zone before, oldest first; empty: only the present is known. The calendar of a
    service is that of its zone in `time_zones`, of everything else that of `time_zone`. `refusal`: the API server says
    no to changes of nodes.
    """

    at: Instant
    cluster: ClusterView
    readings: Readings
    zones: Mapping[str, ZoneReading] = field(default_factory=dict)
    history: Mapping[ServiceKey, tuple[DemandPoint, ...]] = field(default_factory=dict)
    habits: Mapping[ServiceKey, Habits] = field(default_factory=dict)
    previous: Readings | None = None
    earlier: Readings | None = None
    targets: Mapping[tuple[ServiceKey, str], float] = field(default_factory=dict)
    spells: Mapping[str, tuple[Spell, ...]] = field(default_factory=dict)
    time_zones: Mapping[ServiceKey, str] = field(default_factory=dict)
    time_zone: str = UTC
    refusal: Refusal | None = None

    def pods_of(self, key: ServiceKey) -> tuple[Pod, ...]:
        return self.cluster.pods_by_service.get(key, ())

    def workloads_of(self, key: ServiceKey) -> tuple[Workload, ...]:
        return self.cluster.workloads_by_service.get(key, ())

    def engine_fault(self, pod: PodRef) -> Missing | None:
        """Why a pod's engine was not read, the most specific reason first."""
        return self.readings.pod_faults.get(pod) or self.readings.engine_fault
