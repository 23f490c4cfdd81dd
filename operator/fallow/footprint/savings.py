"""What was saved: the difference between two stated figures, the energy used and that of a baseline on the same demand.

The baseline's energy is the measured one plus what the differing configuration would have added: replicas, rest and
variant are replaced one after the other, so the parts add up to the whole, and where nothing differs nothing is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fallow.domain.counterfactual import BaselineKind, BaselineRule, Counterfactual, Demand, Saving, Terms
from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.learned import Learned, Placement, StepModel
from fallow.domain.ledger import Account, Ledger, LineKey
from fallow.domain.profiles import Profile
from fallow.domain.reasons import Reason
from fallow.domain.units import Grams, Instant, Joules, Seconds, Watts, emissions
from fallow.domain.workloads import Service, ServiceKey, Variant
from fallow.domain.zones import ZoneReading
from fallow.footprint.autoscaler import followed
from fallow.footprint.bins import INTERPOLATED, joules_per_token_at
from fallow.footprint.hardware import hardware_of
from fallow.footprint.impacts import average_intensity
from fallow.footprint.steps import Work, idle_draw, step_cost, step_model, work_energy

# longer than this nobody watched the demand, so that what the baseline would have run is not known
LONGEST = Seconds(120)
WEEK = Seconds(7 * 86_400)
DAY = Seconds(86_400)
# the cost of a step at another load than it was learned at: 0.7 to 1.5 times in pairs of the twin's worlds
OTHER_LOAD = Bounds(0.5, 2.0)
NOTHING = Figure.exact(Joules(0))
Parts = Mapping[Saving, Figure[Joules]]


@dataclass(frozen=True, slots=True)
class Situation:
    """A service of which savings are kept, now. `target`: requests in flight that a reference replica should carry.

    `held` are the replicas by variant that hold GPUs, `starting` those of them that are not ready, `product` the GPUs,
    None where there are none. `resting`: Fallow rests it at zero replicas. `throttled`: the clocks of its idle engines
    fall, which those of the baseline do not.
    """

    service: Service
    rule: BaselineRule
    in_flight: float | Missing
    target: float
    held: Mapping[str, int]
    starting: int = 0
    resting: bool = False
    throttled: bool = False
    product: str | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variance:
    """How one variant uses energy: a replica's loaded draw, that above empty GPUs, and what is known of its work."""

    variant: Variant
    draw: Figure[Watts]
    standing: Figure[Watts]
    steps: StepModel | Missing
    step: Figure[Joules] | Missing
    learned: Learned | None
    profile: Profile | None

    def measured(self, concurrency: float) -> Figure[Joules] | Missing:
        """J per token at a concurrency by its own bins."""
        return joules_per_token_at(self.learned.bins if self.learned else {}, concurrency)

    def profiled(self, concurrency: float) -> Figure[Joules] | None:
        """J per token at a concurrency by a ModelProfile."""
        declared = self.profile.joules_per_token(concurrency) if self.profile else None
        return None if declared is None else Figure.around(Joules(declared), INTERPOLATED)


@dataclass(frozen=True, slots=True)
class Interval:
    """What a service did since the last cycle: replicas and work by variant, and the energy that was booked.

    `starts` is the part of it that went into starting replicas, of which there are `starting`.
    """

    seconds: Seconds
    held: Mapping[str, int]
    work: Mapping[str, Work]
    energy: Figure[Joules]
    starts: Joules = Joules(0)
    starting: int = 0
    resting: bool = False

    @property
    def replicas(self) -> int:
        return sum(self.held.values())

    @property
    def together(self) -> Work:
        parts = list(self.work.values())
        return Work(
            sum(one.prompt_tokens for one in parts),
            sum(one.generated_tokens for one in parts),
            sum(one.iterations for one in parts),
            sum(one.seconds for one in parts),
        )


def compared(
    before: Ledger, after: Ledger, situations: Mapping[ServiceKey, Situation], zones: Mapping[str, ZoneReading]
) -> tuple[Mapping[ServiceKey, Counterfactual], Mapping[LineKey, Account]]:
    """The baselines moved on to `after`, and what was avoided since `before` by line of the books.

    A service without a baseline is not compared. An interval in which something needed is not known leaves
    `compared` behind the energy and avoids nothing.
    """
    followers: dict[ServiceKey, Counterfactual] = {}
    saved: dict[LineKey, Account] = {}
    seconds = Seconds(after.at - before.at)
    lines = _lines(after)
    for key, situation in situations.items():
        known = _frozen(after.counterfactuals.get(key), situation, after.at)
        own = lines.get(key, [])
        interval = _interval(before, after, own, situation, seconds)
        known = _demanded(known, interval)
        line = next((line for line in own if line.variant == known.terms.variant), own[0] if own else None)
        if line is not None and 0 < seconds <= LONGEST:
            parts = avoided(known, interval, _variances(after, known, situation, interval))
            if not isinstance(parts, Missing):
                saved[line] = _account(parts, interval, zones.get(line.zone))
        followers[key] = followed(known, situation.in_flight, after.at)
    return followers, saved


def avoided(known: Counterfactual, interval: Interval, variances: Mapping[str, Variance]) -> Parts | Missing:
    """V3: counterfactual less actual, by cause; each part may be negative."""
    rule = known.terms.rule
    if rule.kind is BaselineKind.JOULES_PER_TOKEN and rule.joules_per_token is not None:
        tokens = interval.together.generated_tokens
        return {Saving.OTHER: _less(rule.joules_per_token * tokens, interval.energy)}
    reference = variances.get(known.terms.variant)
    if reference is None:
        return Missing(Reason.NO_SERIES, "the GPUs of the reference variant are not known")
    if interval.replicas == 0 and not interval.resting:
        return Missing(Reason.STARTING, "it holds no GPU, and not because it rests")
    precision = _precision(known.terms.variant, interval, variances)
    if isinstance(precision, Missing):
        return precision
    least = max(interval.replicas, 1)
    replicas = _more_replicas(known.running, least, interval, reference)
    rest = _standing(least - interval.replicas, interval.seconds, reference)
    start = _times(_started(interval, reference), -1.0)
    rests = known.terms.minimum == 0
    return {
        Saving.REPLICAS: replicas if rests else replicas + start,
        Saving.REST: rest + start if rests else rest,
        Saving.PRECISION: precision,
    }


def total(parts: Mapping[Saving, Figure[Joules]]) -> Figure[Joules]:
    """What was avoided in all: the sum of its parts."""
    return sum(parts.values(), start=NOTHING)


def counterfactual(account: Account) -> Figure[Joules]:
    """V4: the baseline's energy over what was compared; actual and avoided add up to it exactly."""
    return Figure.exact(account.compared) + total(account.avoided)


def rebound(demand: Demand) -> float | Missing:
    """V6: growth of tokens per second since the baseline's first week, as a share; negative where demand fell."""
    if demand.first_seconds < WEEK:
        days = demand.first_seconds / DAY
        return Missing(Reason.NO_HISTORY, f"{days:.1f} of the 7 days that demand is compared with have passed")
    if demand.first_tokens <= 0:
        return Missing(Reason.NO_WORK, "no token was generated in the baseline's first week")
    return demand.rate / (demand.first_tokens / demand.first_seconds) - 1.0


def _frozen(known: Counterfactual | None, situation: Situation, now: Instant) -> Counterfactual:
    """The baseline as it was frozen; a declaration that changed freezes it anew, from what runs now."""
    service = situation.service
    terms = Terms(
        rule=situation.rule,
        variant=service.reference.name,
        minimum=service.scaling.min_replicas,
        maximum=service.scaling.max_replicas,
        target=situation.target,
        declared_target=service.scaling.target_concurrency,
    )
    product = situation.product or (known.product if known else "")
    if known is not None and known.terms.same_declaration(terms):
        return known if known.product == product else replace(known, product=product)
    return Counterfactual(
        terms=terms,
        version=known.version + 1 if known else 1,
        since=now,
        running=sum(situation.held.values()),
        product=product,
    )


def _interval(before: Ledger, after: Ledger, lines: list[LineKey], situation: Situation, seconds: Seconds) -> Interval:
    work: dict[str, Work] = {}
    energy, starts = NOTHING, Joules(0)
    for line in lines:
        now, then = after.books[line].total.account, before.books.get(line)
        old = then.total.account if then else Account()
        replicas = situation.held.get(line.variant, 0)
        part = Work(
            (now.prompt_tokens - now.cached_prompt_tokens) - (old.prompt_tokens - old.cached_prompt_tokens),
            now.generated_tokens - old.generated_tokens,
            now.iterations - old.iterations,
            replicas * seconds,
        )
        known = work.get(line.variant)
        work[line.variant] = part if known is None else _sum(known, part)
        energy += Figure(
            now.energy.low - old.energy.low, now.energy.best - old.energy.best, now.energy.high - old.energy.high
        )
        starts += now.starting - old.starting
    return Interval(
        seconds=seconds,
        held={name: count for name, count in situation.held.items() if count},
        work=work,
        energy=energy,
        starts=starts,
        starting=situation.starting,
        resting=situation.resting,
    )


def _sum(one: Work, other: Work) -> Work:
    """Of one variant in two zones; the replica-seconds are those of both already."""
    return Work(
        one.prompt_tokens + other.prompt_tokens,
        one.generated_tokens + other.generated_tokens,
        one.iterations + other.iterations,
        one.seconds,
    )


def _lines(ledger: Ledger) -> Mapping[ServiceKey, list[LineKey]]:
    """By service. Savings are carried by the line of the reference variant, else by the first."""
    found: dict[ServiceKey, list[LineKey]] = {}
    for line in sorted(ledger.books):
        if line.service is not None:
            found.setdefault(line.service, []).append(line)
    return found


def _variances(
    ledger: Ledger, known: Counterfactual, situation: Situation, interval: Interval
) -> Mapping[str, Variance]:
    """Of the reference variant and of those that run or worked."""
    if not known.product:
        return {}
    empty = hardware_of(known.product).bare.value
    found = {}
    worked = {name for name, work in interval.work.items() if work.generated_tokens > 0}
    for variant in situation.service.variants:
        if variant.name not in {known.terms.variant, *interval.held, *worked}:
            continue
        placement = Placement(situation.service.key, variant.name, known.product)
        learned = ledger.learned.get(placement)
        draw = idle_draw(None if situation.throttled else learned, known.product, variant.gpus)
        # the GPU that a replica leaves draws its bare power on, unless its machine is turned off: the upper bound
        low, best = (max(watts.value - empty * variant.gpus, 0.0) for watts in (draw.low, draw.best))
        found[variant.name] = Variance(
            variant=variant,
            draw=draw,
            standing=Figure(Watts(low), Watts(best), Watts(max(draw.high.value, best))),
            steps=step_model(learned, placement),
            step=step_cost(learned, placement),
            learned=learned,
            profile=situation.profiles.get(variant.name),
        )
    return found


def _more_replicas(running: int, least: int, interval: Interval, reference: Variance) -> Figure[Joules]:
    """V2: what the baseline's replicas stand for, and the steps that the same work takes when it is spread wider.

    Requests in flight are the demand's, so tokens per step fall as replicas grow, down to one. A step with fewer
    tokens costs no more than the present ones did, which bounds the second part also where there is no model.
    """
    part, work = _standing(running - least, interval.seconds, reference), interval.together
    if work.iterations <= 0 or work.generated_tokens <= work.iterations or interval.replicas <= 0:
        return part
    batch = work.generated_tokens / work.iterations
    more = work.generated_tokens / max(batch * interval.replicas / max(running, 1), 1.0) - work.iterations
    stood = reference.draw.low.value * interval.replicas * interval.seconds
    most = max(interval.energy.high.value - stood, 0.0) / work.iterations
    if isinstance(reference.step, Missing):
        return part + _times(Figure(Joules(0), Joules(0), Joules(most)), more)
    step = reference.step
    best = min(step.best.value, most)
    low, high = step.low.value * OTHER_LOAD.low, min(step.high.value * OTHER_LOAD.high, most)
    return part + _times(Figure(Joules(min(low, best)), Joules(best), Joules(max(high, best))), more)


def _started(interval: Interval, reference: Variance) -> Figure[Joules]:
    """What starting replicas drew beyond a loaded idle one, as which they count. The baseline's own starts are free."""
    held = reference.draw.best.value * interval.starting * interval.seconds
    return Figure.exact(Joules(interval.starts.value - held))


def _standing(replicas: int, seconds: Seconds, reference: Variance) -> Figure[Joules]:
    draw = reference.standing
    joules = Figure(Joules(draw.low.value), Joules(draw.best.value), Joules(draw.high.value))
    return _times(joules, replicas * seconds)


def _precision(name: str, interval: Interval, variances: Mapping[str, Variance]) -> Figure[Joules] | Missing:
    """The work of other variants, had the reference variant done it on as many replicas."""
    reference, part = variances[name], NOTHING
    for other, work in interval.work.items():
        if other == name or (work.generated_tokens <= 0 and other not in interval.held):
            continue
        variance = variances.get(other)
        if variance is None:
            return Missing(Reason.NO_HISTORY, f"variant {other} is in the spec no longer")
        seconds = Seconds(interval.held.get(other, 0) * interval.seconds)
        change = _switched(reference, variance, work, seconds)
        if isinstance(change, Missing):
            return change
        part += change
    return part


def _switched(reference: Variance, other: Variance, work: Work, seconds: Seconds) -> Figure[Joules] | Missing:
    """By both step models, else by J per token at the concurrency at hand; a variant without work only stands.

    Both are taken from profiles or both from bins, since those hold idle moments and profiles do not.
    """
    # a loaded GPU draws what its CUDA context costs, whatever the precision: only their number makes a difference
    fewer = reference.variant.gpus - other.variant.gpus
    stands = _times(_over(reference.standing, seconds), fewer / reference.variant.gpus)
    if work.generated_tokens <= 0:
        return stands
    ours, theirs = reference.steps, other.steps
    done = replace(work, seconds=0.0)
    if not isinstance(ours, Missing) and not isinstance(theirs, Missing):
        return stands + _less(work_energy(ours, done), work_energy(theirs, done))
    if work.iterations <= 0:
        return Missing(Reason.NO_SERIES, "the engine does not count its iterations")
    concurrency = max(work.generated_tokens / work.iterations, 1.0)
    one: Figure[Joules] | Missing | None = reference.profiled(concurrency)
    two: Figure[Joules] | Missing | None = other.profiled(concurrency)
    if one is None or two is None:
        one, two = reference.measured(concurrency), other.measured(concurrency)
    if isinstance(one, Missing):
        return one
    if isinstance(two, Missing):
        return two
    # J per token holds the loaded draw already
    return _less(one * work.generated_tokens, two * work.generated_tokens)


def _account(parts: Parts, interval: Interval, zone: ZoneReading | None) -> Account:
    """V5: what is booked, with the carbon of it."""
    intensity = average_intensity(zone)
    whole = total(parts)
    grams = Figure.exact(Grams(0))
    if intensity is not None and zone is not None:
        # a negative saving is least where the factors are highest
        pue = zone.pue
        factors = [(pue.low, intensity.low), (pue.best, intensity.best), (pue.high, intensity.high)]
        low = min(emissions(whole.low * ratio, one).value for ratio, one in factors)
        high = max(emissions(whole.high * ratio, one).value for ratio, one in factors)
        grams = Figure(Grams(low), emissions(whole.best * pue.best, intensity.best), Grams(high))
    return Account(
        compared=interval.energy.best,
        avoided_replicas=parts.get(Saving.REPLICAS, NOTHING),
        avoided_rest=parts.get(Saving.REST, NOTHING),
        avoided_precision=parts.get(Saving.PRECISION, NOTHING),
        avoided_other=parts.get(Saving.OTHER, NOTHING),
        avoided_carbon=grams,
        avoided_unpriced=whole.best if intensity is None else Joules(0),
    )


def _demanded(known: Counterfactual, interval: Interval) -> Counterfactual:
    """Tokens of the first week, then a mean of the last ones that forgets over a week."""
    demand, tokens, seconds = known.demand, max(interval.together.generated_tokens, 0.0), interval.seconds
    if seconds <= 0:
        return known
    if demand.first_seconds < WEEK:
        first = Demand(demand.first_tokens + tokens, demand.first_seconds + seconds)
        return replace(known, demand=replace(first, rate=first.first_tokens / first.first_seconds))
    share = min(seconds / WEEK, 1.0)
    return replace(known, demand=replace(demand, rate=demand.rate + share * (tokens / seconds - demand.rate)))


def _over(draw: Figure[Watts], seconds: Seconds) -> Figure[Joules]:
    return Figure(*(Joules(watts.value * seconds) for watts in (draw.low, draw.best, draw.high)))


def _less(one: Figure[Joules], other: Figure[Joules]) -> Figure[Joules]:
    """The difference of two figures whose errors are independent: low less high, high less low."""
    return Figure(one.low - other.high, one.best - other.best, one.high - other.low)


def _times(figure: Figure[Joules], factor: float) -> Figure[Joules]:
    """By a factor of either sign."""
    if factor >= 0:
        return figure * factor
    return Figure(figure.high * factor, figure.best * factor, figure.low * factor)
