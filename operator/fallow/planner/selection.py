"""Which policy governs a service, which zone prices it, which GPU product it runs on."""

from collections.abc import Iterable

from fallow.domain.policies import Policy
from fallow.domain.snapshots import Snapshot
from fallow.domain.workloads import Service


def policy_for(service: Service, policies: Iterable[Policy]) -> Policy | None:
    """The matching policy of the highest priority; the first name wins a tie."""
    matching = [
        policy
        for policy in policies
        if policy.namespaces.matches(service.namespace_labels) and policy.services.matches(service.labels)
    ]
    return min(matching, key=lambda policy: (-policy.priority, policy.name), default=None)


def product_of(snapshot: Snapshot, service: Service) -> str | None:
    """The GPU product under the service's pods, if they all agree."""
    products = {
        node.gpu_product
        for pod in snapshot.pods_of(service.key)
        if (node := snapshot.cluster.nodes.get(pod.node)) is not None and node.gpu_product
    }
    return products.pop() if len(products) == 1 else None
