"""The idle verdict: requests, GPU activity and watts must all say quiet; one that says busy is enough for Active."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fallow.domain.estimates import IdleEvidence
from fallow.domain.figures import Missing
from fallow.domain.readings import Activity, GpuReading, Share
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint, Pod, Snapshot
from fallow.domain.units import Seconds, Watts
from fallow.domain.workloads import IdleState, Service
from fallow.planner.demand import advanced, is_stale, not_seen_yet, serving_pods

# A health check or a keep-alive kernel shows as a per cent or two; a single decode stream as tens.
BUSY_ACTIVITY = 0.03


class Held(NamedTuple):
    """A GPU of a pod, or the share of one that others may use as well: then its meters tell of all of them together."""

    gpu: GpuReading
    share: Share | None = None

    @property
    def activity(self) -> Activity | Missing:
        """The share's own, else the GPU's."""
        if self.share is None or isinstance(self.share.activity, Missing):
            return self.gpu.activity
        return self.share.activity

    def of_others(self, what: str) -> Missing | None:
        """Why a sign of work on a shared GPU may be that of others; None where the GPU is the pod's own."""
        if self.share is None:
            return None
        return Missing(
            Reason.NOT_IDENTIFIABLE, f"GPU {self.gpu.uuid} is shared, and {what}: whose work it is, is not measured"
        )


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal's answer; `busy` is None when it could not be read."""

    words: str
    busy: bool | None
    missing: Missing | None = None


def idle_evidence(
    snapshot: Snapshot,
    service: Service,
    demand: DemandPoint | Missing,
    *,
    max_age: Seconds,
    idle_ceiling: Callable[[str], Watts],
) -> IdleEvidence:
    """Judge the present instant: Active, Standby (quiet now), Unknown or Stale. Only time makes Standby into Idle.

    `idle_ceiling` gives the draw (W) up to which a loaded GPU of a model is not working.
    """
    pods = serving_pods(snapshot, service)
    if not pods:
        wanted = any(workload.replicas for workload in snapshot.workloads_of(service.key))
        words = "no replica is ready" if wanted else "no replica runs"
        state = IdleState.UNKNOWN if wanted else IdleState.IDLE
        return IdleEvidence(state, words, words, words)
    gpus = _gpus_of(snapshot, pods, max_age)
    if not isinstance(gpus, Missing):
        gpus = next((_frozen(held.gpu) for held in gpus if _is_frozen(snapshot, held.gpu, max_age)), gpus)
    signals = (
        _requests(snapshot, pods, demand, max_age),
        _activity(snapshot, gpus, max_age),
        _watts(snapshot, gpus, max_age, idle_ceiling),
    )
    missing = tuple(signal.missing for signal in signals if signal.missing is not None)
    requests, activity, watts = (signal.words for signal in signals)
    return IdleEvidence(_verdict(signals, missing), requests, activity, watts, missing)


def _verdict(signals: Sequence[Signal], missing: Sequence[Missing]) -> IdleState:
    if any(signal.busy for signal in signals):
        return IdleState.ACTIVE
    if any(fault.reason is Reason.STALE_SERIES for fault in missing):
        return IdleState.STALE
    if missing:
        return IdleState.UNKNOWN
    return IdleState.STANDBY


def _gpus_of(snapshot: Snapshot, pods: Sequence[Pod], max_age: Seconds) -> tuple[Held, ...] | Missing:
    if snapshot.readings.gpu_fault is not None and not snapshot.readings.gpus:
        return snapshot.readings.gpu_fault
    found: list[Held] = []
    readings = snapshot.readings
    for pod in pods:
        whole = readings.gpus_by_holder.get(pod.ref, ())
        held = [Held(gpu) for gpu in whole]
        if readings.shares_by_holder:
            held = [Held(gpu, share) for gpu, share in readings.shares_by_holder.get(pod.ref, ())] + held
        named = len(held) + sum(max(len(gpu.shares) - 1, 0) for gpu in whole if gpu.shares)
        if named < max(pod.gpus, 1):
            fault = snapshot.readings.gpu_fault
            if fault is not None and all(gpu.node != pod.node for gpu in snapshot.readings.gpus.values()):
                return fault
            words = f"dcgm-exporter names {named} of {max(pod.gpus, 1)} GPUs of pod {pod.ref}"
            return not_seen_yet(snapshot, pod, Missing(Reason.NO_SERIES, words), max_age)
        found.extend(held)
    return tuple(found)


def _requests(snapshot: Snapshot, pods: Sequence[Pod], demand: DemandPoint | Missing, max_age: Seconds) -> Signal:
    if isinstance(demand, Missing):
        return Signal(str(demand), None, demand)
    words = f"{demand.running:.0f} running, {demand.waiting:.0f} waiting"
    if demand.in_flight > 0:
        return Signal(words, busy=True)
    if snapshot.previous is None:
        return Signal(words + ", counters seen once", None, Missing(Reason.NO_HISTORY, "first reading since start"))
    if is_stale(snapshot.previous.at, snapshot.at, max_age):
        late = Missing(Reason.NO_HISTORY, f"nobody looked in the last {max_age:.0f} s")
        return Signal(words + ", not watched", None, late)
    for pod in pods:
        now, before = snapshot.readings.engines[pod.ref], snapshot.previous.engines.get(pod.ref)
        if before is None:
            return Signal(words + ", counters seen once", None, Missing(Reason.NO_HISTORY, f"pod {pod.ref} is new"))
        if advanced(before, now):
            return Signal(words + ", counters advanced", busy=True)
    return Signal(words + ", counters still", busy=False)


def _activity(snapshot: Snapshot, gpus: tuple[Held, ...] | Missing, max_age: Seconds) -> Signal:
    if isinstance(gpus, Missing):
        return Signal(str(gpus), None, gpus)
    highest = 0.0
    for held in gpus:
        activity = held.activity
        if isinstance(activity, Missing):
            return Signal(f"GPU {held.gpu.uuid}: {activity}", None, activity)
        if is_stale(activity.at, snapshot.at, max_age):
            stale = _stale("activity", held.gpu, max_age)
            return Signal(str(stale), None, stale)
        if held.share is not None and activity.ratio > BUSY_ACTIVITY and activity is held.gpu.activity:
            doubt = held.of_others(f"active {activity.ratio:.0%} of the time")
            if doubt:
                return Signal(str(doubt), None, doubt)
        highest = max(highest, activity.ratio)
    return Signal(f"GPU active {highest:.0%} of the time", busy=highest > BUSY_ACTIVITY)


def _watts(
    snapshot: Snapshot,
    gpus: tuple[Held, ...] | Missing,
    max_age: Seconds,
    idle_ceiling: Callable[[str], Watts],
) -> Signal:
    if isinstance(gpus, Missing):
        return Signal(str(gpus), None, gpus)
    total, ceilings, busy = 0.0, 0.0, False
    for held in gpus:
        gpu = held.gpu
        if isinstance(gpu.power, Missing):
            return Signal(f"GPU {gpu.uuid}: {gpu.power}", None, gpu.power)
        if is_stale(gpu.power.at, snapshot.at, max_age):
            stale = _stale("power", gpu, max_age)
            return Signal(str(stale), None, stale)
        ceiling = idle_ceiling(gpu.model_name)
        watts, works = gpu.power.watts.value, gpu.power.watts > ceiling
        doubt = held.of_others(f"draws {watts:.0f} W") if works and held.share is not None else None
        if doubt:
            return Signal(str(doubt), None, doubt)
        total, ceilings = total + watts, ceilings + ceiling.value
        busy = busy or works
    return Signal(f"{total:.0f} W against an idle ceiling of {ceilings:.0f} W", busy=busy)


def _stale(what: str, gpu: GpuReading, max_age: Seconds) -> Missing:
    return Missing(Reason.STALE_SERIES, f"{what} of GPU {gpu.uuid} is not from the last {max_age:.0f} s")


def _frozen(gpu: GpuReading) -> Missing:
    words = f"energy counter of GPU {gpu.uuid} stands still while it draws power; dcgm-exporter repeats old values"
    return Missing(Reason.STALE_SERIES, words)


def _is_frozen(snapshot: Snapshot, gpu: GpuReading, max_age: Seconds) -> bool:
    """A hung collector behind a live exporter gives old values with new times; only a standing counter betrays it."""
    before = snapshot.earlier.gpus.get(gpu.uuid) if snapshot.earlier else None
    if before is None or isinstance(before.counter, Missing) or isinstance(gpu.counter, Missing):
        return False
    stands = gpu.counter.joules == before.counter.joules and gpu.counter.joules.value > 0
    draws = stands and not isinstance(gpu.power, Missing) and gpu.power.watts.value > 0
    return draws and gpu.counter.at - before.counter.at >= max_age
