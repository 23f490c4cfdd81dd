"""Replica scaling from measured load: up quickly, down slowly.

The largest of five needs wins (requests in flight, KV cache, token rate, requests waiting outside, and the crests of
requests that come in bursts). Replicas on their way count as capacity. Down needs every signal, a watched window, a
rest since the last change, and peers that can carry the load of the replica that goes (N-1).
"""

from collections.abc import Iterator
from math import ceil

from fallow.domain.figures import Missing
from fallow.domain.plans import Veto
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint
from fallow.domain.units import Seconds, Watts
from fallow.footprint.hardware import hardware_of
from fallow.planner import autoscaled, guards
from fallow.planner.capacity import Capacity, profile_for
from fallow.planner.context import Context, Proposal
from fallow.planner.crests import Crests, highest, trailing
from fallow.planner.pauses import idle_share

NAME = "Replicas"
# vLLM starts to preempt when the KV cache is full; see docs/methodology.md, replica capacity
KV_TARGET = 0.8
# A replica goes only when the rest would run at this share of their target, so that it is not wanted back at once.
DEAD_BAND = 0.9
STEP_WINDOW = Seconds(60)
# Share of the replicas that may go at one time. A choice: HPA takes all, Knative half.
AT_ONCE = 0.2
# Knative KPA's panic-threshold-percentage of 200
PANIC = 2.0


def propose(context: Context) -> Proposal:
    """More or fewer replicas of the serving variant, or the reason why neither."""
    if not context.policy.scaling.enabled:
        return Proposal(NAME, Reason.LEVER_OFF, "replica scaling is off in the policy")
    fixed = autoscaled.fixed(context.scaler)
    if fixed is not None:
        return Proposal(NAME, fixed.reason, fixed.message, vetoes=(fixed,))
    demand, outside = context.estimate.demand, context.estimate.waiting_outside
    waiting = 0.0 if isinstance(outside, Missing) else outside
    capacity = context.capacity[context.serving.name]
    over = _over_budget(context)
    if over is not None:
        return over
    if isinstance(demand, Missing):
        return _in_doubt(context, demand, waiting, capacity)
    needed, reason, why = need(demand, waiting, capacity)
    sustained = needed if needed <= context.carrying else _sustained(context, needed, waiting, capacity)
    crests = Crests.of(context, capacity)
    if crests is not None and crests.now > max(sustained, context.carrying):
        return _more(context, crests.now, Reason.ARRIVALS, crests.words, sustained=crests.now)
    if needed > context.carrying:
        return _more(context, needed, reason, why, sustained=sustained)
    stray = min(context.strays, default=None)
    left = context.ready(context.serving.name) if stray else context.replicas - 1
    # mostly the present says already that none can go
    least = max(needed, context.floor, 1 if crests is None else crests.now)
    if least <= left and waiting == 0:
        lowest = max(_lowest_safe(context, capacity, crests), context.floor)
        if lowest <= left:
            return _fewer(context, lowest, capacity, crests, stray or context.serving.name)
    return _steady(context, demand, capacity, crests)


def _over_budget(context: Context) -> Proposal | None:
    """One replica fewer where more run than a budget pays for; None where none does.

    By every guard but that of the objectives and the load of the peers: the budget's owner has accepted that requests
    are late once it is used up. Without fresh signals, a watched window and a rest since the last change nothing goes.
    """
    budget = context.budget.ceiling
    if budget is None:
        return None
    runs, least = context.replicas + sum(context.strays.values()), max(context.floor, 1)
    if runs <= budget.shrinks_to(least):
        return None
    vetoes = guards.raised(
        guards.freshness(context),
        guards.pending(context),
        guards.window(context, context.policy.scaling.down_window),
        *guards.pace(context),
    )
    message = f"{runs} replicas run: {budget.words}"
    if vetoes:
        return Proposal(NAME, vetoes[0].reason, f"{message}; {vetoes[0].message}", vetoes=vetoes)
    goes = min(context.strays, default=context.serving.name)
    fewer = {**context.current, goes: context.current[goes] - 1}
    return Proposal(NAME, Reason.BUDGET_BURN, message, fewer, saves=_saved(context))


def _in_doubt(context: Context, fault: Missing, waiting: float, capacity: Capacity) -> Proposal:
    """An engine too busy to answer must not keep help away: what the others carry can ask for more, never for less."""
    seen = context.estimate.at_least
    if seen is not None:
        needed, reason, why = need(seen, waiting, capacity)
        if needed > context.carrying:
            sustained = _sustained(context, needed, waiting, capacity)
            return _more(context, needed, reason, f"at least {why}", sustained=sustained)
    veto = Veto("freshness", Reason.DATA_MISSING, str(fault))
    return Proposal(NAME, Reason.DATA_MISSING, veto.message, vetoes=(veto,))


def need(demand: DemandPoint, outside: float, capacity: Capacity) -> tuple[int, Reason, str]:
    """Replicas that the load of this instant asks for, with the signal that asks for most."""
    by_requests, by_cache, by_tokens = _by_signal(demand, outside, capacity)
    most, waiting = max(by_requests, by_cache, by_tokens), demand.waiting + outside
    if most == by_requests:
        reason = Reason.QUEUE_GROWING if waiting > 0 else Reason.CONCURRENCY
        words = f"{demand.in_flight + outside:.0f} requests in flight ({waiting:.0f} waiting)"
        return most, reason, f"{words}, {capacity.concurrency:.0f} a replica by {capacity.origin}"
    if most == by_cache:
        words = f"KV cache {demand.kv_mean:.0%} full over {demand.ready} replicas, target {KV_TARGET:.0%}"
        return most, Reason.KV_CACHE_FULL, words
    words = f"{demand.tokens_per_second:.0f} tokens/s, {capacity.tokens_per_second:.0f} a replica"
    return most, Reason.TOKEN_RATE, words


def _by_signal(demand: DemandPoint, outside: float, capacity: Capacity) -> tuple[int, int, int]:
    """Replicas for the requests in flight, for the KV cache and for the token rate; 0 for what is not known."""
    cache, tokens, each = demand.kv_mean, demand.tokens_per_second, capacity.tokens_per_second
    return (
        ceil((demand.in_flight + outside) / capacity.concurrency),
        0 if cache is None else ceil(cache * demand.ready / KV_TARGET - 1e-9),
        0 if tokens is None or not each else ceil(tokens / each - 1e-9),
    )


def _sustained(context: Context, needed: int, waiting: float, capacity: Capacity) -> int:
    """The fewest replicas that the load asked for over the up window: a spike shorter than that starts nothing.

    A need of twice what runs is no spike and is met at once, as in the panic window of Knative's autoscaler.
    """
    if needed >= PANIC * max(context.carrying, 1):
        return needed
    recent = context.lately(context.policy.scaling.up_window)
    return min([needed, *(max(_by_signal(point, waiting, capacity)) for point in recent)])


def _more(context: Context, needed: int, reason: Reason, why: str, *, sustained: int) -> Proposal:
    current, most = context.carrying, context.ceiling
    for guard, reason_not, limit, words in _limits(context):
        most = min(limit, most)
        if most <= current:
            message = f"{needed} replicas are needed ({why}) but {words}"
            return Proposal(NAME, reason_not, message, vetoes=(Veto(guard, reason_not, message),))
    if sustained <= current:
        message = f"{needed} replicas are needed ({why}), not yet for {context.policy.scaling.up_window:.0f} s"
        veto = Veto("window", Reason.WINDOW_NOT_FULL, message)
        return Proposal(NAME, Reason.WINDOW_NOT_FULL, message, vetoes=(veto,))
    base = max(min((point.desired for point in context.lately(STEP_WINDOW)), default=current), 1)
    step = max(int(base * context.policy.guards.max_step_per_minute), base + 1)
    target = min(sustained, most, step)
    if target <= current:
        message = f"{needed} replicas are needed ({why}); at most {step} this minute"
        veto = Veto("step", Reason.STEP_LIMIT, message)
        return Proposal(NAME, Reason.STEP_LIMIT, message, vetoes=(veto,))
    return Proposal(NAME, reason, why, {**context.current, context.serving.name: target - context.replaced})


def _limits(context: Context) -> Iterator[tuple[str, Reason, int, str]]:
    """What keeps replicas from growing: the guard, its reason, the most that it allows, and its words."""
    yield "limits", Reason.MAX_REPLICAS, context.ceiling, f"maxReplicas is {context.ceiling}"
    budget, cap, share = context.budget.ceiling, context.cap, context.around.share
    if budget is not None:
        yield "budget", Reason.BUDGET_BURN, budget.grows_to(max(context.floor, 1)), budget.words
    if cap is not None and cap.replicas is not None:
        yield "power", Reason.POWER_CAP, cap.replicas, f"the power cap of {cap.policy} pays for {cap.replicas}"
    if cap is not None and context.memory.switching_to is not None:
        room = cap.room(context.serving.gpus)
        words = f"the power cap of {cap.policy} pays for {room} beside those of both variants"
        yield "power", Reason.POWER_CAP, context.carrying + room, words
    if share is not None and share.replicas is not None:
        yield "share", Reason.GPUS_SHORT, share.replicas, share.words


def _lowest_safe(context: Context, capacity: Capacity, crests: Crests | None) -> int:
    """The fewest replicas that would have carried the whole down window inside the dead band.

    Where crests are provided for, requests in flight count by their means over the up window: a moment tells no more.
    """
    length = context.policy.scaling.down_window
    points = context.lately(length)
    cache = max([point.kv_mean * point.ready for point in points if point.kv_mean is not None], default=0.0)
    lowest = max(ceil(cache / (KV_TARGET * DEAD_BAND) - 1e-9), 1)
    if capacity.tokens_per_second:
        tokens = max([one.tokens_per_second for one in points if one.tokens_per_second is not None], default=0.0)
        lowest = max(lowest, ceil(tokens / (capacity.tokens_per_second * DEAD_BAND) - 1e-9))
    in_flight = [point.in_flight for point in points]
    if crests is not None:
        means = trailing([(point.at, point.in_flight) for point in points], context.policy.scaling.up_window)
        in_flight = [mean for _, mean in means]
        lowest = max(lowest, crests.needed(highest(context, length), filled=DEAD_BAND))
    return max(lowest, ceil(max(in_flight, default=0.0) / (capacity.concurrency * DEAD_BAND) - 1e-9))


def _fewer(context: Context, lowest: int, capacity: Capacity, crests: Crests | None, variant: str) -> Proposal:
    """One replica at a time, or half of what is too many up to a fifth of all; watched for a dwell before the next."""
    vetoes = guards.raised(
        guards.freshness(context),
        guards.pending(context),
        guards.window(context, context.policy.scaling.down_window),
        *guards.pace(context),
        guards.objectives(context),
    )
    if vetoes:
        first = vetoes[0]
        message = f"{lowest} replicas would do for the last window; {first.message}"
        return Proposal(NAME, first.reason, message, vetoes=vetoes)
    runs = context.replicas + sum(context.strays.values())
    goes = min(max((runs - lowest) // 2, 1), max(int(runs * AT_ONCE), 1), context.current[variant])
    length, left = context.policy.scaling.down_window, runs - goes
    peak = max((point.in_flight for point in context.lately(length)), default=0.0)
    message = (
        f"the last {length:.0f} s needed {lowest} of {runs} replicas; "
        f"{left} carry its peak of {peak:.0f} requests at {peak / left:.0f} of {capacity.concurrency:.0f} each"
    )
    if crests is not None:
        message = f"the last {length:.0f} s needed {lowest} of {runs} replicas; {crests.words}"
    return Proposal(
        NAME,
        Reason.LOAD_FELL,
        message,
        {**context.current, variant: context.current[variant] - goes},
        saves=None if (saved := _saved(context)) is None else saved * goes,
    )


def _saved(context: Context) -> Watts | None:
    """A removed replica saves what its loaded engine draws above empty GPUs: its share of the work moves to its peers.

    By the profile where it tells both levels, else by the constants of the GPU; None where the GPU is not known. Where
    its clocks fall while it is idle, only the rest of the time counts.
    """
    share = 1.0 - idle_share(context.history) if context.throttled else 1.0
    profile = profile_for(context.serving, context.profiles, context.product)
    if profile and profile.context_watts is not None and profile.idle_watts is not None:
        return (profile.context_watts - profile.idle_watts) * share
    if context.product is None:
        return None
    hardware = hardware_of(context.product)
    return (hardware.context - hardware.bare) * (context.serving.gpus * share)


def _steady(context: Context, demand: DemandPoint, capacity: Capacity, crests: Crests | None) -> Proposal:
    share = context.around.share
    if share is not None and share.given < context.replicas:
        return Proposal(NAME, Reason.GPUS_SHORT, share.words)
    limit = capacity.concurrency * context.carrying
    message = (
        f"{demand.in_flight:.0f} requests in flight on {demand.ready} replicas; "
        f"another is asked for above {limit:.0f} ({capacity.origin}){'' if crests is None else '; ' + crests.words}"
    )
    return Proposal(NAME, Reason.STEADY, message)
