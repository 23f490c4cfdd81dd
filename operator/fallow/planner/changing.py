"""Which services change just now: replicas that come or go, of policies that allow so many at one time."""

from collections.abc import Mapping

from fallow.domain.snapshots import ClusterView
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey
from fallow.planner.context import STARTING_LIMIT
from fallow.planner.selection import governed


def changing(cluster: ClusterView, now: Instant) -> Mapping[str, frozenset[ServiceKey]]:
    """By policy, of those that set a limit. A replica that takes too long is not on its way any more."""
    limited = governed(cluster, lambda policy: policy.guards.most_at_once is not None)
    return {
        name: frozenset(service.key for service in services if _is_changing(cluster, service.key, now))
        for name, (_, services) in limited.items()
    }


def _is_changing(cluster: ClusterView, key: ServiceKey, now: Instant) -> bool:
    return any(
        pod.deleting or (not pod.ready and now - (pod.started or pod.created) <= STARTING_LIMIT)
        for pod in cluster.pods_by_service.get(key, ())
    )
