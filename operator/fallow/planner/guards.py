"""Guards: each can say no to taking capacity away, with its reason. None of them ever stops capacity from coming."""

from fallow.domain.estimates import ServiceEstimate
from fallow.domain.figures import Missing
from fallow.domain.plans import Veto
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds
from fallow.planner.context import Context
from fallow.planner.demand import covers


def raised(*answers: Veto | None) -> tuple[Veto, ...]:
    """Those of them that say no."""
    return tuple(veto for veto in answers if veto is not None)


def freshness(context: Context) -> Veto | None:
    return doubt(context.estimate)


def doubt(estimate: ServiceEstimate) -> Veto | None:
    """Load that is not known is not small: every signal must be there.

    Work on a shared GPU that may be a neighbour's keeps a service from being idle, but its requests are known.
    """
    for signal in (estimate.demand, estimate.waiting_outside, *estimate.evidence.missing):
        if isinstance(signal, Missing) and signal.reason is not Reason.NOT_IDENTIFIABLE:
            return Veto("freshness", Reason.DATA_MISSING, str(signal))
    return None


def dwell(context: Context) -> Veto | None:
    """Rest between two changes."""
    changed = context.memory.changed_at
    rest = context.policy.guards.dwell
    if changed is None or context.now - changed >= rest:
        return None
    return Veto("dwell", Reason.DWELL, f"last change {context.now - changed:.0f} s ago, dwell is {rest:.0f} s")


def pace(context: Context) -> tuple[Veto | None, ...]:
    """Time since the last change, others that change, changes of the day."""
    return dwell(context), turn(context), churn(context)


def turn(context: Context) -> Veto | None:
    """So many of the policy's services change at one time, and no more."""
    most, others = context.policy.guards.most_at_once, context.changing - {context.service.key}
    if most is None or len(others) < most:
        return None
    message = f"replicas of {len(others)} other services come or go, guards.maxConcurrentChanges is {most}"
    return Veto("turn", Reason.CHANGES_ELSEWHERE, message)


def churn(context: Context) -> Veto | None:
    """A service that was reduced often enough today keeps what it has."""
    most, memory = context.policy.guards.most_a_day, context.memory
    if most is None or memory.reduced_on != context.today or memory.reductions < most:
        return None
    message = f"reduced {memory.reductions} times today, guards.maxReductionsPerDay is {most}"
    return Veto("churn", Reason.ENOUGH_TODAY, message)


def pending(context: Context) -> Veto | None:
    """Replicas on their way count as capacity, and nothing is removed while they are, or while none is ready."""
    if context.pending:
        return Veto("pending", Reason.PENDING_CAPACITY, f"{context.pending} replicas are still starting")
    if context.replicas and not any(pod.ready and not pod.deleting for pod in context.pods):
        return Veto("pending", Reason.PENDING_CAPACITY, "no replica is ready")
    return None


def window(context: Context, length: Seconds) -> Veto | None:
    """Less is decided only on a window that was watched without a gap (so never right after a restart).

    An instant without any ready replica tells nothing about the load.
    """
    gap = Seconds(max(context.policy.guards.metrics_max_age, 1.0))
    if covers(tuple(point for point in context.history if point.ready > 0), context.now, length, gap):
        return None
    return Veto("window", Reason.WINDOW_NOT_FULL, f"load has not been watched for {length:.0f} s yet")


def objectives(context: Context) -> Veto | None:
    """A service that misses its objectives, or whose latency cannot be measured, keeps what it has."""
    if not context.policy.guards.objective_veto:
        return None
    missed = missed_objectives(context)
    if missed:
        words = (f"{name} p95 is {value * 1e3:.0f} ms, objective {limit * 1e3:.0f} ms" for name, value, limit in missed)
        return Veto("objectives", Reason.OBJECTIVE_VETO, "; ".join(words))
    for name, value, limit in _measured(context):
        if limit is not None and isinstance(value, Missing) and value.reason is not Reason.NO_WORK:
            return Veto("objectives", Reason.OBJECTIVE_VETO, f"{name} p95 is not known: {value}")
    return None


def missed_objectives(context: Context) -> tuple[tuple[str, Seconds, Seconds], ...]:
    """The declared latency objectives that the last window missed: name, measured, limit."""
    return tuple(
        (name, value, limit)
        for name, value, limit in _measured(context)
        if limit is not None and not isinstance(value, Missing) and value > limit
    )


def _measured(context: Context) -> tuple[tuple[str, Seconds | Missing, Seconds | None], ...]:
    estimate, wanted = context.estimate, context.service.objectives
    return (("TTFT", estimate.ttft_p95, wanted.ttft_p95), ("ITL", estimate.itl_p95, wanted.itl_p95))
