"""How variants are exchanged: the new one is made ready before the old one is broken, or is given up.

Levers decide which one is to serve; once a switch is under way it is brought to an end here, whoever began it. Where a
power cap does not pay for both at once they are exchanged a replica at a time: one goes, and in its place one comes.
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
from fallow.planner.shifting import Shift, held, shifted, steps_to
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
    goal = _replicas_for(context, chosen)
    count = min(_may_come(context, chosen, goal), goal)
    rules = steps_to(context, chosen, goal)
    if rules is not None:
        count = Shift(context, lever, chosen, rules, goal).next
    stops = (*change.stops, *guards.raised(held(context, chosen)))
    if (not count and not _may_give(context)) or _is_over(context):
        stops = (*stops, _no_power(context, chosen))
    if stops:
        return Proposal(lever, stops[0].reason, f"{chosen.name} would serve: {why}; {stops[0].message}", vetoes=stops)
    message, replicas = f"{context.serving.name} to {chosen.name}: {why}", {**context.current, chosen.name: count}
    if rules is not None and count < goal:
        message = f"{message}; {count} of {goal} replicas first, watched for {rules.watch:.0f} s"
    if not count:
        message = f"{message}; the power cap does not pay for both, so a replica goes first"
        replicas[context.serving.name] -= 1
    return Proposal(
        lever,
        change.reason,
        message,
        replicas,
        saves=change.saves,
        switching_to=chosen.name,
        spared=change.spared,
        goal=goal,
        before=None if rules is None else context.replicas,
    )


def guarded(context: Context, chosen: Variant) -> tuple[Veto, ...]:
    """What is in the way of any switch that is not urgent."""
    return guards.raised(
        guards.freshness(context), guards.pending(context), *guards.pace(context), _room(context, chosen)
    )


def is_as_good(context: Context, variant: Variant) -> bool:
    """Whether a switch to it is one between variants that are as good."""
    return variant in context.peers and context.serving in context.peers


def _kept(context: Context, lever: str, target: str) -> Proposal:
    """An autoscaler of others looks at one Deployment: a switch would take its load away from under it."""
    scaler = next(iter(context.scalers.values()))
    message = f"the switch to {target} waits: {scaler} owns the replicas of one variant; delete it"
    return Proposal(lever, Reason.LEFT_TO_AUTOSCALER, message)


def _continue(context: Context, lever: str, target: str) -> Proposal:
    """By steps (planner/shifting.py) where it began so, else as soon as all of the new variant is ready."""
    variant, old, asked = context.service.variant(target), context.serving.name, context.current.get(target, 0)
    if context.policy.caps_power and context.cap is None:
        return Proposal(lever, Reason.SWITCHING, f"{target} waits for what the power cap leaves")
    if variant is None or (asked == 0 and not _has_made_way(context)):
        message = f"{target} is gone; {old} keeps serving"
        known = {**context.current, old: max(context.replicas, min(context.memory.before or 0, context.ceiling))}
        return Proposal(lever, Reason.NOT_READY, message, known, serving=old, switching_to="")
    called_off = _called_off(context, variant)
    wanted = asked if called_off is not None else _wanted(context, variant)
    rules = steps_to(context, variant, wanted)
    if rules is not None:
        return shifted(Shift(context, lever, variant, rules, wanted), called_off)
    return _at_once(context, lever, variant, wanted, called_off)


def _at_once(
    context: Context, lever: str, variant: Variant, wanted: int, called_off: tuple[Reason, str] | None
) -> Proposal:
    """Cut over once the new variant carries as many replicas as asked for; give up after the deadline.

    What is ready is taken away neither on missing signals nor when it is more than the old variant has.
    """
    old, target, veto = context.serving.name, variant.name, guards.freshness(context)
    asked, ready = context.current.get(target, 0), context.ready(target)
    stays = {**context.current, target: ready if _is_partly_done(context) else 0}
    better = ready > context.ready(old)
    if called_off is not None and not better and veto is None:
        reason, why = called_off
        return Proposal(lever, reason, f"{why}; {old} keeps serving", stays, serving=old, switching_to="")
    exchanged = _over_cap(context, lever, variant) or _exchanged(context, lever, variant, wanted)
    if exchanged is not None:
        return exchanged
    if ready >= asked > 0 and (asked >= wanted or not context.replicas) and veto is None:
        message = f"{target} is ready with {ready} replicas; {old} drains"
        replicas = {**context.current, old: 0}
        return Proposal(lever, Reason.SWITCH_COMPLETE, message, replicas, serving=target, switching_to="")
    if _is_late(context) and not better and veto is None:
        message = f"{target} had {ready} of {asked} replicas ready after {STARTING_LIMIT:.0f} s; {old} keeps serving"
        return Proposal(lever, Reason.NOT_READY, message, stays, serving=old, switching_to="")
    message = f"{target} has {ready} of {asked} replicas ready; {old} serves until then"
    if veto is not None:
        return Proposal(lever, veto.reason, f"{message}; {veto.message}", vetoes=(veto,))
    return Proposal(lever, Reason.SWITCHING, message)


def _exchanged(context: Context, lever: str, variant: Variant, wanted: int) -> Proposal | None:
    """More of the new variant until it is to have no more, as far as a power cap pays for them beside the old one; else
    in the place of one of the old, that goes once all of the new are ready. None where neither is to be waited for.
    """
    old, target = context.serving.name, variant.name
    asked, ready = context.current.get(target, 0), context.ready(target)
    if asked >= wanted:
        return None
    count = min(_may_come(context, variant, wanted), wanted - asked)
    if count:
        words = f"{old} grew meanwhile" if context.cap is None else "there is power for more"
        message = f"{words}; {target} gets {asked + count} replicas"
        return Proposal(lever, Reason.SWITCHING, message, {**context.current, target: asked + count})
    if asked and ready >= asked and _may_give(context) and guards.freshness(context) is None:
        message = f"{target} is ready with {ready} of {wanted} replicas; one of {old} leaves its power to the next"
        return Proposal(lever, Reason.SWITCHING, message, {**context.current, old: context.current[old] - 1})
    if _is_late(context) or (not context.replicas and ready >= asked and not _is_draining(context)):
        return None
    message = f"{target} has {ready} of {wanted} replicas; the next waits for power under the cap"
    return Proposal(lever, Reason.SWITCHING, message)


def _over_cap(context: Context, lever: str, variant: Variant) -> Proposal | None:
    """Fewer of both where a cap pays for fewer than run: of the old as long as one is left, then of those that start.

    Where not even one of each is paid for, the switch ends with the one that serves.
    """
    cap, old, target = context.cap, context.serving.name, variant.name
    asked, ready = context.current.get(target, 0), context.ready(target)
    if cap is None or cap.replicas is None or context.replicas + asked <= cap.replicas or guards.freshness(context):
        return None
    over = context.replicas + asked - cap.replicas
    goes = min(over, max(context.replicas - 1, 0))
    stays = max(asked - (over - goes), ready)
    message = f"the power cap of {cap.policy} pays for {cap.replicas} replicas of {old} and {target} together"
    # of the old there may be no Deployment any more
    replicas = {**context.current, **({old: context.replicas - goes} if goes else {}), target: stays}
    if replicas == dict(context.current):
        return None
    if not stays:
        return Proposal(lever, Reason.POWER_CAP, message, replicas, serving=old, switching_to="")
    return Proposal(lever, Reason.POWER_CAP, message, replicas)


def _may_come(context: Context, variant: Variant, wanted: int) -> int:
    """Replicas of it that a power cap pays for now beside all that run, or in the place of those of the old that went
    for it and draw no more.
    """
    if context.cap is None:
        return max(context.ceiling, 1)
    gone = wanted - context.replicas - context.current.get(variant.name, 0)
    return context.cap.room(variant.gpus, 0 if _is_draining(context) else max(gone, 0))


def _may_give(context: Context) -> bool:
    """Whether one of the old replicas may go before another comes, so that enough of both are left."""
    left = context.replicas - 1
    enough = left >= 0 and left + context.beside >= max(context.floor, 1)
    return context.cap is not None and enough and not _is_draining(context)


def _is_over(context: Context) -> bool:
    """Whether replicas are to go for a cap first."""
    cap = context.cap
    return cap is not None and cap.replicas is not None and context.replicas > cap.replicas


def _is_draining(context: Context) -> bool:
    """Whether replicas that are to go are still there."""
    old = sum(1 for pod in context.pods if pod.variant == context.serving.name and not pod.deleting)
    return old > context.replicas or any(pod.deleting for pod in context.pods)


def _has_made_way(context: Context) -> bool:
    """Whether one of the old replicas went for the first of the new, which may still come."""
    return context.cap is not None and context.memory.goal is not None and not _is_late(context)


def _is_partly_done(context: Context) -> bool:
    """Whether some of the old have gone already: those in their place are then let go as the load permits."""
    return context.cap is not None and max(context.memory.goal or 0, context.memory.before or 0) > context.replicas


def _is_late(context: Context) -> bool:
    started = context.memory.changed_at
    return started is not None and context.now - started > STARTING_LIMIT


def _no_power(context: Context, variant: Variant) -> Veto:
    """Both at once would break the cap, and none may go first."""
    left = "" if context.cap is None else f" of {context.cap.policy}"
    message = (
        f"the power cap{left} does not pay for a replica of {variant.name} beside the {context.replicas} of "
        f"{context.serving.name}, and none of those may go first"
    )
    return Veto("power", Reason.POWER_CAP, message)


def _called_off(context: Context, target: Variant) -> tuple[Reason, str] | None:
    """Why the switch under way is not wanted any more.

    A lesser variant is for an enforced policy to bring, or for a person who approved it; one as good for a policy that
    matches hardware; the reference may always come back. What a person approved, that person may take back.
    """
    policy, service, approval = context.policy, context.service, context.memory.approval
    worse = held(context, target)
    if worse is not None:
        return worse.reason, f"{target.name} goes: {worse.message}"
    recommends = policy.mode is Mode.RECOMMEND
    if recommends and approval and service.rejected == approval != service.approved:
        return Reason.REJECTED, f"the switch to {target.name} is rejected ({approval})"
    if target in context.peers and policy.hardware is not None:
        is_asked_for = policy.mode is not Mode.OBSERVE
    else:
        is_let = policy.mode is Mode.ENFORCE or (recommends and approval != "")
        is_asked_for = target == service.reference or (policy.precision is not None and is_let)
    return None if is_asked_for else (Reason.TIER_ENDED, f"no policy asks for {target.name} any more")


def needed(context: Context, variant: Variant) -> int:
    """Replicas of a variant with the capacity that serves now, and not fewer: a larger one proves itself first.

    Of one as good as many as the recent peak asks for there, where that is known.
    """
    if is_as_good(context, variant) and (found := replicas_for(context, variant)) is not None:
        return found
    served = max(context.replicas, context.memory.before or 0)
    have = context.capacity[context.serving.name].concurrency * served
    return max(served, 1, ceil(have / context.capacity[variant.name].concurrency - 1e-9))


def _wanted(context: Context, variant: Variant) -> int:
    """Replicas that the variant which is switched to is to have, of those that a cap pays for."""
    asked = context.current.get(variant.name, 0)
    wanted = min(max(context.memory.goal or 0, needed(context, variant)), max(context.ceiling, 1))
    return max(asked, wanted if context.cap is None else min(wanted, context.cap.paid))


def _replicas_for(context: Context, variant: Variant) -> int:
    return min(needed(context, variant), max(context.ceiling, 1))


def _room(context: Context, variant: Variant) -> Veto | None:
    """Where maxReplicas is in the way of equal capacity, the watched load must fit under it."""
    carried = context.capacity[variant.name].concurrency * context.ceiling
    peak = max((point.in_flight for point in context.history), default=0.0)
    if needed(context, variant) <= context.ceiling or peak <= carried:
        return None
    message = f"{context.ceiling} replicas of {variant.name} carry {carried:.0f} requests, the peak was {peak:.0f}"
    return Veto("limits", Reason.MAX_REPLICAS, message)
