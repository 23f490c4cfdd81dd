"""Two services want more than four GPUs: they go to the one that matters more while it needs them, and come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import DWELL, MAX_AGE, Scene, service, steady
from e2e.harness.stack import Stack

pytestmark = pytest.mark.cluster

NAMESPACE = "short"
GROWS = {"minReplicas": 1, "maxReplicas": 3, "targetConcurrency": 8}
GUARDS = {
    "dwell": f"{DWELL}s",
    "metricsMaxAge": f"{MAX_AGE}s",
    "maxStepPerMinute": "4x",
    "objectiveVeto": False,
    "gpusShortAfter": "5s",
}
# In flight: about as many as arrive in a second.
LITTLE, MUCH = steady(3), steady(26)


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {"cycle_interval": 1, "status_interval": 2}
    with Stack(cluster, operator_settings=settings) as stack, Scene(stack, nodes=1, gpus=4) as scene:
        scene.namespace(NAMESPACE, guards=GUARDS)
        scene.put(service(NAMESPACE, "high", scaling=GROWS, priority=100), service(NAMESPACE, "low", scaling=GROWS))
        stack.traffic(NAMESPACE, "high", LITTLE)
        stack.traffic(NAMESPACE, "low", MUCH)
        yield scene


def short(scene: Scene, name: str) -> list[dict[str, Any]]:
    return [decision for decision in scene.decisions(NAMESPACE, name) if decision["reason"] == "GpusShort"]


def test_gpus_go_to_higher_priority_and_come_back(scene: Scene) -> None:
    scene.until_running(NAMESPACE, "low", 3)
    scene.until_running(NAMESPACE, "high", 1)

    scene.stack.traffic(NAMESPACE, "high", MUCH)
    scene.until(lambda: scene.ready(NAMESPACE, "high") == 3, "the GPUs of high")
    scene.until(lambda: scene.ready(NAMESPACE, "low") == 1, "low on its least")
    told = scene.until(lambda: short(scene, "low"), "the decision in the status")
    assert "short/high of priority 100 goes before" in told[0]["message"]
    assert ("ScaleDown", "GpusShort") in {
        (event.get("action", ""), event["reason"]) for event in scene.events(NAMESPACE, "low")
    }
    assert not short(scene, "high")

    scene.stack.traffic(NAMESPACE, "high", LITTLE)
    scene.until(lambda: scene.ready(NAMESPACE, "low") == 3, "the GPUs of low")
    assert scene.ready(NAMESPACE, "high") == 1
    assert min(scene.ready_over_time(NAMESPACE, "low")[1:]) >= 1
