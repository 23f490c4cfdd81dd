"""Which variant serves of those that are as good as the reference: the one with which the load takes least.

They differ in their GPUs, and in their precision where the policy lets others of no less quality serve.

Least is by the objective of the policy (planner/weighing.py). A large GPU carries more and draws more while it has
little to do; which of two takes less turns with the load, with where they are and with what they cost. Only
ModelProfiles say so, or what was measured of both; nothing moves where one of them is not known, where the objectives
would not be met, or where no GPUs are free. The variants' names and products never count as evidence.
"""

from dataclasses import dataclass

from fallow.domain.figures import Missing
from fallow.domain.plans import Veto
from fallow.domain.policies import HardwareRules, Objective
from fallow.domain.reasons import Reason
from fallow.domain.workloads import Variant
from fallow.footprint.above_idle import loaded_idle
from fallow.planner import guards
from fallow.planner.capacity import profile_for
from fallow.planner.context import Context, Proposal
from fallow.planner.fleets import Fleet, Load, Weighed, fleets_of, products_for, serving_fleet, weighed
from fallow.planner.pricing import CLEAR_ADVANTAGE, is_measured
from fallow.planner.replacing import PAID_BACK, to_load
from fallow.planner.switching import Change, begin, guarded

NAME = "Hardware"
REASONS = {
    Objective.ENERGY: Reason.LESS_POWER,
    Objective.CARBON: Reason.LESS_CARBON,
    Objective.COST: Reason.LESS_COST,
}


@dataclass(frozen=True, slots=True)
class Option:
    """A variant that would do with less: `replicas` of it for the recent peak, what it takes now, and what is free."""

    fleet: Fleet
    replicas: int
    now: Weighed
    room: int

    @property
    def is_free(self) -> bool:
        return self.room >= self.replicas


def propose(context: Context) -> Proposal | None:
    """Start a switch, or say what is in the way of one that would pay; None where nothing would."""
    rules = context.policy.hardware
    if rules is None or not context.replicas or context.memory.switching_to is not None:
        return None
    # a lesser variant that serves is what a tier or a budget asked for
    if context.serving not in context.peers or why_never(context) is not None or _is_held(context):
        return None
    load = Load.of(context)
    mine = None if load is None else serving_fleet(context, load)
    if load is None or mine is None:
        return None
    others = [variant for variant in context.peers if variant != context.serving]
    options = [one for variant in others if (one := _option(context, rules, mine, variant)) is not None]
    # one that could begin goes before one that would save more
    best = max(options, key=lambda one: (one.is_free, one.now.saves), default=None)
    if best is None:
        return None
    change = Change(REASONS[context.weighing.objective], best.now.watts, _stops(context, mine, best), best.now.spared)
    return begin(context, NAME, best.fleet.variant, _words(mine, best), change=change)


def why_never(context: Context) -> str | None:
    """Why no other variant can come as things are declared, and what to write instead."""
    service, serving = context.service, context.serving
    if service.target is not None:
        return f"Deployment {service.target} is adopted, and runs where its own pod template says"
    if context.scalers:
        name, scaler = next(iter(context.scalers.items()))
        return f"{scaler} owns the replicas of {name}"
    if len(context.peers) < 2:
        return (
            f"only one variant has the precision and the quality of {service.reference.name};"
            f" declare one on other GPUs, by products or gpus{_another_precision(context)}"
        )
    if serving not in context.peers:
        return None
    if context.product is not None and profile_for(serving, context.profiles, context.product) is None:
        return _unknown(serving, context.product)
    reasons = [_why_not(context, variant) for variant in context.peers if variant != serving]
    return None if None in reasons else "; ".join(reason for reason in reasons if reason is not None)


def _another_precision(context: Context) -> str:
    """Where one of no less quality is there already."""
    reference, rules = context.service.reference, context.policy.hardware
    others = [one for one in context.service.variants[1:] if one.quality >= reference.quality]
    if rules is None or not others:
        return ""
    named = sorted({one.precision for one in others if one.precision.upper() not in rules.precisions})
    if named:
        return f", or allow {', '.join(named)} in hardware.precisions"
    return f", or allow {others[0].precision} in each tier of precision that allows {reference.precision}"


def _why_not(context: Context, variant: Variant) -> str | None:
    products = products_for(context, variant)
    if not products:
        return f"no node has whole GPUs that {variant.name} may run on ({', '.join(variant.products) or 'any'})"
    for product in products:
        profile = profile_for(variant, context.profiles, product)
        if profile is None:
            return _unknown(variant, product)
        if profile.prefill_rate is None:
            return f"ModelProfile {profile.name} has no prefillTokensPerSecond"
    return None


def _unknown(variant: Variant, product: str) -> str:
    return f"no ModelProfile of {variant.model} in {variant.precision} on {variant.gpus} {product} for {variant.name}"


def _is_held(context: Context) -> bool:
    """Whether a budget or a power cap asks something of it: replicas are theirs to set then."""
    cap = context.cap is not None and context.cap.replicas is not None
    return cap or bool(context.budget.active) or context.budget.ceiling is not None


def _option(context: Context, rules: HardwareRules, mine: Fleet, variant: Variant) -> Option | None:
    """The variant at the place where it takes most, of those where it may come to run, if it pays even there."""
    load = mine.load
    found: list[Option] = []
    for fleet in fleets_of(context, variant, load):
        replicas = fleet.replicas(load.peak)
        if replicas is None or replicas > context.ceiling or not fleet.prompts_are_in_time:
            return None
        now = weighed(mine, fleet, load.now)
        if isinstance(now, Missing) or not _is_worth(context, rules, mine, fleet, replicas, now):
            return None
        found.append(Option(fleet, replicas, now, context.around.free.room(fleet.product, variant.gpus)))
    return max(found, key=lambda one: one.now.other, default=None)


def _is_worth(context: Context, rules: HardwareRules, mine: Fleet, other: Fleet, replicas: int, now: Weighed) -> bool:
    """Clearly less now, and paid back within a day. To leave the reference it must be so over the last half hour too,
    whether emptied GPUs stay on or go, and no more at the peak; it comes back by what is booked now, or, where that is
    less by little, over the last half hour too.
    """
    returns = other.variant == context.service.reference
    saved = now.gone if returns else min(now.gone, now.stays)
    share = now.gone_share if returns else now.share
    # the reference comes back as soon as work is seen to take more without it
    seen = returns and now.more > 0
    enough = CLEAR_ADVANTAGE if seen else rules.hysteresis
    if (
        (saved <= now.doubt and not seen)
        or share <= enough
        or saved * PAID_BACK <= _costs(context, mine, other, replicas)
    ):
        return False
    if returns and not seen:
        return True
    lately, peak = weighed(mine, other, mine.load.lately), weighed(mine, other, mine.load.peak)
    if isinstance(lately, Missing) or isinstance(peak, Missing):
        return False
    if returns:
        return lately.gone_share > enough
    clear = min(lately.gone, lately.stays) > lately.doubt and lately.share > rules.hysteresis
    return clear and min(peak.gone, peak.stays) > 0


def _costs(context: Context, mine: Fleet, other: Fleet, replicas: int) -> float:
    """The new replicas load, and the old ones run on meanwhile and until they have drained, each at its own place."""
    profile = other.profile
    load, seconds = to_load(profile, loaded_idle(profile))
    drains = seconds + context.service.engine.termination_grace
    comes = other.place.rates.of(load.value, other.variant.gpus * seconds)
    goes = mine.place.rates.of(loaded_idle(mine.profile).value * drains, mine.variant.gpus * drains)
    return replicas * comes + context.replicas * goes


def _stops(context: Context, mine: Fleet, best: Option) -> tuple[Veto, ...]:
    """A service that misses its objectives does not come to carry less. To carry more it waits for nothing but room,
    and for what it takes to judge another precision.
    """
    unmeasured = _unmeasured(context, mine, best)
    gains = best.fleet.each * best.replicas >= mine.each * context.replicas
    if gains and guards.missed_objectives(context):
        return guards.raised(guards.freshness(context), unmeasured, _room(best))
    window = guards.window(context, context.policy.scaling.down_window)
    more = guards.raised(window, None if gains else guards.objectives(context), _room(best), unmeasured)
    return (*guarded(context, best.fleet.variant), *more)


def _unmeasured(context: Context, mine: Fleet, best: Option) -> Veto | None:
    """Another precision comes once it is measured what the one takes that serves: only so is it seen to be worse."""
    variant, replicas = best.fleet.variant, mine.replicas(mine.load.now)
    if variant == context.service.reference or variant.precision.upper() == mine.variant.precision.upper():
        return None
    if replicas is not None and is_measured(context, mine.side(mine.load.now, replicas)):
        return None
    message = f"{mine.variant.name} is not measured yet at this load, by which {variant.name} could be seen to be worse"
    return Veto("measured", Reason.NO_HISTORY, message)


def _room(best: Option) -> Veto | None:
    if best.is_free:
        return None
    fleet = best.fleet
    message = (
        f"{best.replicas} replicas of {fleet.variant.name} need {fleet.product}, and there is room for {best.room}"
    )
    return Veto("room", Reason.NO_FREE_GPUS, message)


def _words(mine: Fleet, best: Option) -> str:
    load, now, text = mine.load, best.now, mine.context.weighing.text
    places = (mine.place, best.fleet.place)
    apart = places[0].name != places[1].name
    names = (mine.variant.name, best.fleet.variant.name)
    alike = places[0].product == places[1].product and mine.variant.precision != best.fleet.variant.precision
    here, there = (
        f"{one.product}{f' in {one.name}' if apart else ''}{f' as {name}' if alike else ''}"
        for one, name in zip(places, names, strict=True)
    )
    words = (
        f"{load.now:.3g} requests/s take {text(now.mine)} on {here} and {text(now.other)} on {there},"
        f" hosts, PUE and all, with {best.replicas} replicas for the peak of {load.peak:.3g}/s"
    )
    return f"{words}, {now.origin}" if now.origin else words
