"""How variants are exchanged: the new one is made ready before the old one is broken, or is given up.

Levers decide which one is to serve; once a switch is under way it is brought to an end here, whoever began it.
"""

from dataclasses import dataclass
from math import ceil

from fallow.domain.plans import Veto
from fallow.domain.policies import Mode
from fallow.domain.reasons import Reason
from fallow.domain.units import Watts
from fallow.domain.workloads import Variant
from fallow.planner import guards
from fallow.planner.context import STARTING_LIMIT, Context, Proposal
from fallow.planner.fleets import replicas_for
from fallow.planner.weighing import Spared


@dataclass(frozen=True, slots=True)
class Change:
    """Why a switch begins, what it saves if that is known (`spared`: by place, if between two), and what says no."""

    reason: Reason
    saves: Watts | None
    stops: tuple[Veto, ...]
    spared: tuple[Spared, ...] = ()


def under_way(context: Context, lever: str) -> Proposal | None:
    """The next step of the switch under way, on behalf of the `lever` that is told of it; None where there is none."""
    target = context.memory.switching_to
    if target is None:
        return None
    return _kept(context, lever, target) if context.scalers else _continue(context, lever, target)


def begin(context: Context, lever: str, chosen: Variant, why: str, *, change: Change) -> Proposal:
    """Bring the chosen variant beside the one that serves, or say which guard is in the way."""
    stops = change.stops
    if stops:
        return Proposal(lever, stops[0].reason, f"{chosen.name} would serve: {why}; {stops[0].message}", vetoes=stops)
    return Proposal(
        lever,
        change.reason,
        f"{context.serving.name} to {chosen.name}: {why}",
        {**context.current, chosen.name: _replicas_for(context, chosen)},
        saves=change.saves,
        switching_to=chosen.name,
        spared=change.spared,
    )


def guarded(context: Context, chosen: Variant) -> tuple[Veto, ...]:
    """What is in the way of any switch that is not urgent."""
    return guards.raised(
        guards.freshness(context), guards.pending(context), *guards.pace(context), _room(context, chosen)
    )


def is_of_hardware(context: Context, variant: Variant) -> bool:
    """Whether a switch to it changes the hardware alone."""
    peers = context.service.peers
    return variant in peers and context.serving in peers


def _kept(context: Context, lever: str, target: str) -> Proposal:
    """An autoscaler of others looks at one Deployment: a switch would take its load away from under it."""
    scaler = next(iter(context.scalers.values()))
    message = f"the switch to {target} waits: {scaler} owns the replicas of one variant; delete it"
    return Proposal(lever, Reason.LEFT_TO_AUTOSCALER, message)


def _continue(context: Context, lever: str, target: str) -> Proposal:
    """Cut over once the new variant carries as many replicas as asked for; give up after the deadline.

    What is ready is taken away neither on missing signals nor when it is more than the old variant has.
    """
    variant, old = context.service.variant(target), context.serving.name
    asked, ready = context.current.get(target, 0), context.ready(target)
    if variant is None or asked == 0:
        message = f"{target} is gone; {old} keeps serving"
        return Proposal(lever, Reason.NOT_READY, message, dict(context.current), serving=old, switching_to="")
    stays = {**context.current, target: 0}
    called_off, veto = _called_off(context, variant), guards.freshness(context)
    started, better = context.memory.changed_at, ready > context.ready(old)
    if called_off is not None and not better and veto is None:
        reason, why = called_off
        return Proposal(lever, reason, f"{why}; {old} keeps serving", stays, serving=old, switching_to="")
    wanted = max(asked, _replicas_for(context, variant))
    if asked < wanted and called_off is None:
        message = f"{old} grew meanwhile; {target} gets {wanted} replicas"
        return Proposal(lever, Reason.SWITCHING, message, {**context.current, target: wanted})
    if ready >= asked and veto is None:
        message = f"{target} is ready with {ready} replicas; {old} drains"
        replicas = {**context.current, old: 0}
        return Proposal(lever, Reason.SWITCH_COMPLETE, message, replicas, serving=target, switching_to="")
    if started is not None and context.now - started > STARTING_LIMIT and not better and veto is None:
        message = f"{target} had {ready} of {asked} replicas ready after {STARTING_LIMIT:.0f} s; {old} keeps serving"
        return Proposal(lever, Reason.NOT_READY, message, stays, serving=old, switching_to="")
    message = f"{target} has {ready} of {asked} replicas ready; {old} serves until then"
    if veto is not None:
        return Proposal(lever, veto.reason, f"{message}; {veto.message}", vetoes=(veto,))
    return Proposal(lever, Reason.SWITCHING, message)


def _called_off(context: Context, target: Variant) -> tuple[Reason, str] | None:
    """Why the switch under way is not wanted any more.

    A lesser variant is for an enforced policy to bring, or for a person who approved it; one as good for a policy that
    matches hardware; the reference may always come back. What a person approved, that person may take back.
    """
    policy, service, approval = context.policy, context.service, context.memory.approval
    recommends = policy.mode is Mode.RECOMMEND
    if recommends and approval and service.rejected == approval != service.approved:
        return Reason.REJECTED, f"the switch to {target.name} is rejected ({approval})"
    if target in service.peers and policy.hardware is not None:
        is_asked_for = policy.mode is not Mode.OBSERVE
    else:
        is_let = policy.mode is Mode.ENFORCE or (recommends and approval != "")
        is_asked_for = target == service.reference or (policy.precision is not None and is_let)
    return None if is_asked_for else (Reason.TIER_ENDED, f"no policy asks for {target.name} any more")


def _needed(context: Context, variant: Variant) -> int:
    """Replicas of a variant with the capacity that serves now, and not fewer: a larger one proves itself first.

    On other hardware as many as the recent peak asks for there, where that is known.
    """
    if is_of_hardware(context, variant) and (found := replicas_for(context, variant)) is not None:
        return found
    have = context.capacity[context.serving.name].concurrency * context.replicas
    return max(context.replicas, 1, ceil(have / context.capacity[variant.name].concurrency - 1e-9))


def _replicas_for(context: Context, variant: Variant) -> int:
    return min(_needed(context, variant), max(context.ceiling, 1))


def _room(context: Context, variant: Variant) -> Veto | None:
    """Where maxReplicas is in the way of equal capacity, the watched load must fit under it."""
    carried = context.capacity[variant.name].concurrency * context.ceiling
    peak = max((point.in_flight for point in context.history), default=0.0)
    if _needed(context, variant) <= context.ceiling or peak <= carried:
        return None
    message = f"{context.ceiling} replicas of {variant.name} carry {carried:.0f} requests, the peak was {peak:.0f}"
    return Veto("limits", Reason.MAX_REPLICAS, message)
