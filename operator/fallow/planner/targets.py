"""What one replica of each variant should carry, where somebody or something says so: measured against, not guessed."""

from collections.abc import Mapping

from fallow.domain.policies import ScalingRules
from fallow.domain.snapshots import ClusterView
from fallow.domain.workloads import Service, ServiceKey, Variant
from fallow.planner.capacity import profile_for, replica_capacity
from fallow.planner.selection import policy_for


def concurrency_targets(view: ClusterView) -> Mapping[tuple[ServiceKey, str], float]:
    """Requests in flight by service and variant. A variant of which only the engine's own default is known has none."""
    return {
        (key, variant.name): target
        for key, service in view.services.items()
        for variant in service.variants
        if (target := _target(view, service, variant)) is not None
    }


def _target(view: ClusterView, service: Service, variant: Variant) -> float | None:
    profile = profile_for(variant, view.profiles)
    said = service.scaling.target_concurrency or variant.max_concurrency or (profile and profile.max_concurrency)
    if not said and not (profile and profile.points):
        return None
    policy = policy_for(service, view.policies)
    headroom = (policy.scaling if policy else ScalingRules()).headroom
    return replica_capacity(service, variant, profile, headroom).concurrency
