"""From a window to one row for each GPU, part and holder: energy by use, and the signals that say so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from fallow.domain.readings import ActivitySource, PodRef
from fallow.domain.units import Joules, Seconds, energy
from fallow.domain.windows import (
    EnergyMethod,
    EngineSlot,
    GpuSlot,
    GpuWindow,
    Scaled,
    Survey,
    Tenure,
    Window,
    WorkloadRef,
)
from fallow.footprint.audit.holders import Hidden, hidden_holders
from fallow.footprint.audit.standby import Life, Standby
from fallow.footprint.audit.uses import (
    BUSY_ACTIVITY,
    DEFAULT_MAX_NUM_SEQS,
    Holder,
    Use,
    Verdict,
    mean_watts,
    shares,
    verdict,
    working_split,
)
from fallow.footprint.hardware import hardware_of, idle_ceiling, whole_name

_COPIES = "nvidia.com/gpu.replicas"
# a GPU that somebody holds, and nothing says who
UNNAMED = WorkloadRef("", "", "not named")


@dataclass(slots=True)
class Tally:
    """What was seen of one row; sums over its time, in W s, requests s and so on where a mean is to come of them."""

    seconds: float = 0.0
    uses: dict[Use, float] = field(default_factory=dict)
    methods: dict[EnergyMethod, float] = field(default_factory=dict)
    peak: float = 0.0
    activity: float = 0.0
    activity_seconds: float = 0.0
    activity_source: ActivitySource | None = None
    watts_seen: bool = False
    engine_seconds: float = 0.0
    requests: dict[PodRef, float] = field(default_factory=dict)
    running: float = 0.0
    busy: float = 0.0
    kv_usage: float = 0.0
    pods: set[PodRef] = field(default_factory=set)

    @property
    def joules(self) -> float:
        return sum(self.uses.values())


@dataclass(frozen=True, slots=True)
class RowKey:
    """`workload` None: nobody holds it."""

    uuid: str
    part: str
    workload: WorkloadRef | None


@dataclass(frozen=True, slots=True)
class Row:
    """`gpu_seconds`: how long the GPU was seen, whoever held it. `capacity` in requests, None where it is no engine."""

    key: RowKey
    gpu: GpuWindow
    product: str
    tally: Tally
    gpu_seconds: Seconds
    capacity: float | None
    capacity_declared: bool
    declared_by: str

    @property
    def energy(self) -> Joules:
        return Joules(self.tally.joules)

    def of(self, use: Use) -> Joules:
        return Joules(self.tally.uses.get(use, 0.0))


@dataclass(frozen=True, slots=True)
class _Place:
    """A tenure of a GPU's slot, with its part of the energy, resolved to whom it belongs."""

    gpu: GpuWindow
    number: int
    slot: GpuSlot
    tenure: Tenure
    joules: float
    pod: PodRef | None
    workload: WorkloadRef | None


def rows(window: Window, survey: Survey) -> tuple[Row, ...]:
    """In no order. The energies of all rows add up to those of all slots."""
    return _Reckoning(window, survey).rows()


class _Reckoning:
    def __init__(self, window: Window, survey: Survey) -> None:
        self._window = window
        self._survey = survey
        self._hidden = hidden_holders(window, survey)
        self._silent = {pod: not any(slot.worked for slot in slots.values()) for pod, slots in window.engines.items()}
        # where the exporter names one of several pods, the node's labels still tell that there are more
        self._in_turns = {name for name, node in survey.nodes.items() if node.labels.get(_COPIES, "1") not in {"", "1"}}
        self._products = {gpu.uuid: self._product(gpu) for gpu in window.gpus}
        self._tallies: defaultdict[RowKey, Tally] = defaultdict(Tally)

    def rows(self) -> tuple[Row, ...]:
        standby = self._standby()
        for place in self._places():
            self._book(place, standby)
        gpus = {gpu.uuid: gpu for gpu in self._window.gpus}
        lengths = {gpu.uuid: Seconds(sum(slot.seconds for slot in gpu.slots.values())) for gpu in self._window.gpus}
        return tuple(self._row(key, tally, gpus[key.uuid], lengths[key.uuid]) for key, tally in self._tallies.items())

    def _row(self, key: RowKey, tally: Tally, gpu: GpuWindow, length: Seconds) -> Row:
        scaled = self._scaled(key.workload)
        capacity, declared = self._capacity(max(tally.pods, default=None), scaled)
        return Row(
            key,
            gpu,
            self._products[key.uuid],
            tally,
            length,
            capacity if tally.engine_seconds > 0 else None,
            declared,
            scaled.declared_by,
        )

    def _places(self) -> Iterator[_Place]:
        for gpu in self._window.gpus:
            hardware = hardware_of(self._products[gpu.uuid])
            for number, slot in gpu.slots.items():
                if not slot.tenures:
                    yield _Place(gpu, number, slot, Tenure(None), slot.energy.value, None, UNNAMED)
                for seen, share in zip(slot.tenures, shares(slot, hardware), strict=True):
                    tenure = replace(seen, in_turns=True) if gpu.node in self._in_turns and not seen.part else seen
                    pod, workload = self._holder(gpu, number, tenure)
                    yield _Place(gpu, number, slot, tenure, slot.energy.value * share, pod, workload)

    def _holder(self, gpu: GpuWindow, number: int, tenure: Tenure) -> tuple[PodRef | None, WorkloadRef | None]:
        hidden: Hidden | None = self._hidden.get(gpu.node)
        if tenure.holder is not None:
            return tenure.holder, self._survey.workload_of(tenure.holder)
        if hidden is None:
            return None, None
        # a pod that took the GPU within the slot has the rest of it only: the next slot is its first
        if self._window.edges[number] < hidden.since:
            return None, None if hidden.meters_name else UNNAMED
        if hidden.must is None:
            return None, UNNAMED
        return hidden.must, self._survey.workload_of(hidden.must)

    def _standby(self) -> Mapping[WorkloadRef, Standby]:
        lives: defaultdict[WorkloadRef, Life] = defaultdict(Life)
        for place in self._places():
            if place.workload is not None and place.pod is not None:
                worked = self._verdict(place) in {Verdict.WORKED, Verdict.SPUN}
                lives[place.workload].note(place.pod, place.number, worked=worked)
        return {workload: Standby(life, self._scaled(workload), self._window.edges) for workload, life in lives.items()}

    def _verdict(self, place: _Place) -> Verdict:
        product = self._products[place.gpu.uuid]
        return verdict(place.slot, place.tenure, self._engine(place), product)

    def _engine(self, place: _Place) -> Holder:
        if place.pod is None:
            return Holder(None)
        capacity, _ = self._capacity(place.pod, self._scaled(place.workload))
        slot = self._window.engines.get(place.pod, {}).get(place.number)
        return Holder(slot, capacity, self._silent.get(place.pod, False))

    def _book(self, place: _Place, standby: Mapping[WorkloadRef, Standby]) -> None:
        tally = self._tallies[RowKey(place.gpu.uuid, place.tenure.part, place.workload)]
        _note(tally, place, self._window.engines.get(place.pod, {}).get(place.number) if place.pod else None)
        for use, joules in self._split(place, standby).items():
            tally.uses[use] = tally.uses.get(use, 0.0) + joules

    def _split(self, place: _Place, standby: Mapping[WorkloadRef, Standby]) -> Mapping[Use, float]:
        joules, product = place.joules, self._products[place.gpu.uuid]
        if place.workload is None:
            return {_free(place, product): joules}
        if place.pod is None:
            return {Use.UNKNOWN: joules}
        said = self._verdict(place)
        if said is Verdict.WORKED:
            seconds = Seconds(place.slot.seconds * place.tenure.weight)
            return working_split(
                joules, seconds, hardware_of(product).context, self._engine(place), place.tenure.activity
            )
        if said is Verdict.STILL:
            kept = standby[place.workload].share(place.pod, place.number)
            own = joules
            if place.tenure.in_turns:
                # what goes beyond its part of the loaded baseline is the others' work
                seconds = Seconds(place.slot.seconds * place.tenure.weight)
                own = min(joules, energy(hardware_of(product).context, seconds).value)
            return {Use.STANDBY: own * kept, Use.LOADED_IDLE: own * (1 - kept), Use.USEFUL: joules - own}
        return {Use.SPINNING if said is Verdict.SPUN else Use.UNKNOWN: joules}

    def _scaled(self, workload: WorkloadRef | None) -> Scaled:
        return Scaled() if workload is None else self._survey.scaled.get(workload, Scaled())

    def _capacity(self, pod: PodRef | None, scaled: Scaled) -> tuple[float, bool]:
        """Requests that one engine is meant to carry, and whether somebody declared it."""
        if scaled.capacity is not None:
            return scaled.capacity, True
        known = self._survey.pods.get(pod) if pod is not None else None
        if known is not None and known.max_num_seqs is not None:
            return known.max_num_seqs, True
        return DEFAULT_MAX_NUM_SEQS, False

    def _product(self, gpu: GpuWindow) -> str:
        """DCGM's name of this very GPU; a node's label can name one product only, and under MIG names its instances."""
        node = self._survey.nodes.get(gpu.node)
        return gpu.model or (whole_name(node.gpu_product) if node else "")


def _free(place: _Place, product: str) -> Use:
    """Nobody holds it; where it works all the same, somebody outside Kubernetes does."""
    watts, activity = mean_watts(place.slot), place.tenure.activity
    works = activity is not None and activity > BUSY_ACTIVITY
    draws = watts is not None and watts > idle_ceiling(product)
    return Use.UNKNOWN if works and (draws or place.tenure.part) else Use.UNALLOCATED


def _note(tally: Tally, place: _Place, engine: EngineSlot | None) -> None:
    slot, tenure = place.slot, place.tenure
    seconds = slot.seconds * tenure.time
    tally.seconds += seconds
    tally.methods[slot.method] = tally.methods.get(slot.method, 0.0) + place.joules
    tally.watts_seen |= slot.watts is not None
    for seen in (slot.peak, slot.watts) if len(slot.tenures) == 1 and not tenure.part else ():
        tally.peak = max(tally.peak, seen.value if seen else 0.0)
    if place.pod is not None:
        tally.pods.add(place.pod)
    if tenure.activity is not None:
        tally.activity += tenure.activity * seconds
        tally.activity_seconds += seconds
        tally.activity_source = tenure.activity_source
    if engine is not None:
        tally.engine_seconds += seconds
        if place.pod is not None:
            tally.requests[place.pod] = tally.requests.get(place.pod, 0.0) + engine.requests
        tally.running += engine.running * seconds
        tally.busy += (min(engine.running, 1.0) if engine.busy is None else engine.busy) * seconds
        tally.kv_usage += (engine.kv_usage or 0.0) * seconds
