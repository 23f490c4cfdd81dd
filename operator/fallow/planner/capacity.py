"""What one replica of a variant can carry, and which profile says so."""

from collections.abc import Sequence
from dataclasses import dataclass

from fallow.domain.profiles import Profile
from fallow.domain.workloads import Service, Variant

# vLLM's own default of --max-num-seqs on data-centre GPUs (vllm/engine/arg_utils.py, usage context API server)
ENGINE_CONCURRENCY = 256


@dataclass(frozen=True, slots=True)
class Capacity:
    """Requests in flight that one replica should carry at most, and where the number comes from."""

    concurrency: float
    origin: str
    tokens_per_second: float | None = None


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


def replica_capacity(service: Service, variant: Variant, profile: Profile | None, headroom: float) -> Capacity:
    """Declared concurrency first, then the largest profiled one that meets the ITL objective, then the engine's limit.

    Headroom (0..1) is kept free from profiled and engine limits; a declared target is taken as it is.
    """
    limit = variant.max_concurrency or (profile.max_concurrency if profile else None) or ENGINE_CONCURRENCY
    if service.scaling.target_concurrency is not None:
        return Capacity(min(service.scaling.target_concurrency, limit), "scaling.targetConcurrency")
    if profile and service.objectives.itl_p95 is not None:
        within = profile.concurrency_within(service.objectives.itl_p95)
        if within is not None:
            concurrency = min(within, limit) * (1 - headroom)
            return Capacity(concurrency, f"ModelProfile {profile.name} within objectives.itl", _rate(profile, within))
        if any(point.itl is not None for point in profile.points):
            least = min(profile.points[0].concurrency, limit)
            origin = f"the lowest of ModelProfile {profile.name}, since objectives.itl is met nowhere in it"
            return Capacity(least * (1 - headroom), origin, _rate(profile, least))
    if profile and profile.points:
        top = min(profile.points[-1].concurrency, limit)
        return Capacity(top * (1 - headroom), f"ModelProfile {profile.name}", _rate(profile, top))
    return Capacity(limit * (1 - headroom), "the engine's concurrency limit")


def _rate(profile: Profile, concurrency: float) -> float | None:
    return next(
        (point.tokens_per_second for point in reversed(profile.points) if point.concurrency <= concurrency), None
    )
