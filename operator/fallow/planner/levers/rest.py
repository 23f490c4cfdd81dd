"""Scale to zero after a long enough quiet, and wake on demand.

Resting takes three agreeing signals for `idle.after`; waking takes one word from anybody: /scale, the annotation or a
request waiting outside.
"""

from fallow.domain.figures import Missing
from fallow.domain.plans import Veto
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds, Watts
from fallow.domain.workloads import IdleState
from fallow.footprint.hardware import hardware_of
from fallow.planner import autoscaled, guards
from fallow.planner.context import Context, Proposal
from fallow.planner.opening import start_seconds

NAME = "Rest"


def wake(context: Context) -> Proposal | None:
    """Why a resting service should run again, if anything asks for it.

    An adopted Deployment at zero may be its owner's doing, so minReplicas alone does not start it; a schedule does.
    """
    count = max(context.floor, 1)
    asked = context.service.wake_annotation
    if asked and asked != context.memory.wake_handled:
        return _woken(context, count, Reason.WAKE_ANNOTATION, f"annotation fallow.dev/wake is {asked!r}")
    outside = context.estimate.waiting_outside
    if not isinstance(outside, Missing) and outside > 0:
        message = f"{outside:.0f} requests wait for it"
        return _woken(context, count, Reason.WAKE_WAITING, message)
    requested = context.service.requested
    if requested and requested != context.memory.request_seen:
        return _woken(context, max(count, requested), Reason.WAKE_SCALE, f"/scale asks for {requested}")
    scaling = context.service.scaling
    if scaling.opened_by:
        message = f"opens {scaling.opened_by}: at least {scaling.min_replicas} replicas"
        return _woken(context, count, Reason.SCHEDULE, message)
    if scaling.min_replicas > 0 and context.service.target is None:
        return _woken(context, count, Reason.MIN_REPLICAS, f"minReplicas is {scaling.min_replicas}")
    return None


def propose(context: Context) -> Proposal | None:
    """Rest a service that has been idle long enough; None where nothing speaks for resting."""
    rules = context.policy.idle
    if rules is None or not rules.release or sum(context.current.values()) == 0:
        return None
    state, since = context.estimate.evidence.state, context.memory.quiet_since
    if state is not IdleState.STANDBY or since is None:
        return None
    quiet = context.now - since
    if context.floor > 0:
        message = f"quiet for {quiet:.0f} s; {_floor_words(context)} keeps {context.floor} replicas"
        return Proposal(NAME, Reason.MIN_REPLICAS, message)
    if quiet < rules.after:
        message = f"quiet for {quiet:.0f} s, rests after {rules.after:.0f} s"
        return Proposal(NAME, Reason.NOT_IDLE_LONG_ENOUGH, message)
    rested_by = autoscaled.rested_by(context.workloads.values())
    if rested_by is not None:
        message = f"quiet for {quiet:.0f} s; going to zero and coming back is left to {rested_by}"
        return Proposal(NAME, Reason.LEFT_TO_AUTOSCALER, message)
    vetoes = guards.raised(
        guards.freshness(context),
        guards.pending(context),
        guards.turn(context),
        guards.churn(context),
        _wake_objective(context, rules.wake_within),
    )
    if vetoes:
        return Proposal(NAME, vetoes[0].reason, vetoes[0].message, vetoes=vetoes)
    evidence = context.estimate.evidence
    message = f"quiet for {quiet:.0f} s: {evidence.requests}; {evidence.gpu_activity}; {evidence.watts}"
    return Proposal(
        NAME,
        Reason.IDLE_LONG_ENOUGH,
        message,
        dict.fromkeys(context.current, 0),
        saves=_saved(context),
        resting=True,
    )


def _wake_objective(context: Context, within: Seconds | None) -> Veto | None:
    """Who may not wait for a start is not put to rest."""
    if within is None:
        return None
    takes = start_seconds(context.memory, context.serving, context.profiles, context.product, context.pods)
    if takes is not None and takes <= within:
        return None
    known = "how long a wake takes is not known" if takes is None else f"a wake takes {takes:.0f} s"
    return Veto("wake", Reason.WAKE_TOO_LONG, f"{known}, idle.wakeWithin is {within:.0f} s")


def _woken(context: Context, count: int, reason: Reason, message: str) -> Proposal:
    replicas = {**dict.fromkeys(context.current, 0), context.serving.name: min(count, max(context.ceiling, 1))}
    return Proposal(NAME, reason, message, replicas, resting=False)


def _floor_words(context: Context) -> str:
    if context.service.scaling.min_replicas >= context.floor:
        return context.service.scaling.minimum_words
    return f"/scale asked for {context.service.requested} less than idle.after ago and"


def _saved(context: Context) -> Watts | None:
    """The draw now, less that of the empty GPUs that remain."""
    if isinstance(context.estimate.watts, Missing) or context.product is None:
        return None
    gpus = sum(
        context.asked(name) * variant.gpus
        for name in context.current
        if (variant := context.service.variant(name)) is not None
    )
    left = hardware_of(context.product).bare * gpus
    return max(context.estimate.watts - left, Watts(0), key=lambda watts: watts.value)
