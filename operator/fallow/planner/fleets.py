"""What a service's load would take on the GPUs of each of its variants: replicas within the objectives, and watts,
by what its policy's objective makes of them.

By ModelProfiles and the lengths of the recent requests, alike for the variant that serves and for all others, so that
what is compared does not depend on which of them serves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, expm1, hypot, log

from fallow.domain.figures import Missing
from fallow.domain.profiles import Profile
from fallow.domain.reasons import Reason
from fallow.domain.units import Watts
from fallow.domain.workloads import Variant
from fallow.footprint.above_idle import declared_above_idle, declared_of_prompts, loaded_idle
from fallow.footprint.hardware import hardware_of
from fallow.planner.capacity import engine_limit, in_work, patience, profile_on, rate_met, rate_within, replica_capacity
from fallow.planner.context import Context
from fallow.planner.crests import Crests, rates
from fallow.planner.pauses import FALL
from fallow.planner.pieces import Pieces, better_in_pieces, in_turns
from fallow.planner.pricing import CLEAR_ADVANTAGE, Side, is_measured_anew, measured
from fallow.planner.weighing import Place, Spared

# More replicas of one service than this are not reckoned with.
MOST_REPLICAS = 10_000
# A share of prompts that is never zero: their lengths are taken as exponential (docs/methodology.md).
FEWEST_LATE = 0.001


@dataclass(frozen=True, slots=True)
class Load:
    """Requests per second, of the last half hour (`lately`), of the policy's down window (`now`) and at the highest
    since then (`peak`); tokens to compute and tokens to answer of each.
    """

    lately: float
    now: float
    peak: float
    prompt: float
    output: float

    @classmethod
    def of(cls, context: Context) -> Load | None:
        """None where too little came to tell."""
        arrivals, length = context.habits.arrivals, context.policy.scaling.down_window
        came = [one.flow.came for one in context.history if one.flow is not None and context.now - one.at <= length]
        recent = rates(context.history, context.policy.scaling.up_window)
        if arrivals.tokens is None or not arrivals.is_known or not came:
            return None
        now, peak = max(sum(came) / len(came), 0.0), max(rate for _, rate in recent)
        return cls(arrivals.requests / arrivals.seconds, now, max(now, peak), *arrivals.tokens)


@dataclass(frozen=True, slots=True)
class Fleet:
    """One variant on the GPUs of one place, under one load."""

    context: Context
    load: Load
    variant: Variant
    place: Place
    profile: Profile

    @property
    def product(self) -> str:
        return self.place.product

    @property
    def limit(self) -> float:
        return engine_limit(self.variant, self.profile)

    @property
    def host(self) -> Watts:
        """Of the rest of the machine, for a replica's GPUs."""
        return self.place.host * self.variant.gpus

    @property
    def bare(self) -> Watts:
        """Of a replica's GPUs without it."""
        return self.profile.idle_watts or hardware_of(self.product).bare * self.variant.gpus

    @property
    def prompts_are_in_time(self) -> bool:
        """Whether a prompt that is alone is computed within objectives.ttft, of as many requests as are to be."""
        objectives, rate = self.context.service.objectives, self.profile.prefill_rate
        if objectives.ttft_p95 is None or rate is None:
            return True
        longest = self.load.prompt * log(1.0 / max(1.0 - objectives.attainment, FEWEST_LATE))
        return longest / rate <= objectives.ttft_p95

    @property
    def each(self) -> float:
        """Requests per second that a replica carries within objectives.itl; 0 where the profile meets it nowhere.
        Without that objective, such as on engines that compute prompts alone, as many as it keeps up with.
        """
        load, itl = self.load, self.context.service.objectives.itl_p95
        if itl is None:
            return rate_within(self.profile, load.prompt, load.output, None, self.limit) or 0.0
        return rate_met(self.profile, load.prompt, load.output, itl, self.limit)

    def replicas(self, rate: float) -> int | None:
        """As many as crests of that rate and the concurrency of a replica ask for; None where the profile meets
        objectives.itl at no concurrency, or does not tell. Where the policy limits steps, by engines that work in
        pieces, if so many carry more then: whether those that serve do so now does not count.
        """
        context, whole = self.context, self._sized(rate, None)
        if whole is None or not context.policy.scaling.limits_steps:
            return whole
        pieces = better_in_pieces(context.service, self.variant, self.profile, context.habits.arrivals, whole)
        found = whole if pieces is None else self._sized(rate, pieces)
        return whole if found is None else min(whole, found)

    def _sized(self, rate: float, pieces: Pieces | None) -> int | None:
        context, each = self.context, self.each
        if each <= 0:
            return None
        headroom = context.policy.scaling.headroom
        capacity = replica_capacity(context.service, self.variant, self.profile, headroom)
        waits = patience(context.service, self.profile, self.load.prompt)
        capacity = replace(capacity, requests_per_second=each, patience=waits)
        if pieces is not None:
            capacity = in_turns(capacity, pieces, context.service)
        crests = Crests.of(context, capacity)
        if crests is None:
            return None
        least = max(crests.needed(rate), context.floor, 1)

        def carries(count: int) -> bool:
            level = self.level(rate / count)
            return level is not None and level <= capacity.concurrency

        if carries(least):
            return least
        counts = range(least, max(MOST_REPLICAS, least) + 1)
        found = bisect_left(counts, True, key=carries)
        return counts[found] if found < len(counts) else None

    def level(self, rate: float) -> float | None:
        """Requests in work on a replica."""
        return in_work(self.profile, self.load.prompt, self.load.output, self.limit, rate)

    def side(self, rate: float, replicas: int) -> Side:
        """At the requests in work on a replica while any are: of n in the mean, none are for exp(-n) of the time."""
        mean = self.level(rate / replicas) or 0.0
        return Side(self.variant, mean / -expm1(-mean) if mean > 0 else 1.0, self.profile, self.product)

    def declared(self, level: float) -> float | None:
        """J above loaded idle that an answer's token takes with its share of the prompt, by the profile."""
        answer, prompt = declared_above_idle(self.profile, level), declared_of_prompts(self.profile)
        return None if answer is None else answer + prompt * self.load.prompt / self.load.output

    def watts(self, rate: float, replicas: int, work: float, idle: Watts) -> float:
        """Of replicas that draw `idle` without work, and `work` J more for each token of an answer; with their hosts.

        Where clocks fall while an engine has nothing to do, that part of the time is as without it (planner/pauses.py).
        """
        standing, each = idle.value, rate / replicas
        if self.context.throttled:
            rests = exp(-(self.level(each) or 0.0) - each * FALL)
            standing += (min(self.bare.value, standing) - standing) * rests
        return replicas * (standing + self.host.value) + rate * self.load.output * work


@dataclass(frozen=True, slots=True)
class Weighed:
    """What two fleets take at one load, by the objective (planner/weighing.py). The other takes less by `gone` where
    GPUs without a replica are turned off with their hosts, as it is booked, and by `stays` where they stay on; `share`
    is the smaller of both, of what is taken. Either errs by `doubt` at most, in 19 of 20 cases.

    `spared` is what that comes from: of the smaller one where both are saved, else of `gone`. `more`: by how much the
    work of the one that serves was measured to take more than the other's, J a token; 0 where it was not measured.
    """

    mine: float
    other: float
    gone: float
    stays: float
    share: float
    doubt: float
    spared: tuple[Spared, Spared]
    origin: str = ""
    more: float = 0.0

    @property
    def gone_share(self) -> float:
        return _share(self.gone, self.mine)

    @property
    def saves(self) -> float:
        """Whether GPUs without a replica stay on or go: the smaller one where both are saved."""
        return min(self.gone, self.stays) if self.stays > 0 else self.gone

    @property
    def watts(self) -> Watts:
        """That the computers draw less."""
        return Watts(sum(one.watts for one in self.spared))


@dataclass(frozen=True, slots=True)
class _Taken:
    """By one fleet: W of the computers, of these without any replica (`empty`), GPUs held; W that may be in error."""

    place: Place
    watts: float
    empty: float
    gpus: int
    reach: float

    @property
    def whole(self) -> float:
        return self.place.rates.of(self.watts, self.gpus)

    @property
    def above_empty(self) -> float:
        return self.place.rates.of(self.watts - self.empty, self.gpus)


def weighed(mine: Fleet, other: Fleet, rate: float) -> Weighed | Missing:
    """By one yardstick: what was measured of both variants, or what is declared of both."""
    context, mine_runs, other_runs = mine.context, mine.replicas(rate), other.replicas(rate)
    if mine_runs is None or other_runs is None:
        return Missing(Reason.NO_HISTORY, "a profile does not tell what a replica carries within the objectives")
    if is_measured_anew(context, (mine.variant, other.variant)):
        return Missing(Reason.NO_HISTORY, f"{context.serving.name} is measured anew since its energy drifted away")
    counts = (mine_runs, other_runs)
    sides = (mine.side(rate, mine_runs), other.side(rate, other_runs))
    known = measured(context, sides)
    if known is not None:
        work, idle = [one.joules for one in known.efforts], known.idle
        reach = [one.reach * rate * mine.load.output for one in known.efforts]
    else:
        declared = [fleet.declared(side.level) for fleet, side in zip((mine, other), sides, strict=True)]
        if declared[0] is None or declared[1] is None:
            return Missing(Reason.NO_HISTORY, "a profile does not tell what work takes")
        work, idle, reach = (
            [declared[0], declared[1]],
            (loaded_idle(mine.profile), loaded_idle(other.profile)),
            [0.0, 0.0],
        )
    before, after = (
        _Taken(
            place=fleet.place,
            watts=fleet.watts(rate, count, joules, watts),
            empty=(fleet.bare + fleet.host).value * count,
            gpus=fleet.variant.gpus * count,
            reach=error,
        )
        for fleet, count, joules, watts, error in zip((mine, other), counts, work, idle, reach, strict=True)
    )
    found = _compared(before, after)
    return found if known is None else replace(found, origin=known.origin, more=work[0] - work[1])


def _compared(before: _Taken, after: _Taken) -> Weighed:
    gone, stays = before.whole - after.whole, before.above_empty - after.above_empty
    rates = before.place.rates
    doubt = hypot(rates.of(before.reach), after.place.rates.of(after.reach))
    empty = (before.empty, after.empty) if 0 < stays < gone else (0.0, 0.0)
    return Weighed(
        mine=before.whole,
        other=after.whole,
        gone=gone,
        stays=stays,
        # a fleet that draws no more than empty GPUs do counts as one watt above them
        share=min(_share(gone, before.whole), _share(stays, max(before.above_empty, rates.of(1.0)))),
        doubt=max(doubt, CLEAR_ADVANTAGE * rates.of(before.watts)),
        spared=(
            Spared(before.place, before.watts - empty[0], before.gpus),
            Spared(after.place, empty[1] - after.watts, -after.gpus),
        ),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def serving_fleet(context: Context, load: Load) -> Fleet | None:
    """Of what serves, on the GPUs that it has."""
    product = context.product
    profile = None if product is None else profile_on(context.serving, context.profiles, product)
    if profile is None:
        return None
    return Fleet(context, load, context.serving, context.weighing.here, profile)


def fleets_of(context: Context, variant: Variant, load: Load) -> tuple[Fleet, ...]:
    """At each place of the cluster where it may come to run; none where a product of them has no profile."""
    found = tuple(_fleets(context, variant, load))
    return tuple(one for one in found if one is not None) if all(found) else ()


def _fleets(context: Context, variant: Variant, load: Load) -> Iterator[Fleet | None]:
    for product in products_for(context, variant):
        profile = profile_on(variant, context.profiles, product)
        if profile is None:
            yield None
        else:
            yield from (Fleet(context, load, variant, place, profile) for place in context.weighing.at(product))


def products_for(context: Context, variant: Variant) -> tuple[str, ...]:
    """GPU products of the cluster that a variant may run on."""
    return tuple(one for one in context.around.free.nodes if not variant.products or one in variant.products)


def replicas_for(context: Context, variant: Variant) -> int | None:
    """Replicas of a variant for the recent peak, on whichever product takes most; None where that is not known."""
    load = Load.of(context)
    if load is None:
        return None
    counts = [fleet.replicas(load.peak) for fleet in fleets_of(context, variant, load)]
    known = [count for count in counts if count is not None]
    return max(known) if known and len(known) == len(counts) else None
