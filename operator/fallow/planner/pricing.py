"""What a token costs in one variant and in another, by one yardstick: what was measured of both, or declared of both.

Never one by what was measured and the other by what is declared: prompts and idle moments of this service would be in
the one figure alone, and the variant that is not measured would always look better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, hypot

from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import LoadPoint
from fallow.domain.policies import Objective
from fallow.domain.profiles import Profile, ProfileKey
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint
from fallow.domain.units import Instant, Seconds, Watts
from fallow.domain.workloads import Variant
from fallow.footprint.above_idle import (
    NEAR,
    Effort,
    declared_above_idle,
    declared_of_prompts,
    effort_at,
    efforts_carried,
    efforts_of,
    loaded_idle,
)
from fallow.footprint.bins import ENOUGH
from fallow.planner.capacity import profile_for
from fallow.planner.context import Context
from fallow.planner.weighing import Place, Weighing

# A variant comes for no less than this share of J/token: profiles are met between their points to 2.2 %.
CLEAR_ADVANTAGE = 0.022
# Two services' or two months' work is alike where their prompt tokens for each generated one are this near: prompts
# make up to a third of the energy of work, so that it then differs by about as much as a counter errs. A choice.
ALIKE = 1.5
FEW_PROMPTS = 0.25
# A variant that does not serve teaches nothing: what it taught before counts for so long, and then it is tried anew.
BELIEVED = Seconds(30 * 86_400)
# What was learned there comes without what its prompts were.
ELSEWHERE = "as measured in another cluster"

# Where prices come from if this service's own minutes say so.
HERE = "as measured here"
# Tokens; rates are of an hour, and what is held is counted in seconds.
MILLION = 1e6 / 3600
# Efforts by rising concurrency, and the draw of a replica that is loaded and has no work.
Known = tuple[tuple[Effort, ...], Watts]


@dataclass(frozen=True, slots=True)
class Prices:
    """What a token takes of the reference and of another variant, J unless another `unit` is named. Their difference
    errs by `doubt` at most, in 19 of 20 cases.

    `origin` says where they come from; empty for the points of ModelProfiles. `at_hand`: both were measured on work of
    this cluster at about the requests at hand.
    """

    reference: float
    other: float
    doubt: float
    origin: str = ""
    unit: str = "J/token"
    at_hand: bool = False

    @property
    def is_less(self) -> bool:
        return self.other < self.reference

    @property
    def is_clear(self) -> bool:
        return self.other < self.reference - self.doubt

    def at(self, weighing: Weighing, places: tuple[Place, Place], held: tuple[float, float]) -> Prices:
        """By the objective, each at its place and with the GPU-seconds that it holds for a token."""
        times, unit = (1.0, self.unit) if weighing.objective is Objective.ENERGY else (MILLION, weighing.per_million)
        rates = [place.rates for place in places]
        one, other = (
            each.of(joules, gpus) for each, joules, gpus in zip(rates, (self.reference, self.other), held, strict=True)
        )
        doubt = max(each.of(self.doubt) for each in rates)
        return replace(self, reference=one * times, other=other * times, doubt=doubt * times, unit=unit)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a variant, the requests in work on each of its replicas, its profile, and the GPUs it runs on."""

    variant: Variant
    level: float
    profile: Profile | None
    product: str | None

    def effort(self, efforts: Sequence[Effort]) -> Effort | None:
        prompt = 0.0 if self.profile is None else declared_of_prompts(self.profile)
        return effort_at(efforts, self.level, self._declared, prompt)

    def is_among(self, efforts: Sequence[Effort]) -> bool:
        """Whether it was measured at about its level: between two of them, or near the outermost."""
        levels = [one.concurrency for one in efforts]
        return min(levels) / NEAR <= self.level <= max(levels) * NEAR

    def _declared(self, concurrency: float) -> float | None:
        return None if self.profile is None else declared_above_idle(self.profile, concurrency)


@dataclass(frozen=True, slots=True)
class Measured:
    """What work takes on both sides by one yardstick, and what a replica of each draws loaded and without work."""

    efforts: tuple[Effort, Effort]
    idle: tuple[Watts, Watts]
    origin: str
    at_hand: bool


def measured(context: Context, sides: tuple[Side, Side], enough: float = ENOUGH) -> Measured | None:
    """By the first yardstick that knows both sides, by points of `enough` minutes; None where none does, and the
    declared points must tell.
    """
    for origin, known in _yardsticks(context, sides, enough):
        one, other = (side.effort(efforts) for side, (efforts, _) in zip(sides, known, strict=True))
        if one is not None and other is not None and _are_alike(one, other):
            at_hand = origin != ELSEWHERE and all(
                side.is_among(efforts) for side, (efforts, _) in zip(sides, known, strict=True)
            )
            return Measured((one, other), (known[0][1], known[1][1]), origin, at_hand)
    return None


def is_measured(context: Context, side: Side) -> bool:
    """Whether anything that was measured says what its work takes, by which another variant can be judged."""
    return any(side.effort(known[0][0]) is not None for _, known in _yardsticks(context, (side,)))


def prices(
    context: Context, variant: Variant, levels: tuple[float, float], *, enough: float = ENOUGH
) -> Prices | Missing:
    """Of the reference and of a variant at the requests in work per replica that each would have.

    The first that knows both: this service's own minutes, those of all services of the cluster, those of another
    cluster (carried over in profiles), the declared points. While the serving variant is measured anew after a drift
    and the other was measured before, nothing is known: the declared points would only answer for so long.
    """
    product, pair = context.product, (context.reference, variant)
    one, other = (
        Side(each, level, profile_for(each, context.profiles, product), product)
        for each, level in zip(pair, levels, strict=True)
    )
    sides = (one, other)
    if is_measured_anew(context, pair):
        return Missing(Reason.NO_HISTORY, f"{context.serving.name} is measured anew since its energy drifted away")
    known = measured(context, sides, enough)
    if known is not None:
        return _priced(context, variant, known)
    declared = [side.profile.joules_per_token(side.level) if side.profile else None for side in sides]
    if declared[0] is None or declared[1] is None:
        words = f"{pair[0].name} and {variant.name}"
        where = context.product or "?"
        return Missing(Reason.NO_HISTORY, f"no ModelProfile tells the J/token of both {words} on {where}")
    return Prices(declared[0], declared[1], CLEAR_ADVANTAGE * declared[0])


def prices_at_hand(context: Context, variant: Variant) -> Prices | Missing:
    """J/token of the reference and of the variant at the load at hand."""
    return prices(context, variant, (at_hand(context, context.reference)[0], at_hand(context, variant)[0]))


def at_hand(context: Context, variant: Variant) -> tuple[float, int]:
    """Requests in work per replica if this variant carried the watched load, at least one; and its replicas.

    The same whichever variant serves, so that a switch does not take away its own reason.
    """
    points = watched(context)
    load = sum(point.running for point in points) / len(points) if points else 0.0
    needed = max(ceil(load / context.capacity[variant.name].concurrency - 1e-9), context.floor, 1)
    replicas = min(needed, max(context.ceiling, 1))
    return max(1.0, load / replicas), replicas


def watched(context: Context) -> Sequence[DemandPoint]:
    """The load of late, of the times at which somebody served."""
    points = [point for point in context.history if point.ready > 0]
    demand = context.estimate.demand
    return points if points or isinstance(demand, Missing) else [demand]


def _yardsticks(context: Context, sides: Sequence[Side], enough: float = ENOUGH) -> Iterator[tuple[str, list[Known]]]:
    seen = [(context.estimate.energies.get(side.variant.name), side.product) for side in sides]
    here = [
        (_believed(context.now, one.points, one.idle, enough), one.idle.best)
        for one, product in seen
        if one is not None and one.idle is not None and one.product == product
    ]
    if len(here) == len(sides):
        yield HERE, here
    keys = [_key(side.variant, side.product) for side in sides if side.product is not None]
    merged = [one for key in keys if (one := context.estimate.profiles.get(key)) is not None]
    if len(merged) == len(sides):
        words = "as measured in this cluster"
        yield words, [(_believed(context.now, one.points, one.idle, enough), one.idle.best) for one in merged]
    carried = [side.profile for side in sides if side.profile is not None and side.profile.carried]
    if len(carried) == len(sides):
        yield ELSEWHERE, [(efforts_carried(one), loaded_idle(one)) for one in carried]


def _priced(context: Context, variant: Variant, known: Measured) -> Prices:
    """Both with what it takes a token now that a replica stands: that part is the same whichever serves."""
    reference, other = known.efforts
    standing = (other if context.serving == variant else reference).standing
    doubt = hypot(reference.reach, other.reach)
    whole = reference.joules + standing
    sure_to = max(doubt, CLEAR_ADVANTAGE * whole)
    return Prices(whole, other.joules + standing, sure_to, known.origin, at_hand=known.at_hand)


def _believed(
    now: Instant, points: Sequence[LoadPoint], idle: Figure[Watts] | None, enough: float = ENOUGH
) -> tuple[Effort, ...]:
    if idle is None:
        return ()
    return efforts_of((one for one in points if one.windows >= enough and now - one.last_seen <= BELIEVED), idle)


def is_measured_anew(context: Context, pair: Sequence[Variant]) -> bool:
    known = context.estimate.energies
    serving = known.get(context.serving.name)
    if serving is None or not serving.relearning:
        return False
    others = (known.get(variant.name) for variant in pair if variant != context.serving)
    return any(one is not None and _believed(context.now, one.points, one.idle) for one in others)


def _are_alike(one: Effort, other: Effort) -> bool:
    if one.prompts is None or other.prompts is None:
        return True
    low, high = sorted((one.prompts + FEW_PROMPTS, other.prompts + FEW_PROMPTS))
    return high <= ALIKE * low


def _key(variant: Variant, product: str) -> ProfileKey:
    return ProfileKey(variant.model, variant.precision.upper(), product, variant.gpus)
