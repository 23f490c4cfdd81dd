"""Three replicas on two nodes: the one that goes leaves its node empty, where Kubernetes would keep one on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import Scene, service, steady
from e2e.harness.stack import Stack

pytestmark = pytest.mark.cluster

PACKED, SPREAD = "packed", "apart"
COST = "controller.kubernetes.io/pod-deletion-cost"
# In flight: about as many as arrive in a second; three replicas at a target of eight, and two.
MUCH, LESS = steady(20), steady(10)


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {"cycle_interval": 1, "status_interval": 2}
    with Stack(cluster, operator_settings=settings) as stack, Scene(stack, nodes=2, gpus=8) as scene:
        scene.namespace(PACKED, consolidation={"enabled": True})
        scene.namespace(SPREAD)
        yield scene


def on_nodes(scene: Scene, namespace: str) -> Counter[str]:
    return Counter(body["spec"]["nodeName"] for body in ours(scene, namespace) if body["spec"].get("nodeName"))


def ours(scene: Scene, namespace: str) -> list[dict[str, Any]]:
    """Pods that stay."""
    return [body for body in scene.pods.all(namespace).values() if "deletionTimestamp" not in body["metadata"]]


def falls_to_two(scene: Scene, namespace: str, least: int) -> list[int]:
    """Replicas on each node that has some, of three on two nodes of which one went."""
    scaling = {"minReplicas": least, "maxReplicas": 3, "targetConcurrency": 8}
    scene.put(service(namespace, "chat", scaling=scaling))
    scene.stack.traffic(namespace, "chat", MUCH)
    scene.until_running(namespace, "chat", 3)
    assert sorted(on_nodes(scene, namespace).values()) == [1, 2]
    scene.stack.traffic(namespace, "chat", LESS)
    scene.until_running(namespace, "chat", 2)
    scene.until(lambda: len(ours(scene, namespace)) == 2, "one to go")
    return sorted(on_nodes(scene, namespace).values())


def test_the_replica_that_is_alone_goes_first_and_its_node_is_empty(scene: Scene) -> None:
    """One service after the other: which node is emptied depends on all that is there."""
    assert falls_to_two(scene, PACKED, least=1) == [2]
    assert falls_to_two(scene, SPREAD, least=2) == [1, 1]

    costs = [
        (change.body["metadata"].get("annotations") or {}).get(COST)
        for change in scene.pods.changes(PACKED)
        if change.body is not None
    ]
    assert "-1000" in costs
    assert not any(COST in (body["metadata"].get("annotations") or {}) for body in ours(scene, PACKED))
