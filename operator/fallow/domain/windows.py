"""A stretch of the past as the meters and Kubernetes tell it, slot by slot: the material of an audit.

Slots are numbered; the same number means the same time for GPUs and engines. A slot that is absent was not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fallow.domain.figures import Missing
from fallow.domain.readings import ActivitySource, PodRef
from fallow.domain.snapshots import Node
from fallow.domain.units import Instant, Joules, Seconds, Watts


class EnergyMethod(StrEnum):
    """By the GPU's own counter, or by mean power times time where it has none."""

    COUNTER = "counter"
    POWER = "power"


@dataclass(frozen=True, slots=True)
class Tenure:
    """A GPU, or a part of one, in the hands of one pod during a slot; `holder` None: the meter names nobody.

    `part` is the MIG instance, empty for a whole GPU. `time` is the share of the slot in which the pod held it,
    `weight` that share times its share of the GPU; the weights of one slot add up to 1. Activities are means over its
    time, 0..1, None where not exported; where several pods use a GPU `in_turns` they are those of all of them.
    """

    holder: PodRef | None
    part: str = ""
    weight: float = 1.0
    time: float = 1.0
    in_turns: bool = False
    activity: float | None = None
    activity_source: ActivitySource | None = None
    sm: float | None = None
    tensor: float | None = None
    memory: float | None = None


@dataclass(frozen=True, slots=True)
class GpuSlot:
    """One GPU over one slot. `watts` is the mean of its power samples, `peak` the highest of them.

    Without tenures its energy was counted while nothing else was seen of it.
    """

    seconds: Seconds
    energy: Joules
    method: EnergyMethod
    watts: Watts | None = None
    peak: Watts | None = None
    tenures: tuple[Tenure, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuWindow:
    """One physical GPU; `index` is its number on the node as the exporter prints it."""

    uuid: str
    node: str
    model: str
    index: str
    slots: Mapping[int, GpuSlot]


@dataclass(frozen=True, slots=True)
class EngineSlot:
    """One vLLM pod over one slot, its `engines` (data-parallel ranks) summed.

    Requests finished and tokens (prompt and generated) are differences of counters; `running` and `waiting` are mean
    numbers of requests; `busy` is the share of time with at least one running; `kv_usage` the fullest engine's, 0..1.
    """

    requests: float
    tokens: float
    running: float
    waiting: float = 0.0
    busy: float | None = None
    kv_usage: float | None = None
    engines: int = 1

    @property
    def worked(self) -> bool:
        return self.requests > 0 or self.tokens > 0


@dataclass(frozen=True, slots=True)
class Served:
    """What an engine finished in a stretch of time: requests, and tokens of prompts and answers."""

    requests: float
    prompt_tokens: float
    generated_tokens: float


@dataclass(frozen=True, slots=True)
class Window:
    """`edges` has one entry more than there are slots: slot k lies between edges[k] and edges[k + 1].

    `source` says where it was read; `faults` say what could not be.
    """

    edges: tuple[Instant, ...]
    gpus: tuple[GpuWindow, ...]
    engines: Mapping[PodRef, Mapping[int, EngineSlot]]
    source: str
    faults: tuple[Missing, ...] = ()

    @property
    def start(self) -> Instant:
        return self.edges[0]

    @property
    def end(self) -> Instant:
        return self.edges[-1]

    @property
    def seconds(self) -> Seconds:
        return Seconds(self.end - self.start)


@dataclass(frozen=True, slots=True, order=True)
class WorkloadRef:
    """What a person calls the holder: Deployment, StatefulSet, Job, Notebook, InferenceService, else Pod."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Scaled:
    """What somebody declared about a workload's size; None where nobody did.

    `floor` replicas are to be kept, as `declared_by` says; one replica is meant to carry `capacity` requests.
    """

    floor: int | None = None
    declared_by: str = ""
    capacity: float | None = None


@dataclass(frozen=True, slots=True)
class HoldingPod:
    """A pod that asks for GPUs. `max_num_seqs` is what its engine was started with; None: vLLM's own default.

    `port` is where its metrics are, None where nothing says that it has some; `is_engine`: image or arguments say vLLM.
    """

    ref: PodRef
    workload: WorkloadRef
    node: str
    gpus: int
    started: Instant
    address: str = ""
    port: int | None = None
    is_engine: bool = False
    max_num_seqs: int | None = None


@dataclass(frozen=True, slots=True)
class ExporterPod:
    """A dcgm-exporter, which shows the GPUs of its node."""

    ref: PodRef
    address: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What Kubernetes says now: `exporters` by node, `controllers` by (namespace, name) for pods that are gone.

    A controller is found by what its pods' names begin with.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    pods: Mapping[PodRef, HoldingPod] = field(default_factory=dict)
    scaled: Mapping[WorkloadRef, Scaled] = field(default_factory=dict)
    exporters: Mapping[str, ExporterPod] = field(default_factory=dict)
    controllers: Mapping[tuple[str, str], WorkloadRef] = field(default_factory=dict)
    faults: tuple[Missing, ...] = ()

    def workload_of(self, pod: PodRef) -> WorkloadRef:
        """Its controller; for a pod that is gone the controller after which it was named, else the pod itself."""
        known = self.pods.get(pod)
        if known is not None:
            return known.workload
        stem = pod.name
        while "-" in stem:
            stem = stem.rpartition("-")[0]
            found = self.controllers.get((pod.namespace, stem))
            if found is not None:
                return found
        return WorkloadRef(pod.namespace, "Pod", pod.name)
