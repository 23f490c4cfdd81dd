"""What the meters said: engine (vLLM), GPU (DCGM) and waiting-request readings, each with the time of its sample."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Hertz, Instant, Joules, Watts

# The flag is vLLM's; without it the counters are absent or stand at zero.
COUNTING = "start the engine with --enable-mfu-metrics"
NOT_COUNTED = Missing(Reason.NO_SERIES, f"vLLM does not estimate its FLOPs: {COUNTING}")


class PodRef(NamedTuple):
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts by upper bound in seconds, ascending; the last bound is infinity.

    Bounds may differ between engines and versions, so they travel with the counts. Those are kept as an array: of all
    that is read they are the most, and a tuple would take four times the memory.
    """

    bounds: tuple[float, ...]
    counts: Sequence[float]

    def __post_init__(self) -> None:
        if type(self.counts) is not array:
            object.__setattr__(self, "counts", array("d", self.counts))

    @property
    def packed(self) -> array[float]:
        """The counts as doubles in a row."""
        return self.counts  # type: ignore[return-value]  # made one where it was none


@dataclass(frozen=True, slots=True)
class Operations:
    """Since an engine started, for each of its GPUs: floating-point operations, and bytes that memory gave and took.

    vLLM reckons them from the model's shape and each step's tokens; nothing measures them.
    """

    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class EngineReading:
    """One vLLM pod, its engines (data-parallel ranks) summed.

    Gauges: `running` and `waiting` requests, `kv_usage` 0..1 (the fullest engine). Counters since the engine started:
    tokens, finished requests, those of them that `failed` (ended by an error, or left by their client) and engine
    iterations; None where this version does not expose one. `operations` are a GPU's in the mean of its engines.
    `at` is the time of the oldest gauge sample used.
    """

    at: Instant
    running: float
    waiting: float
    kv_usage: float | None
    prompt_tokens: float
    generated_tokens: float
    requests: float
    cached_prompt_tokens: float | None = None
    iterations: float | None = None
    asleep: bool = False
    model_name: str = ""
    ttft: Histogram | None = None
    itl: Histogram | None = None
    operations: Operations | Missing = NOT_COUNTED
    failed: float | None = None


class ActivitySource(StrEnum):
    """What says that a GPU, or a part of one, worked; of DCGM's fields the later ones say less."""

    ENGINE_ACTIVE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
    SM_ACTIVE = "DCGM_FI_PROF_SM_ACTIVE"
    GPU_UTIL = "DCGM_FI_DEV_GPU_UTIL"
    PROCESS_SM = "fallow_agent_process_sm_utilization_ratio"


@dataclass(frozen=True, slots=True)
class Power:
    watts: Watts
    at: Instant


@dataclass(frozen=True, slots=True)
class PowerLimit:
    """What a GPU's own controller lets it draw `now`, and between what this can be set; only where an agent sets it."""

    now: Watts
    lowest: Watts
    highest: Watts
    at: Instant


@dataclass(frozen=True, slots=True)
class ClockRange:
    """The SM clock that a GPU has `now` at most, and between what this can be set; only where an agent sets it."""

    now: Hertz
    lowest: Hertz
    highest: Hertz

    @property
    def share(self) -> float:
        return self.now / self.highest


@dataclass(frozen=True, slots=True)
class EnergyCounter:
    """Energy since the driver was loaded; falls back to zero when the driver reloads."""

    joules: Joules
    at: Instant


@dataclass(frozen=True, slots=True)
class Activity:
    """Share of time, 0..1, that the compute engine was busy."""

    ratio: float
    source: ActivitySource
    at: Instant


class Sharing(StrEnum):
    """How a GPU is handed out in parts: by MIG instance, or in turns (time-slicing, MPS)."""

    MIG = "MIG"
    TURNS = "time-slicing or MPS"


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a GPU that is handed out on its own, and who holds it; several pods may hold copies of one GPU.

    Shares of one `name` are copies of one MIG instance, which has `slices` of the GPU's compute slices (1 to 7) and a
    `profile` such as 1g.10gb; a copy in turns has neither.
    `activity` is that of the instance, or the SM share of the pod's processes; Missing where it is not measured.
    """

    name: str
    sharing: Sharing
    holder: PodRef | None
    slices: int
    activity: Activity | Missing
    profile: str = ""


class HostMeter(StrEnum):
    """Who counts a node's energy outside its GPUs: CPU packages and memory, not fans, network cards and supplies."""

    RAPL = "node-exporter RAPL"
    KEPLER = "Kepler"


@dataclass(frozen=True, slots=True)
class HostReading:
    """Energy counters of a node without its GPUs, by name: one for each package and each memory.

    The RAPL registers that node-exporter shows start anew at the end of their range; Kepler follows them beyond it.
    """

    node: str
    counters: Mapping[str, Joules]
    at: Instant
    meter: HostMeter


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One physical GPU, by UUID. `holder` is the one pod that the meters name for it, None for none or several.

    `shares` are its parts where it is handed out in parts, empty for a whole GPU. `limit` is None where no node agent
    sets its power limit, `clock` where none sets its clock.
    """

    uuid: str
    node: str
    model_name: str
    power: Power | Missing
    counter: EnergyCounter | Missing
    activity: Activity | Missing
    holder: PodRef | None
    shares: tuple[Share, ...] = ()
    limit: PowerLimit | None = None
    clock: ClockRange | None = None


@dataclass(frozen=True, slots=True)
class WaitingSeries:
    """A sample of a metric of waiting requests, with its labels, to be matched by `Wake.selector`."""

    metric: str
    labels: Mapping[str, str]
    value: float
    at: Instant


@dataclass(frozen=True, slots=True)
class Queue:
    """Requests in an engine."""

    running: float
    waiting: float


@dataclass(frozen=True, slots=True)
class Queues:
    """How many requests run and wait, and nothing else, as seen between two cycles `at` a time."""

    at: Instant
    engines: Mapping[PodRef, Queue] = field(default_factory=dict)
    waiting: tuple[WaitingSeries, ...] = ()


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything the meters said in one cycle. A pod or GPU that is absent was not seen; the faults say why.

    `queues` were seen since, where somebody looked: they tell of more load, and of nothing else.

    `hosts` are by node, where a host meter is read. `gpus_by_holder` are the same GPUs by the one pod that holds each,
    `shares_by_holder` the parts of those that several pods may hold.
    """

    at: Instant
    engines: Mapping[PodRef, EngineReading] = field(default_factory=dict)
    gpus: Mapping[str, GpuReading] = field(default_factory=dict)
    waiting: tuple[WaitingSeries, ...] = ()
    hosts: Mapping[str, HostReading] = field(default_factory=dict)
    engine_fault: Missing | None = None
    gpu_fault: Missing | None = None
    waiting_fault: Missing | None = None
    host_fault: Missing | None = None
    pod_faults: Mapping[PodRef, Missing] = field(default_factory=dict)
    queues: Queues | None = None
    gpus_by_holder: Mapping[PodRef, tuple[GpuReading, ...]] = field(init=False, repr=False, compare=False)
    shares_by_holder: Mapping[PodRef, tuple[tuple[GpuReading, Share], ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        held: dict[PodRef, list[GpuReading]] = {}
        shared: dict[PodRef, list[tuple[GpuReading, Share]]] = {}
        for gpu in self.gpus.values():
            if gpu.holder is not None:
                held.setdefault(gpu.holder, []).append(gpu)
                continue
            for share in gpu.shares:
                if share.holder is not None:
                    shared.setdefault(share.holder, []).append((gpu, share))
        object.__setattr__(self, "gpus_by_holder", {pod: tuple(gpus) for pod, gpus in held.items()})
        object.__setattr__(self, "shares_by_holder", {pod: tuple(parts) for pod, parts in shared.items()})
