"""A service's load now, from its ready pods' engine readings; any doubt makes it Missing, never zero."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from fallow.domain.figures import Missing
from fallow.domain.readings import EngineReading, PodRef, Queue, Queues, WaitingSeries
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint, Flow, Pod, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Service, Wake
from fallow.planner.lateness import late


def serving_pods(snapshot: Snapshot, service: Service) -> tuple[Pod, ...]:
    return snapshot.cluster.serving.get(service.key, ())


def engine_of(snapshot: Snapshot, pod: Pod, max_age: Seconds) -> EngineReading | Missing:
    """A pod's engine reading if it is there and young enough. That a new pod has none yet is no fault."""
    reading = snapshot.readings.engines.get(pod.ref)
    if reading is None:
        fault = snapshot.engine_fault(pod.ref) or Missing(Reason.NO_SERIES, f"no vLLM series for pod {pod.ref}")
        return not_seen_yet(snapshot, pod, fault, max_age)
    if is_stale(reading.at, snapshot.at, max_age):
        return Missing(Reason.STALE_SERIES, f"vLLM series of pod {pod.ref} are not from the last {max_age:.0f} s")
    before = snapshot.earlier.engines.get(pod.ref) if snapshot.earlier else None
    if before is not None and _is_frozen(before, reading, max_age):
        words = f"vLLM series of pod {pod.ref} stand still with {reading.running:.0f} requests running"
        return Missing(Reason.STALE_SERIES, words)
    return reading


def _is_frozen(before: EngineReading, now: EngineReading, max_age: Seconds) -> bool:
    """Old values with new times, or an engine that hangs: requests run and nothing at all moves."""
    if now.running <= 0 or now.at - before.at < max_age or advanced(before, now):
        return False
    return replace(before, at=now.at) == now


def not_seen_yet(snapshot: Snapshot, pod: Pod, fault: Missing, max_age: Seconds) -> Missing:
    """Series of a pod that is ready for less than `max_age` may still come: unknown, but nothing to warn of."""
    since = pod.ready_since
    if fault.reason is not Reason.NO_SERIES or since is None or snapshot.at - since > max_age:
        return fault
    return Missing(Reason.NO_HISTORY, f"pod {pod.ref} is new: {fault.detail}")


def is_stale(at: Instant, now: Instant, max_age: Seconds) -> bool:
    """Too old, or so far ahead that one of the two clocks is wrong."""
    return abs(now - at) > max_age


def demand_of(snapshot: Snapshot, service: Service, max_age: Seconds) -> DemandPoint | Missing:
    """Sum over ready pods; Missing names the first pod that could not be read."""
    answers = {pod.ref: engine_of(snapshot, pod, max_age) for pod in serving_pods(snapshot, service)}
    fault = next((answer for answer in answers.values() if isinstance(answer, Missing)), None)
    return fault or _summed(snapshot, service, answers)


def demand_at_least(snapshot: Snapshot, service: Service, max_age: Seconds) -> DemandPoint:
    """What the ready pods that could be read carry: the load is this or more."""
    answers = {pod.ref: engine_of(snapshot, pod, max_age) for pod in serving_pods(snapshot, service)}
    return _summed(snapshot, service, answers)


def _summed(snapshot: Snapshot, service: Service, answers: Mapping[PodRef, EngineReading | Missing]) -> DemandPoint:
    readings = [(pod, answer) for pod, answer in answers.items() if not isinstance(answer, Missing)]
    flow, late = _passed_through(snapshot, service, readings)
    loads = [_load(snapshot.readings.queues, pod, reading) for pod, reading in readings]
    usages = [reading.kv_usage for _, reading in readings if reading.kv_usage is not None]
    return DemandPoint(
        at=min((reading.at for _, reading in readings), default=snapshot.at),
        running=sum(load.running for load in loads),
        waiting=sum(load.waiting for load in loads),
        kv_mean=sum(usages) / len(usages) if usages and len(usages) == len(readings) else None,
        tokens_per_second=None if flow is None else flow.answers,
        ready=len(readings),
        desired=sum(workload.replicas for workload in snapshot.workloads_of(service.key)),
        flow=flow,
        late=late,
    )


def _load(queues: Queues | None, pod: PodRef, reading: EngineReading) -> EngineReading | Queue:
    """What was seen since the reading counts where it is more."""
    seen = None if queues is None or queues.at <= reading.at else queues.engines.get(pod)
    if seen is None or seen.running + seen.waiting <= reading.running + reading.waiting:
        return reading
    return seen


def advanced(before: EngineReading, now: EngineReading) -> bool:
    """Whether an engine did any work between two readings; a restarted engine counts as having worked."""
    return (
        now.requests != before.requests
        or now.generated_tokens != before.generated_tokens
        or now.prompt_tokens != before.prompt_tokens
    )


def outside_waiting(snapshot: Snapshot, service: Service, max_age: Seconds) -> float | Missing:
    """Requests held for the service outside its engines, by its wake metric; 0 where it names none.

    No series of a metric that was asked for and answered is zero waiting: such a metric exists only while it holds.
    A request seen waiting counts although other series failed; that nothing waits takes all of them.
    """
    wake = service.scaling.wake
    if wake is None:
        return 0.0
    waiting, fault = 0.0, snapshot.readings.waiting_fault
    for series in snapshot.readings.waiting:
        if not concerns(series, wake):
            continue
        if is_stale(series.at, snapshot.at, max_age):
            fault = Missing(Reason.STALE_SERIES, f"{wake.metric} is not from the last {max_age:.0f} s")
        else:
            waiting += series.value
    if snapshot.readings.queues is not None:
        waiting = max(waiting, held_back(snapshot.readings.queues, wake))
    return fault if fault is not None and waiting <= 0 else waiting


def concerns(series: WaitingSeries, wake: Wake) -> bool:
    return series.metric == wake.metric and all(series.labels.get(k) == v for k, v in wake.selector.items())


def held_back(queues: Queues, wake: Wake) -> float:
    """Requests that wait outside for a service, as just seen."""
    return sum(max(series.value, 0.0) for series in queues.waiting if concerns(series, wake))


def _passed_through(
    snapshot: Snapshot, service: Service, readings: list[tuple[PodRef, EngineReading]]
) -> tuple[Flow | None, float | None]:
    """The flow, and the rate of late requests; None where an engine has no reading before, or began anew since."""
    if snapshot.previous is None:
        return None, None
    came, began, answered, prompts, answers, running = (0.0,) * 6
    missed: list[float | None] = []
    engines, objectives = snapshot.previous.engines, service.objectives
    for pod, now in readings:
        before = engines.get(pod)
        if before is None or now.at <= before.at or now.generated_tokens < before.generated_tokens:
            return None, None
        seconds = now.at - before.at
        done, was_done, works, worked = now.requests, before.requests, now.running, before.running
        came += ((done + works + now.waiting) - (was_done + worked + before.waiting)) / seconds
        began += ((done + works) - (was_done + worked)) / seconds
        answered += ((done + works / 2) - (was_done + worked / 2)) / seconds
        computed = now.prompt_tokens - (now.cached_prompt_tokens or 0.0)
        prompts += (computed - (before.prompt_tokens - (before.cached_prompt_tokens or 0.0))) / seconds
        answers += (now.generated_tokens - before.generated_tokens) / seconds
        running += (worked + works) / 2
        found = late(before, now, objectives)
        missed.append(None if found is None else found / seconds)
    known = [one for one in missed if one is not None]
    return Flow(came, began, answered, prompts, answers, running), sum(known) if len(known) == len(missed) else None


def covers(points: tuple[DemandPoint, ...], now: Instant, window: Seconds, max_gap: Seconds) -> bool:
    """Whether history reaches back over the whole window without a gap longer than `max_gap`."""
    times = [point.at for point in points if now - point.at <= window + max_gap] + [now]
    return now - times[0] >= window and all(later - earlier <= max_gap for earlier, later in pairwise(times))
