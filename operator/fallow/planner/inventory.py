"""Which GPUs of the cluster nobody has, by product: where another variant of a service could run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fallow.domain.snapshots import ClusterView, Node, Pod


@dataclass(frozen=True, slots=True)
class Free:
    """Free GPUs of each ready node, by product. `waiting` pods have no node yet: GPUs that each asks for, and the
    products that it may run on (none: any).
    """

    nodes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    waiting: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def none(self) -> Free:
        """The same products with nothing free."""
        return Free(dict.fromkeys(self.nodes, ()))

    def room(self, product: str, gpus: int) -> int:
        """Replicas of so many GPUs that there is room for, beside everything that waits for GPUs already."""
        fits = sum(free // gpus for free in self.nodes.get(product, ()))
        taken = sum(asked for asked, products in self.waiting if not products or product in products)
        return max(fits - -(-taken // gpus), 0)


def held_gpus(pods: Iterable[Pod]) -> Counter[str]:
    """By node; of pods that have none yet under no name."""
    held = Counter[str]()
    for pod in pods:
        held[pod.node] += pod.gpus
    return held


def free_gpus(cluster: ClusterView) -> Free:
    held = held_gpus(cluster.pods.values())
    nodes: dict[str, list[int]] = defaultdict(list)
    for node in whole_nodes(cluster):
        nodes[node.gpu_product].append(max(node.places - held[node.name], 0))
    return Free({product: tuple(found) for product, found in nodes.items()}, tuple(_waiting(cluster)))


def whole_nodes(cluster: ClusterView) -> tuple[Node, ...]:
    """Those that take pods and give them whole GPUs: where GPUs are used in turns or in parts none is to be had for
    sure.
    """
    parted = {pod.node for pod in cluster.pods.values() if pod.instances or pod.copies}
    return tuple(
        node
        for node in cluster.nodes.values()
        if node.ready and not node.cordoned and node.gpu_product and not node.in_turns and node.name not in parted
    )


def emptying(cluster: ClusterView) -> frozenset[str]:
    """Nodes that take no pods so that those on them move."""
    return frozenset(node.name for node in cluster.nodes.values() if node.emptying is not None and node.cordoned)


def _waiting(cluster: ClusterView) -> Iterable[tuple[int, tuple[str, ...]]]:
    return ((pod.gpus, _products(cluster, pod)) for pod in cluster.pods.values() if not pod.scheduled and pod.gpus)


def _products(cluster: ClusterView, pod: Pod) -> tuple[str, ...]:
    service = cluster.services.get(pod.service) if pod.service is not None else None
    variant = service.variant(pod.variant) if service is not None and pod.variant is not None else None
    return () if variant is None else variant.products
