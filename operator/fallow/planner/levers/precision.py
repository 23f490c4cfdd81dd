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
from fallow.domain.units import GramsPerKWh, Watts
from fallow.domain.workloads import Variant
from fallow.domain.zones import Intensity
from fallow.planner.binding import lessened, may_lessen
from fallow.planner.context import Context, Proposal
from fallow.planner.pricing import level_of, prices_at_hand
from fallow.planner.switching import Change, begin, guarded

NAME = "Precision"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the `tier` that holds (None: the reference), in words, and whose word it is."""

    tier: Tier | None
    where: str
    reason: Reason = Reason.CARBON_TIER


def propose(context: Context) -> Proposal | None:
    """Start a switch, or say why the serving variant stays; None where no tiers are set."""
    if context.scalers:
        return None
    rules, reference = context.policy.precision, context.reference
    if len(context.service.variants) < 2 or context.replicas == 0:
        return None
    if rules is None:
        return None if context.serving == reference else _begun(context, reference, "no policy asks for it any more")
    asked = _asked(context, rules)
    if isinstance(asked, Missing):
        return Proposal(NAME, Reason.DATA_MISSING, f"{context.serving.name} stays: {asked}")
    if asked.reason is Reason.POWER_CAP:
        # a variant that takes more for a token does not help under a cap, whatever else the policy lets serve
        rules = replace(rules, require_measured_advantage=True)
    chosen, vetoes = _choose(context, rules, asked.tier) if asked.tier else (reference, ())
    if chosen == context.serving:
        if vetoes:
            words = f"{asked.where}; " if asked.reason is Reason.POWER_CAP else ""
            return Proposal(NAME, vetoes[0].reason, words + vetoes[0].message, vetoes=vetoes)
        reason = Reason.STEADY if asked.reason is Reason.CARBON_TIER else asked.reason
        return Proposal(NAME, reason, f"{chosen.name} stays: {asked.where}")
    return _begun(context, chosen, f"{asked.where}; {_advantage(context, chosen)}", asked.reason)


def _asked(context: Context, rules: PrecisionRules) -> Asked | Missing:
    """The tier that holds, or what a budget or a power cap asks for where that allows the reference.

    Where it is not known what is asked for, the lesser variant stays. The grid does not matter to a policy all of whose
    tiers allow the reference.
    """
    reference, intensity = context.reference, context.estimate.intensity
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
        return Asked(_lesser(rules, reference), burns, Reason.BUDGET_BURN)
    if capped is not None:
        return Asked(_lesser(rules, reference), capped, Reason.POWER_CAP)
    if context.serving != reference and may_lessen(context.policy):
        return replace(present, where=f"{present.where}; the power cap of {context.policy.name} has room for it")
    return present


def _present(context: Context, rules: PrecisionRules, intensity: Intensity) -> Asked:
    """The tier that holds, in words too."""
    grams = intensity.grams.best
    tier = _tier(context, rules, grams)
    held = f"tier above {tier.above.value:.0f}" if tier else "below all tiers"
    return Asked(tier, f"grid at {grams.value:.0f} gCO2e/kWh ({held})")


def _lesser(rules: PrecisionRules, reference: Variant) -> Tier:
    """What a budget or a cap asks for, on whatever grid: what any tier allows, but for the reference's precision."""
    allowed = frozenset[str]().union(*(tier.allow for tier in rules.tiers))
    return Tier(GramsPerKWh(0), allowed - {reference.precision.upper()})


def _begun(context: Context, chosen: Variant, why: str, asks: Reason = Reason.CARBON_TIER) -> Proposal:
    reason = Reason.TIER_ENDED if chosen == context.reference else asks
    return begin(context, NAME, chosen, why, change=Change(reason, _saved(context, chosen), guarded(context, chosen)))


def _tier(context: Context, rules: PrecisionRules, intensity: GramsPerKWh) -> Tier | None:
    """The tier at this intensity; one that a lesser variant serves in is left only past the hysteresis."""
    serving, reference = context.serving.precision.upper(), context.reference.precision.upper()

    def threshold(tier: Tier) -> GramsPerKWh:
        holds = serving in tier.allow and reference not in tier.allow
        return tier.above * (1 - rules.hysteresis) if holds else tier.above

    reached = [tier for tier in rules.tiers if intensity >= threshold(tier)]
    return max(reached, key=lambda tier: tier.above.value, default=None)


def _choose(context: Context, rules: PrecisionRules, tier: Tier) -> tuple[Variant, tuple[Veto, ...]]:
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
        elif rules.require_measured_advantage and not _is_greener(context, variant):
            message = f"{variant.name} stays out: {_advantage(context, variant)}"
            vetoes[variant.name] = Veto("advantage", Reason.NO_MEASURED_ADVANTAGE, message)
        else:
            return variant, tuple(vetoes.values())
    if not vetoes:
        allowed = ", ".join(sorted(tier.allow)) or "none but the reference's"
        vetoes["tier"] = Veto("tier", Reason.STEADY, f"no variant has one of the tier's precisions ({allowed})")
    return reference if context.serving.name in vetoes else context.serving, tuple(vetoes.values())


def _other(context: Context, variant: Variant) -> Variant:
    """The lesser of the two variants that a switch is between, whichever way it goes."""
    return context.serving if variant.name == context.reference.name else variant


def _is_greener(context: Context, variant: Variant) -> bool:
    """A variant comes for a clear advantage and goes when it is seen to have none; what is not known moves nothing."""
    known = prices_at_hand(context, variant)
    if variant == context.serving:
        return isinstance(known, Missing) or known.is_less
    return not isinstance(known, Missing) and known.is_clear


def _advantage(context: Context, variant: Variant) -> str:
    reference, other = context.reference, _other(context, variant)
    known = prices_at_hand(context, other)
    if isinstance(known, Missing):
        return known.detail
    words = (
        f"{known.reference:.3f} J/token as {reference.name} at {level_of(context, reference):.0f} requests a replica, "
        f"{known.other:.3f} as {other.name} at {level_of(context, other):.0f}"
    )
    return f"{words}, {known.origin} to {known.doubt:.3f}" if known.origin else words


def _saved(context: Context, variant: Variant) -> Watts | None:
    """Negative on the way back: quality is what that buys."""
    known, demand = prices_at_hand(context, _other(context, variant)), context.estimate.demand
    if isinstance(known, Missing) or isinstance(demand, Missing) or demand.tokens_per_second is None:
        return None
    serving = known.reference if context.serving.name == context.reference.name else known.other
    after = known.other if variant.name != context.reference.name else known.reference
    return Watts((serving - after) * demand.tokens_per_second)
