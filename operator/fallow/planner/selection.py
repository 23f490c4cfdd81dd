"""Which policy governs a service, which zone prices it, which GPU product it runs on."""

from collections.abc import Callable, Iterable, Mapping

from fallow.domain.policies import UTC, Policy
from fallow.domain.snapshots import ClusterView, Node, Pod
from fallow.domain.workloads import Service, ServiceKey, ServiceMemory, Variant


def policy_for(service: Service, policies: Iterable[Policy]) -> Policy | None:
    """The matching policy of the highest priority; the first name wins a tie."""
    matching = [
        policy
        for policy in policies
        if policy.namespaces.matches(service.namespace_labels) and policy.services.matches(service.labels)
    ]
    return min(matching, key=lambda policy: (-policy.priority, policy.name), default=None)


def governed(cluster: ClusterView, which: Callable[[Policy], bool]) -> Mapping[str, tuple[Policy, tuple[Service, ...]]]:
    """Policies of which that is so, by name, each with the services that it governs; nobody is asked where none is."""
    chosen = {policy.name: policy for policy in cluster.policies if which(policy)}
    found: dict[str, list[Service]] = {name: [] for name in chosen}
    for service in cluster.services.values() if chosen else ():
        policy = policy_for(service, cluster.policies)
        if policy is not None and policy.name in found:
            found[policy.name].append(service)
    return {name: (policy, tuple(found[name])) for name, policy in chosen.items()}


def time_zones(cluster: ClusterView) -> Mapping[ServiceKey, str]:
    """Whose midnights end a service's days: those of its policy."""
    governed = {key: policy_for(service, cluster.policies) for key, service in cluster.services.items()}
    return {key: policy.time_zone for key, policy in governed.items() if policy is not None}


def cluster_time_zone(policies: Iterable[Policy]) -> str:
    """For everything that is no service's: that of the highest policy that leaves nobody out, else UTC."""
    everybody = [policy for policy in policies if not (policy.namespaces.requirements or policy.services.requirements)]
    first = min(everybody, key=lambda policy: (-policy.priority, policy.name), default=None)
    return first.time_zone if first else UTC


def nodes_of(cluster: ClusterView, pods: Iterable[Pod]) -> tuple[Node, ...]:
    """The nodes of pods, each once."""
    names = dict.fromkeys(pod.node for pod in pods)
    return tuple(node for name in names if (node := cluster.nodes.get(name)) is not None)


def product_of(cluster: ClusterView, service: Service) -> str | None:
    """The GPU product under the service's pods, if they all agree."""
    return agreed(nodes_of(cluster, cluster.pods_by_service.get(service.key, ())))


def agreed(nodes: Iterable[Node]) -> str | None:
    """Their one GPU product."""
    products = {node.gpu_product for node in nodes if node.gpu_product}
    return products.pop() if len(products) == 1 else None


def serving_of(cluster: ClusterView, service: Service, memory: ServiceMemory) -> Variant:
    """The remembered variant; without memory the one with most replicas; the reference at last."""
    remembered = service.variant(memory.serving) if memory.serving else None
    if remembered is not None:
        return remembered
    running = {w.variant: w.replicas for w in cluster.workloads_by_service.get(service.key, ()) if w.replicas > 0}
    declared = [variant for variant in service.variants if variant.name in running]
    return max(declared, key=lambda variant: running[variant.name], default=service.reference)
