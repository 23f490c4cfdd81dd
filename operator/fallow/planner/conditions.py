"""The standard conditions of an InferenceService, from what was seen and planned."""

from collections.abc import Mapping

from fallow.domain.figures import Missing
from fallow.domain.plans import Condition
from fallow.domain.policies import Mode
from fallow.domain.reasons import Reason
from fallow.domain.workloads import ServiceMemory
from fallow.planner import autoscaled
from fallow.planner.context import Context
from fallow.planner.guards import missed_objectives


def conditions(context: Context, replicas: Mapping[str, int], memory: ServiceMemory) -> tuple[Condition, ...]:
    return (
        _ready(context, replicas, memory),
        _serving(context, memory),
        _converged(context, replicas),
        _objectives(context),
        _fresh(context),
        _policy(context),
    )


def _ready_pods(context: Context) -> int:
    return sum(1 for pod in context.pods if pod.ready and not pod.deleting)


def _ready(context: Context, replicas: Mapping[str, int], memory: ServiceMemory) -> Condition:
    ready = _ready_pods(context)
    if ready:
        return Condition("Ready", status=True, reason=Reason.AS_ASKED, message=f"{ready} replicas are ready")
    target = context.service.target
    if target is not None and not context.workloads:
        message = f"there is no Deployment {target} in {context.service.key.namespace}; create it or another targetRef"
        return Condition("Ready", status=False, reason=Reason.TARGET_NOT_FOUND, message=message)
    at_zero = _at_zero(context, memory)
    if sum(replicas.values()) == 0 and at_zero is not None:
        reason, words = at_zero
        return Condition("Ready", status=True, reason=reason, message=words)
    return Condition("Ready", status=False, reason=Reason.STARTING, message="no replica is ready yet")


def _at_zero(context: Context, memory: ServiceMemory) -> tuple[Reason, str] | None:
    """Why it is right that nothing runs, if it is."""
    if memory.resting:
        return Reason.RESTING, "rests at zero replicas and wakes on demand"
    rested_by = autoscaled.rested_by(context.workloads.values())
    if rested_by is not None and sum(context.current.values()) == 0:
        return Reason.RESTING, f"rests at zero replicas until {rested_by} starts it"
    if context.service.requested == 0:
        return Reason.STOPPED, "stopped through /scale"
    return (Reason.PAUSED, "paused before it was started") if context.service.paused else None


def _serving(context: Context, memory: ServiceMemory) -> Condition:
    ready = _ready_pods(context)
    if ready:
        return Condition("Serving", status=True, reason=Reason.ALL_READY, message=f"{memory.serving} serves")
    at_zero = _at_zero(context, memory)
    if sum(context.current.values()) == 0 and at_zero is not None:
        return Condition("Serving", status=False, reason=at_zero[0], message="no replica runs")
    return Condition("Serving", status=False, reason=Reason.STARTING, message="waiting for the first ready replica")


def _converged(context: Context, replicas: Mapping[str, int]) -> Condition:
    asked = {
        name: max(count, context.asked(name)) if count and name in context.scalers else count
        for name, count in replicas.items()
    }
    apart = [
        f"{variant} {context.ready(variant)} of {count} ready"
        for variant, count in sorted(asked.items())
        if context.ready(variant) != count
    ]
    if apart:
        return Condition("Converged", status=False, reason=Reason.STARTING, message="; ".join(apart))
    words = ", ".join(f"{variant} {count}" for variant, count in sorted(asked.items())) or "nothing runs"
    return Condition("Converged", status=True, reason=Reason.ALL_READY, message=words)


def _objectives(context: Context) -> Condition:
    wanted = context.service.objectives
    if wanted.ttft_p95 is None and wanted.itl_p95 is None:
        return Condition("ObjectivesMet", status=None, reason=Reason.NO_OBJECTIVES, message="none declared")
    missed = missed_objectives(context)
    if missed:
        # without the measured value: a condition is written when it changes, not whenever a number does
        message = "; ".join(f"{name} p95 is above its objective of {limit * 1e3:.0f} ms" for name, _, limit in missed)
        return Condition("ObjectivesMet", status=False, reason=Reason.OBJECTIVES_MISSED, message=message)
    for limit, measured in (
        (wanted.ttft_p95, context.estimate.ttft_p95),
        (wanted.itl_p95, context.estimate.itl_p95),
    ):
        if limit is not None and isinstance(measured, Missing):
            return Condition("ObjectivesMet", status=None, reason=measured.reason, message=measured.detail)
    return Condition("ObjectivesMet", status=True, reason=Reason.OBJECTIVES_MET, message="within the objectives")


def _fresh(context: Context) -> Condition:
    faults = [context.estimate.demand, *context.estimate.evidence.missing, context.estimate.waiting_outside]
    for fault in faults:
        if isinstance(fault, Missing) and fault.reason not in {Reason.NO_HISTORY, Reason.NOT_IDENTIFIABLE}:
            return Condition("MetricsFresh", status=False, reason=fault.reason, message=fault.detail)
    return Condition("MetricsFresh", status=True, reason=Reason.FRESH, message="all signals are fresh")


def _policy(context: Context) -> Condition:
    policy = context.policy
    conflict = autoscaled.rivals(context.workloads.values())
    if conflict is not None:
        message = autoscaled.rivals_text(*conflict)
        return Condition("PolicyApplied", status=False, reason=Reason.TWO_OWNERS, message=message)
    if not policy.name:
        message = "no EnergyPolicy selects this service; its replicas stay as declared"
        return Condition("PolicyApplied", status=False, reason=Reason.NO_POLICY, message=message)
    fixed = autoscaled.fixed(context.scaler)
    if fixed is not None and policy.scales:
        return Condition("PolicyApplied", status=False, reason=fixed.reason, message=fixed.message)
    words = {
        Mode.OBSERVE: "observes; nothing is changed",
        Mode.RECOMMEND: "recommends; nothing is changed",
        Mode.ENFORCE: "is enforced",
    }
    return Condition(
        "PolicyApplied", status=True, reason=Reason.POLICY_FOUND, message=f"{policy.name} {words[policy.mode]}"
    )
