"""Which services change just now: replicas that come or go, of policies that allow so many at one time."""

from collections.abc import Mapping

from fallow.domain.snapshots import ClusterView
from fallow.domain.workloads import ServiceKey
from fallow.planner.selection import policy_for


def changing(cluster: ClusterView) -> Mapping[str, frozenset[ServiceKey]]:
    """By policy; those that set no limit are not among them."""
    found: dict[str, frozenset[ServiceKey]] = {
        policy.name: frozenset() for policy in cluster.policies if policy.guards.most_at_once is not None
    }
    if not found:
        return found
    for key, service in cluster.services.items():
        policy = policy_for(service, cluster.policies)
        if policy is not None and policy.name in found and _is_changing(cluster, key):
            found[policy.name] |= {key}
    return found


def _is_changing(cluster: ClusterView, key: ServiceKey) -> bool:
    pods = cluster.pods_by_service.get(key, ())
    asked = sum(workload.replicas for workload in cluster.workloads_by_service.get(key, ()))
    return any(pod.deleting or not pod.ready for pod in pods) or len(pods) != asked
