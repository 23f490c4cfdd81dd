"""Three replicas on two nodes, all of them needed: one node is emptied, and three are ready at every moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import Scene, policy, service, steady
from e2e.harness.stack import Stack

pytestmark = pytest.mark.cluster

NAMESPACE = "emptied"
MARK = "fallow.dev/emptying"
# About as many in flight as arrive in a second; eight a replica make three of them.
LOAD = steady(17)
STAYS = {"enabled": True}
MOVES = {"enabled": True, "maxUnavailableNodes": 1}


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {"cycle_interval": 1, "status_interval": 2}
    with Stack(cluster, operator_settings=settings) as stack, Scene(stack, nodes=2, gpus=8) as scene:
        scene.namespace(NAMESPACE, consolidation=STAYS)
        chat(scene, most=3)
        stack.traffic(NAMESPACE, "chat", LOAD)
        scene.until_running(NAMESPACE, "chat", 3)
        yield scene


def chat(scene: Scene, *, most: int) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": most, "targetConcurrency": 8}
    scene.put(service(NAMESPACE, "chat", scaling=scaling))


def on_nodes(scene: Scene) -> Counter[str]:
    """Of pods that stay."""
    pods = scene.pods.all(NAMESPACE).values()
    return Counter(body["spec"].get("nodeName", "") for body in pods if "deletionTimestamp" not in body["metadata"])


def node(scene: Scene, name: str) -> dict[str, Any]:
    return scene.cluster.get("node", name)


def cordoned(scene: Scene) -> list[str]:
    return [name for name in scene.nodes if node(scene, name)["spec"].get("unschedulable")]


def told_of_policy(scene: Scene) -> list[str]:
    found = scene.cluster.get("events", "-n", "default")["items"]
    return [event.get("message", "") for event in found if event["involvedObject"]["name"] == NAMESPACE]


def test_without_the_right_to_cordon_nothing_moves_and_its_owner_is_told_what_to_do(scene: Scene) -> None:
    assert sorted(on_nodes(scene).values()) == [1, 2]
    chat(scene, most=4)
    scene.put(policy(NAMESPACE, "Enforce", consolidation=MOVES))
    scene.until(
        lambda: any("consolidation.cordon=true" in text for text in told_of_policy(scene)),
        "the policy's owner to be told",
    )
    assert (cordoned(scene), scene.replicas(NAMESPACE, "chat")) == ([], 3)


def test_a_node_is_emptied_and_as_many_as_are_needed_are_ready_at_every_moment(scene: Scene) -> None:
    alone = min(on_nodes(scene).items(), key=lambda found: found[1])[0]
    began = time.time()
    scene.stack.chart["consolidation.cordon"] = "true"
    scene.stack.install()
    scene.until(lambda: sorted(on_nodes(scene).values()) == [3], "all replicas on one node")
    scene.until_running(NAMESPACE, "chat", 3)

    assert (cordoned(scene), alone in on_nodes(scene)) == ([alone], False)
    assert MARK in node(scene, alone)["metadata"]["annotations"]
    ready = scene.ready_over_time(NAMESPACE, "chat", since=began)
    assert (min(ready), max(ready)) == (3, 4)
    actions = [told["action"] for told in scene.decisions(NAMESPACE, "chat") if told["lever"] == "Nodes"]
    assert actions == ["Move", "MoveDone"]
    assert any(alone in text and "GPUs are in use" in text for text in told_of_policy(scene))


def test_a_node_that_nobody_removed_takes_pods_again_once_no_policy_moves_any(scene: Scene) -> None:
    scene.put(policy(NAMESPACE, "Enforce", consolidation=STAYS))
    scene.until(lambda: not cordoned(scene), "the node to take pods again")

    assert not any(MARK in node(scene, name)["metadata"].get("annotations", {}) for name in scene.nodes)
