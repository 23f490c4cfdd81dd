"""What one replica of a variant can carry, and which profile says so."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import inf

from fallow.domain.arrivals import Arrivals
from fallow.domain.profiles import Profile, ProfilePoint
from fallow.domain.units import Seconds
from fallow.domain.workloads import Service, Variant

# vLLM's own default of --max-num-seqs on data-centre GPUs (vllm/engine/arg_utils.py, usage context API server)
ENGINE_CONCURRENCY = 256
# Prompts take at most this share of a replica's time: beyond it first tokens wait without bound (M/G/1). A choice.
MOST_PREFILL = 0.9
# So the time of a prompt is at most so many times that of its answer's tokens.
MOST_TO_DECODING = MOST_PREFILL / (1.0 - MOST_PREFILL)
# Below so many requests at once in the mean, how long steps take is not told from how many are in work. A choice.
LEAST_BATCH = 1.0
# So many times as many requests must decode as are computed. A choice.
MOSTLY = 4.0
# Steps are believed to take up to so many times as long as the profile says, or as short. A choice.
MOST_PACE = 2.0
# Batches that are looked at between two points of a profile.
FINE = 4


@dataclass(frozen=True, slots=True)
class Capacity:
    """Requests in flight that one replica should carry at most, and where the number comes from.

    `requests_per_second`: the highest rate of requests like the recent ones that a replica keeps up with. `patience`:
    seconds that a request may wait for its turn where waiting is all that more of them bring; 0 where it is not.
    """

    concurrency: float
    origin: str
    tokens_per_second: float | None = None
    requests_per_second: float | None = None
    patience: float = 0.0


def profile_for(variant: Variant, profiles: Sequence[Profile], product: str | None = None) -> Profile | None:
    """The profile of a variant's model, precision and GPU count, on the product at hand or on one it may use."""
    fitting = [
        profile
        for profile in profiles
        if profile.model == variant.model
        and profile.precision.upper() == variant.precision.upper()
        and profile.gpus == variant.gpus
    ]
    if product is not None and (not variant.products or product in variant.products):
        return next((profile for profile in fitting if profile.gpu_product == product), None)
    if variant.products:
        return next((profile for profile in fitting if profile.gpu_product in variant.products), None)
    return fitting[0] if len(fitting) == 1 else None


def profile_on(variant: Variant, profiles: Sequence[Profile], product: str) -> Profile | None:
    """Of the product at hand alone; None where the variant may not run on it."""
    found = profile_for(variant, profiles, product)
    return found if found is not None and found.gpu_product == product else None


def engine_limit(variant: Variant, profile: Profile | None) -> int:
    """Requests that an engine takes at once, as far as anybody says so."""
    return variant.max_concurrency or (profile.max_concurrency if profile else None) or ENGINE_CONCURRENCY


def replica_capacity(
    service: Service,
    variant: Variant,
    profile: Profile | None,
    headroom: float,
    recent: Arrivals | None = None,
) -> Capacity:
    """Declared concurrency first, then the largest profiled one that meets the ITL objective, then the engine's limit.

    Headroom (0..1) is kept free from profiled and engine limits; a declared target is taken as it is. The lengths of
    `recent` requests, and how long their steps took, give the rate beside it.
    """
    known = _concurrency(service, variant, profile, headroom)
    if recent is None or recent.tokens is None or profile is None:
        return Capacity(*known)
    limit = engine_limit(variant, profile)
    rate = rate_within(profile, *recent.tokens, service.objectives.itl_p95, limit, pace(profile, recent))
    return Capacity(*known, requests_per_second=rate, patience=patience(service, profile, recent.tokens[0]))


def patience(service: Service, profile: Profile, prompt: float) -> float:
    """Seconds that are left of the objective for the first token once its own prompt of so many tokens is computed,
    where that is the only objective: nothing else is late by waiting. 0 where gaps have one too.
    """
    objectives, own = service.objectives, profile.prefill_seconds(prompt)
    if objectives.itl_p95 is not None or objectives.ttft_p95 is None or own is None:
        return 0.0
    return max(objectives.ttft_p95 - own, 0.0)


def pace(profile: Profile, recent: Arrivals) -> float:
    """How many times as long a step has lately taken as the profile says; 1 where too little was seen to tell.

    A profile is measured at one mix of lengths: longer contexts are more cache to read in each step. By Little's law
    the mean gap between two tokens is the requests that decode over the tokens they make in a second; by the profile it
    is s(b) / (1 - f) at the mean batch b of a replica whose time goes to prompts by the share f. Of the requests in
    work f / (1 - f) are prompts that are computed or wait for it (M/M/1); where they are many, the rest is not known.
    """
    if profile.prefill_rate is None or not profile.points or not recent.is_known or recent.replicas <= 0:
        return 1.0
    computed = recent.prompt if recent.computed is None else recent.computed
    made = recent.output if recent.made is None else recent.made
    share = min(computed / (profile.prefill_rate * recent.replicas), MOST_PREFILL)
    prompts = share / (1.0 - share)
    batch = recent.working / recent.replicas - prompts
    if batch < max(LEAST_BATCH, MOSTLY * prompts) or made <= 0:
        return 1.0
    gap = batch * recent.replicas / made
    found = gap * (1.0 - share) / _step_at(profile.points, batch)
    return min(max(found, 1 / MOST_PACE), MOST_PACE)


def rate_within(
    profile: Profile, prompt: float, output: float, itl: Seconds | None, limit: float, slower: float = 1.0
) -> float | None:
    """Requests per second of so many tokens at which the mean gap between tokens meets the objective.

    At a batch b a request takes `output` steps of which it has a b-th part, and its prompt, which holds all steps up:
    r = 1 / (output s(b) / b + P) with P = prompt / p + prompt_seconds, and a step takes s / (1 - r P) by the clock,
    which is s + P b / output. Where no batch meets the objective, one request after another. Steps are so many times
    `slower` than in the profile. None where that does not tell the prefill rate p.
    """
    prefill = profile.prefill_seconds(prompt)
    if prefill is None or not profile.points:
        return None
    met = rate_met(profile, prompt, output, itl, limit, slower)
    return met or 1.0 / (output * _step(profile.points[0]) * slower + prefill)


def rate_met(
    profile: Profile, prompt: float, output: float, itl: Seconds | None, limit: float, slower: float = 1.0
) -> float:
    """The same; 0 where no batch meets the objective, or the profile tells too little."""
    prefill, most = profile.prefill_seconds(prompt), inf if itl is None else float(itl)
    if prefill is None or not profile.points:
        return 0.0

    def over(of: tuple[float, float]) -> tuple[float, float]:
        """By how much a batch exceeds the objective (s), and the share of prompts; both are linear where steps are."""
        batch, step = of[0], of[1] * slower
        return step + prefill * batch / output - most, prefill * batch - MOST_TO_DECODING * output * step

    # the larger the batch, the longer are steps and the more of the time goes to prompts
    batches = profiled_steps(profile.points, limit)
    met = bisect_left(batches, True, key=lambda of: max(over(of)) > 0)
    if met == 0:
        return 0.0
    batch, step = batches[met - 1]
    if met < len(batches):
        beyond, longer = batches[met]
        within = [
            (low, high) for low, high in zip(over((batch, step)), over((beyond, longer)), strict=True) if high > 0
        ]
        part = min(low / (low - high) for low, high in within)
        batch, step = batch + part * (beyond - batch), step + part * (longer - step)
    return 1.0 / (output * step * slower / batch + prefill)


def in_work(profile: Profile, prompt: float, output: float, limit: float, rate: float) -> float | None:
    """Requests in work on a replica to which so many come per second, by its profile and in the mean.

    The batch b at which it keeps up with them (`rate_within`), and the prompt that is computed for a share of the time.
    Between two batches, and below one, they are linear in the rate. None where it cannot keep up.
    """
    prefill, below, slower = profile.prefill_seconds(prompt), 0.0, 0.0
    if prefill is None or not profile.points:
        return None
    for batch, step in profiled_steps(profile.points, limit):
        carried = 1.0 / (output * step / batch + prefill)
        if rate <= carried:
            return below + (batch - below) * (rate - slower) / (carried - slower) + rate * prefill
        if carried > slower:
            below, slower = batch, carried
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Same:
    """Points by which they are, not by what is in them: to look those up takes longer than it spares."""

    points: tuple[ProfilePoint, ...]

    def __hash__(self) -> int:
        return id(self.points)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.points is self.points


def profiled_steps(points: tuple[ProfilePoint, ...], limit: float) -> tuple[tuple[float, float], ...]:
    """Batches up to the limit, FINE to each stretch between two points, with seconds of a step; steps are linear."""
    return _profiled_steps(Same(points), limit)


@lru_cache
def _profiled_steps(of: Same, limit: float) -> tuple[tuple[float, float], ...]:
    points = of.points
    known = [(1.0, _step(points[0])), *((point.concurrency, _step(point)) for point in points)]
    parts = (
        (low + (high - low) * part / FINE, before + (after - before) * part / FINE)
        for (low, before), (high, after) in pairwise(known)
        for part in range(FINE)
    )
    return tuple((batch, step) for batch, step in (*parts, known[-1]) if batch <= limit)


def _step_at(points: tuple[ProfilePoint, ...], batch: float) -> float:
    """Linear between points and held flat outside them."""
    above = next((point for point in points if point.concurrency >= batch), points[-1])
    below = next((point for point in reversed(points) if point.concurrency <= batch), points[0])
    apart = above.concurrency - below.concurrency
    share = (batch - below.concurrency) / apart if apart > 0 else 0.0
    return _step(below) + share * (_step(above) - _step(below))


def _step(point: ProfilePoint) -> float:
    return point.concurrency / point.tokens_per_second if point.itl is None else float(point.itl)


def _concurrency(
    service: Service, variant: Variant, profile: Profile | None, headroom: float
) -> tuple[float, str, float | None]:
    """With its origin, and the tokens per second that the profile has there."""
    limit = engine_limit(variant, profile)
    if service.scaling.target_concurrency is not None:
        return min(service.scaling.target_concurrency, limit), "scaling.targetConcurrency", None
    if profile and service.objectives.itl_p95 is not None:
        within = profile.concurrency_within(service.objectives.itl_p95)
        if within is not None:
            concurrency = min(within, limit) * (1 - headroom)
            return concurrency, f"ModelProfile {profile.name} within objectives.itl", _rate(profile, within)
        if any(point.itl is not None for point in profile.points):
            least = min(profile.points[0].concurrency, limit)
            origin = f"the lowest of ModelProfile {profile.name}, since objectives.itl is met nowhere in it"
            return least * (1 - headroom), origin, _rate(profile, least)
    if profile and profile.points:
        top = min(profile.points[-1].concurrency, limit)
        return top * (1 - headroom), f"ModelProfile {profile.name}", _rate(profile, top)
    return limit * (1 - headroom), "the engine's concurrency limit", None


def _rate(profile: Profile, concurrency: float) -> float | None:
    return next(
        (point.tokens_per_second for point in reversed(profile.points) if point.concurrency <= concurrency), None
    )
