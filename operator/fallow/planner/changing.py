"""Which services change just now: replicas that come or go, of policies that allow so many at one time."""

from collections.abc import Mapping

from fallow.domain.snapshots import ClusterView
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey
from fallow.planner.context import STARTING_LIMIT
from fallow.planner.selection import policy_for


def changing(cluster: ClusterView, now: Instant) -> Mapping[str, frozenset[ServiceKey]]:
    """By policy, of those that set a limit. A replica that takes too long is not on its way any more."""
    found: dict[str, frozenset[ServiceKey]] = {
        policy.name: frozenset() for policy in cluster.policies if policy.guards.most_at_once is not None
    }
    if not found:
        return found
    for key, service in cluster.services.items():
        policy = policy_for(service, cluster.policies)
        if policy is not None and policy.name in found and _is_changing(cluster, key, now):
            found[policy.name] |= {key}
    return found


def _is_changing(cluster: ClusterView, key: ServiceKey, now: Instant) -> bool:
    return any(
        pod.deleting or (not pod.ready and now - (pod.started or pod.created) <= STARTING_LIMIT)
        for pod in cluster.pods_by_service.get(key, ())
    )
