"""FP8 that is declared as good comes to serve without a tier, and goes when the policy no longer lets it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import Scene, policy, profile, service, steady, variant
from e2e.harness.stack import Stack

pytestmark = pytest.mark.cluster

NAMESPACE = "precise"
LENIENT = {"match": True, "precisions": ["FP8"]}


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {"cycle_interval": 1, "status_interval": 2}
    with Stack(cluster, operator_settings=settings) as stack, Scene(stack, nodes=1, gpus=8) as scene:
        scene.namespace(NAMESPACE, hardware=LENIENT)
        scene.put(judged("precise-bf16", "BF16", 0.6), judged("precise-fp8", "FP8", 0.3))
        scaling = {"minReplicas": 2, "maxReplicas": 4}
        asked = service(NAMESPACE, "chat", scaling=scaling, objectives={"itl": {"p95": "100ms"}})
        asked["spec"]["variants"] = [variant("BF16"), {**variant("FP8"), "quality": 1}]
        scene.put(asked)
        stack.traffic(NAMESPACE, "chat", steady(10))
        yield scene


def judged(name: str, precision: str, joules_per_token: float) -> dict[str, Any]:
    """As declared, and as it was learned on another cluster: by that the one that serves can be judged."""
    found = profile(name, precision, joules_per_token)
    points = found["spec"]["points"]
    learned = [{**point, "concurrency": point["concurrency"] + 1, "source": "Learned"} for point in points]
    found["spec"] |= {"prefillTokensPerSecond": 20_000, "points": sorted([*points, *learned], key=by_concurrency)}
    return found


def by_concurrency(point: dict[str, Any]) -> float:
    return float(point["concurrency"])


def test_the_other_precision_serves_as_long_as_the_policy_lets_it(scene: Scene) -> None:
    def serves(name: str) -> bool:
        return scene.serves(NAMESPACE, "chat", name, 2)

    scene.until(lambda: serves("bf16"), "two replicas in BF16")
    began = scene.pods.changes(NAMESPACE)[-1].at
    scene.until(lambda: serves("fp8"), "FP8 to serve")
    begun, ended = [told for told in scene.decisions(NAMESPACE, "chat") if told["lever"] == "Hardware"]
    assert (begun["reason"], ended["reason"]) == ("LessPower", "SwitchComplete")
    assert "as measured in another cluster" in begun["message"]

    scene.put(policy(NAMESPACE, "Enforce", hardware={"match": True}))
    scene.until(lambda: serves("bf16"), "BF16 to serve again")
    # make before break: at no moment fewer ready pods than before
    assert min(scene.ready_over_time(NAMESPACE, "chat", since=began)) == 2
