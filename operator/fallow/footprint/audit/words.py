"""How sure a finding is, and in words why: what the signals said, in numbers that a reader can check."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from fallow.domain.readings import ActivitySource, PodRef
from fallow.domain.units import Seconds
from fallow.domain.windows import EnergyMethod, Survey, WorkloadRef
from fallow.footprint.audit.rows import UNNAMED, Row
from fallow.footprint.audit.uses import BUSY_ACTIVITY, Use
from fallow.footprint.hardware import UNKNOWN, hardware_of, idle_ceiling

# how long must be looked before a lack of work is sure, or likely
SURE, LIKELY = Seconds(3600), Seconds(300)


class Confidence(StrEnum):
    """From the weakest to the strongest."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


def confidence(row: Row, use: Use | None, coverage: float, survey: Survey) -> Confidence:
    """By how many signals agree, how long was looked, and how much of the window was seen."""
    signals = _by_signals(row, use, survey)
    limits = [signals, _by_time(row, use)]
    if coverage < 0.5:
        limits.append(Confidence.LOW)
    elif coverage < 0.9 or any(method is EnergyMethod.POWER for method in row.tally.methods):
        limits.append(Confidence.MEDIUM)
    return min(limits, key=list(Confidence).index)


def _by_time(row: Row, use: Use | None) -> Confidence:
    """That nobody holds a GPU is a fact at once; that nobody uses one shows with time."""
    if row.tally.seconds >= SURE:
        return Confidence.HIGH
    if row.tally.seconds >= LIKELY or use in {Use.UNALLOCATED, None}:
        return Confidence.MEDIUM
    return Confidence.LOW


def _by_signals(row: Row, use: Use | None, survey: Survey) -> Confidence:
    tally = row.tally
    if use is Use.UNALLOCATED:
        return Confidence.HIGH if row.gpu.node in survey.nodes else Confidence.MEDIUM
    if use is Use.UNDER_FILLED:
        return Confidence.MEDIUM if row.capacity_declared else Confidence.LOW
    if use is Use.SPINNING:
        return Confidence.MEDIUM if tally.engine_seconds > 0 else Confidence.LOW
    if use is None:
        unsure = tally.uses.get(Use.UNKNOWN, 0.0) > 0.5 * tally.joules
        return Confidence.LOW if unsure else Confidence.HIGH
    quiet = tally.activity_seconds > 0 and tally.activity <= BUSY_ACTIVITY * tally.activity_seconds
    profiled = quiet and tally.activity_source is ActivitySource.ENGINE_ACTIVE
    known = hardware_of(row.product) is not UNKNOWN
    still = known and tally.watts_seen and tally.joules <= idle_ceiling(row.product).value * tally.seconds
    if tally.engine_seconds > 0:
        return Confidence.HIGH if quiet or still else Confidence.MEDIUM
    if profiled and still:
        return Confidence.HIGH
    return Confidence.MEDIUM if quiet and (still or profiled) else Confidence.LOW


def evidence(rows: Sequence[Row], use: Use | None) -> str:
    """What was seen of one or several GPUs of one holder, under the use that accuses them (None: nothing does)."""
    row = rows[0]
    seconds = sum(one.tally.seconds for one in rows)
    watts = sum(one.tally.joules for one in rows) / max(seconds, 1e-9)
    parts = [f"{watts:.0f} W mean"]
    if use is not Use.UNALLOCATED and max(one.tally.peak for one in rows) > 1.25 * watts:
        parts[0] += f" (up to {max(one.tally.peak for one in rows):.0f} W)"
    activity = _activity(rows)
    span = duration(max((one.tally.seconds for one in rows), default=0.0))
    if row.key.workload is None:
        freely = "a process outside Kubernetes?" if row.of(Use.UNKNOWN) > row.of(Use.UNALLOCATED) else ""
        return ", ".join(text for text in (f"no pod held it for {span}", *parts, activity, freely) if text)
    if row.key.workload == UNNAMED:
        return ", ".join((f"held by a pod that the meter does not name, or not seen, for {span}", *parts))
    work = _work(rows, use, span)
    if use is None and not work:
        return ", ".join(text for text in (*parts, activity, f"over {span}") if text)
    kept = f"kept by {row.declared_by}" if row.declared_by and use in {Use.LOADED_IDLE, None} else ""
    return ", ".join(text for text in (work or f"no work in {span}", *parts, activity, kept) if text)


def _work(rows: Sequence[Row], use: Use | None, span: str) -> str:
    """What the engines did; empty for a pod that is none."""
    seconds = sum(one.tally.engine_seconds for one in rows)
    if seconds <= 0:
        return "busy without the power of work" if use is Use.SPINNING else ""
    if use is Use.SPINNING:
        return f"0 tokens in {span} from a vLLM engine that is busy"
    if use is Use.UNDER_FILLED:
        running = sum(one.tally.running for one in rows)
        busy = max(sum(one.tally.busy for one in rows), 1e-9)
        capacity = rows[0].capacity or 0.0
        origin = "" if rows[0].capacity_declared else ", vLLM's default"
        cache = sum(one.tally.kv_usage for one in rows) / seconds
        return f"{running / busy:.1f} of {capacity:g} requests in work{origin}, KV cache {cache:.0%}"
    # a pod on several GPUs is in several rows: its requests count once
    by_pod: dict[PodRef, float] = {}
    for one in rows:
        for pod, count in one.tally.requests.items():
            by_pod[pod] = max(by_pod.get(pod, 0.0), count)
    requests = round(sum(by_pod.values()))
    return f"{requests} request{'' if requests == 1 else 's'} in {span}"


def _activity(rows: Sequence[Row]) -> str:
    seconds = sum(one.tally.activity_seconds for one in rows)
    if seconds <= 0:
        return "activity not exported"
    mean = sum(one.tally.activity for one in rows) / seconds
    name = "utilisation" if rows[0].tally.activity_source is ActivitySource.GPU_UTIL else "activity"
    return f"{name} {mean:.0%}"


def duration(seconds: float) -> str:
    """As people say it: 45 s, 12 min, 7.5 h, 7 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.95 * length:
            return f"{round(seconds / length, 1):g} {unit}"
    return f"{seconds:.0f} s"


def advice(use: Use, workload: WorkloadRef | None) -> str:
    kind = workload.kind if workload else ""
    if use is Use.UNALLOCATED:
        return "remove nodes without pods (cluster autoscaler, Karpenter), or let work in"
    if use is Use.SPINNING:
        return "look into the pod: it keeps the GPU busy without a result"
    if use is Use.UNDER_FILLED:
        return "fewer replicas, a smaller GPU, or a share of one (MIG)"
    if kind == "Notebook":
        return "stop the notebook; let idle ones be culled"
    if kind in {"Job", "CronJob", "Pod"}:
        return "end it, or ask its owner"
    return "scale it to zero while nobody asks (Fallow: idle.after)"
