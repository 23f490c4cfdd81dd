"""Which variant serves: a policy's tiers, budgets and cap allow precisions, measured J/token has the last word.

Accuracy comes last: the highest quality that the tier allows, and back promptly. A switch makes the new variant ready
before it breaks the old one. A variant's name never counts as evidence; a profile at the concurrency at hand does.
"""

from dataclasses import dataclass, replace

from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy
from fallow.domain.plans import Veto
from fallow.domain.policies import PrecisionRules, Tier
from fallow.domain.reasons import Reason
from fallow.domain.rooflines import Regime, Roofline
from fallow.domain.units import GramsPerKWh, Watts
from fallow.domain.workloads import Variant
from fallow.domain.zones import Intensity
from fallow.footprint.roofline import only_shrinks
from fallow.planner.binding import lessened, may_lessen
from fallow.planner.capacity import profile_for
from fallow.planner.context import Context, Proposal
from fallow.planner.pricing import Prices, at_hand, prices_at_hand, watched
from fallow.planner.switching import Change, begin, guarded
from fallow.planner.weighing import Place, Spared

NAME = "Precision"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the `tier` that holds (None: the reference), in words, and whose word it is."""

    tier: Tier | None
    where: str
    reason: Reason = Reason.CARBON_TIER


def propose(context: Context) -> Proposal | None:
    """Start a switch, or say why the serving variant stays; None where no tiers are set."""
    if len(context.service.variants) < 2 or context.scalers or context.replicas == 0:
        return None
    rules, reference = context.policy.precision, context.reference
    if rules is None:
        return None if context.serving == reference else _begun(context, reference, "no policy asks for it any more")
    asked = _asked(context, rules)
    if isinstance(asked, Missing):
        return Proposal(NAME, Reason.DATA_MISSING, f"{context.serving.name} stays: {asked}")
    if asked.reason is Reason.POWER_CAP:
        # a variant that takes more for a token does not help under a cap, whatever else the policy lets serve
        rules = replace(rules, require_measured_advantage=True)
    chosen, vetoes = _choose(context, rules, asked.tier, asked.reason) if asked.tier else (reference, ())
    if chosen == context.serving:
        if vetoes:
            words = f"{asked.where}; " if asked.reason is Reason.POWER_CAP else ""
            return Proposal(NAME, vetoes[0].reason, words + vetoes[0].message, vetoes=vetoes)
        reason = Reason.STEADY if asked.reason is Reason.CARBON_TIER else asked.reason
        return Proposal(NAME, reason, f"{chosen.name} stays: {asked.where}")
    return _begun(context, chosen, f"{asked.where}; {_advantage(context, chosen, asked.reason)}", asked.reason)


def _asked(context: Context, rules: PrecisionRules) -> Asked | Missing:
    """The tier that holds, or what a budget or a power cap asks for where that allows the reference.

    Where it is not known what is asked for, the lesser variant stays. The grid does not matter to a policy all of whose
    tiers allow the reference.
    """
    reference, intensity = context.reference, _intensity(context)
    burns, doubt = (part.get(Remedy.PRECISION) for part in (context.budget.active, context.budget.unknown))
    capped = lessened(context)
    follows = any(reference.precision.upper() not in tier.allow for tier in rules.tiers)
    if isinstance(intensity, Missing) and follows and (context.serving != reference or (burns or capped) is None):
        return intensity
    nothing = Asked(None, "no tier asks for a lesser variant")
    present = nothing if isinstance(intensity, Missing) else _present(context, rules, intensity)
    if present.tier is not None and reference.precision.upper() not in present.tier.allow:
        return present
    if doubt is not None and context.serving != reference:
        return Missing(Reason.NO_HISTORY, doubt)
    if burns is not None:
        return Asked(_lesser(context, rules), burns, Reason.BUDGET_BURN)
    if capped is not None:
        return Asked(_lesser(context, rules), capped, Reason.POWER_CAP)
    if context.serving != reference and may_lessen(context.policy):
        return replace(present, where=f"{present.where}; the power cap of {context.policy.name} has room for it")
    return present


def _intensity(context: Context) -> Intensity | Missing:
    """Of the grid where the reference runs, or would: a lesser variant on a cleaner one does not end its own reason."""
    place = _place(context, context.reference)
    if place is None or place is context.weighing.here:
        return context.estimate.intensity
    zone = place.zones[0]
    return zone.intensity if zone else Missing(Reason.NO_ZONE, f"no GridZone covers nodes of {place.product}")


def _present(context: Context, rules: PrecisionRules, intensity: Intensity) -> Asked:
    """The tier that holds, in words too."""
    grams = intensity.grams.best
    tier = _tier(context, rules, grams)
    held = f"tier above {tier.above.value:.0f}" if tier else "below all tiers"
    return Asked(tier, f"grid at {grams.value:.0f} gCO2e/kWh ({held})")


def _lesser(context: Context, rules: PrecisionRules) -> Tier:
    """What a budget or a cap asks for, on whatever grid: what any tier allows, but for the reference's precision and
    that of what serves in its place.
    """
    allowed = frozenset[str]().union(*(tier.allow for tier in rules.tiers))
    best = {one.precision.upper() for one in (context.service.reference, context.reference)}
    return Tier(GramsPerKWh(0), allowed - best)


def _begun(context: Context, chosen: Variant, why: str, asks: Reason = Reason.CARBON_TIER) -> Proposal:
    reason = Reason.TIER_ENDED if chosen == context.reference else asks
    saves, spared = _saved(context, chosen)
    return begin(context, NAME, chosen, why, change=Change(reason, saves, guarded(context, chosen), spared))


def _tier(context: Context, rules: PrecisionRules, intensity: GramsPerKWh) -> Tier | None:
    """The tier at this intensity; one that a lesser variant serves in is left only past the hysteresis."""
    serving, reference = context.serving.precision.upper(), context.reference.precision.upper()

    def threshold(tier: Tier) -> GramsPerKWh:
        holds = serving in tier.allow and reference not in tier.allow
        return tier.above * (1 - rules.hysteresis) if holds else tier.above

    reached = [tier for tier in rules.tiers if intensity >= threshold(tier)]
    return max(reached, key=lambda tier: tier.above.value, default=None)


def _choose(context: Context, rules: PrecisionRules, tier: Tier, asks: Reason) -> tuple[Variant, tuple[Veto, ...]]:
    """The best that the tier allows; a service without such a variant keeps the one it has."""
    reference = context.reference
    if reference.precision.upper() in tier.allow:
        return reference, ()
    vetoes: dict[str, Veto] = {}
    for variant in sorted(context.service.variants, key=lambda variant: -variant.quality):
        if variant.precision.upper() not in tier.allow:
            continue
        if variant.quality < rules.quality_floor:
            message = f"{variant.name} has quality {variant.quality}, the floor is {rules.quality_floor}"
            vetoes[variant.name] = Veto("quality", Reason.QUALITY_FLOOR, message)
        elif rules.require_measured_advantage and not _is_greener(context, variant, asks):
            message = f"{variant.name} stays out: {_advantage(context, variant, asks)}"
            vetoes[variant.name] = Veto("advantage", Reason.NO_MEASURED_ADVANTAGE, message)
        elif rules.require_measured_advantage and (doubt := _doubted(context, variant, asks)) is not None:
            message = f"{variant.name} stays out: {doubt}"
            vetoes[variant.name] = Veto("arithmetic", Reason.COMPUTE_BOUND, message)
        else:
            return variant, tuple(vetoes.values())
    if not vetoes:
        allowed = ", ".join(sorted(tier.allow)) or "none but the reference's"
        vetoes["tier"] = Veto("tier", Reason.STEADY, f"no variant has one of the tier's precisions ({allowed})")
    return reference if context.serving.name in vetoes else context.serving, tuple(vetoes.values())


def _weighed(context: Context, variant: Variant, asks: Reason) -> Prices | Missing:
    """By the policy's objective; under a power cap by J/token. These tell too at one place, if as many GPUs are held or
    these have no price; and where a place is not known.
    """
    known, pair = prices_at_hand(context, variant), (context.reference, variant)
    one, other = (_place(context, each) for each in pair)
    if isinstance(known, Missing) or one is None or other is None or asks is Reason.POWER_CAP:
        return known
    gpus = [each.gpus * at_hand(context, each)[1] for each in pair]
    have_prices = one.rates.gpu > 0 or other.rates.gpu > 0
    if one is other and (gpus[0] == gpus[1] or not have_prices):
        return known
    tokens = _tokens(context)
    if have_prices and tokens <= 0:
        return Missing(Reason.NO_HISTORY, "no tokens are counted by which the price of GPUs could be shared out")
    held = (gpus[0] / tokens, gpus[1] / tokens) if have_prices else (0.0, 0.0)
    return known.at(context.weighing, (one, other), held)


def _tokens(context: Context) -> float:
    """Generated in a second, in the mean; 0 where none are counted."""
    rates = [point.tokens_per_second for point in watched(context) if point.tokens_per_second is not None]
    return sum(rates) / len(rates) if rates else 0.0


def _place(context: Context, variant: Variant) -> Place | None:
    """Where it runs, or would: on other GPUs where it takes most, of those with the product of its profile."""
    weighing, profile = context.weighing, profile_for(variant, context.profiles, context.product)
    if profile is None or profile.gpu_product == weighing.here.product:
        return weighing.here
    return max(weighing.at(profile.gpu_product), key=lambda place: (place.rates.watt, place.rates.gpu), default=None)


def _other(context: Context, variant: Variant) -> Variant:
    """The lesser of the two variants that a switch is between, whichever way it goes."""
    return context.serving if variant.name == context.reference.name else variant


def _is_greener(context: Context, variant: Variant, asks: Reason) -> bool:
    """A variant comes for a clear advantage and goes when it is seen to have none; what is not known moves nothing."""
    known = _weighed(context, variant, asks)
    if variant == context.serving:
        return isinstance(known, Missing) or known.is_less
    return not isinstance(known, Missing) and known.is_clear


def _doubted(context: Context, variant: Variant, asks: Reason) -> str | None:
    """Why an advantage that was not measured on this work is not believed: the work is bound by arithmetic, of which
    the variant has as much. Declared points leave prompts out, and it is these that bind it so.
    """
    known, bound = _weighed(context, variant, asks), context.estimate.rooflines.get(context.serving.name)
    if variant == context.serving or isinstance(known, Missing) or known.at_hand:
        return None
    if not isinstance(bound, Roofline) or bound.regime is not Regime.COMPUTE or context.product is None:
        return None
    profile = profile_for(variant, context.profiles, context.product)
    moves = profile is not None and profile.gpu_product != context.product
    if moves or not only_shrinks(variant.precision, context.serving.precision, context.product):
        return None
    whence = f"{known.origin}, but not at this load" if known.origin else "only declared"
    why = f"{variant.precision} makes weights smaller, not arithmetic faster"
    return f"its advantage is {whence}, {why}, and {context.serving.name} is {bound.words}"


def _advantage(context: Context, variant: Variant, asks: Reason) -> str:
    reference, other = context.reference, _other(context, variant)
    known = _weighed(context, other, asks)
    if isinstance(known, Missing):
        return known.detail
    levels = [at_hand(context, one)[0] for one in (reference, other)]
    words = (
        f"{known.reference:.3f} {known.unit} as {reference.name} at {levels[0]:.0f} requests a replica, "
        f"{known.other:.3f} as {other.name} at {levels[1]:.0f}"
    )
    return f"{words}, {known.origin} to {known.doubt:.3f}" if known.origin else words


def _saved(context: Context, variant: Variant) -> tuple[Watts | None, tuple[Spared, ...]]:
    """Negative on the way back: quality is what that buys. By place, where it is on other GPUs."""
    known, demand = prices_at_hand(context, _other(context, variant)), context.estimate.demand
    if isinstance(known, Missing) or isinstance(demand, Missing) or demand.tokens_per_second is None:
        return None, ()
    serving = known.reference if context.serving.name == context.reference.name else known.other
    after = known.other if variant.name != context.reference.name else known.reference
    before, then = serving * demand.tokens_per_second, after * demand.tokens_per_second
    here, there = context.weighing.here, _place(context, variant)
    if there is None or there is here:
        return Watts(before - then), ()
    gpus = context.replicas * context.serving.gpus, at_hand(context, variant)[1] * variant.gpus
    return Watts(before - then), (Spared(here, before, gpus[0]), Spared(there, -then, -gpus[1]))
