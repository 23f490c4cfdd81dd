"""A variant comes by steps: one replica first, then the rest; and goes again where requests are late with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import JSON, Scene, profile, service, steady, zone
from e2e.harness.stack import Stack

pytestmark = pytest.mark.cluster

NAMESPACE = "shifted"
COUNT = 4
TIERS = [{"above": 350, "allow": ["FP8"]}, {"above": 0, "allow": ["BF16"]}]
SHIFT = {"steps": ["10%", "50%"], "watch": "5s"}
SCALING = {"minReplicas": COUNT, "maxReplicas": COUNT, "targetConcurrency": 16}


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {"cycle_interval": 1, "status_interval": 2, "estimation_window": 10}
    with Stack(cluster, operator_settings=settings) as stack, Scene(stack, nodes=2, gpus=8) as scene:
        scene.namespace(NAMESPACE, precision={"tiers": TIERS}, shift=SHIFT)
        scene.put(zone("shifted", 300), profile("shifted-bf16", "BF16", 0.20), profile("shifted-fp8", "FP8", 0.15))
        scene.put(chat("good"), chat("crowded", "--max-num-seqs", "1"))
        for name in ("good", "crowded"):
            stack.traffic(NAMESPACE, name, steady(12))
        for name in ("good", "crowded"):
            scene.until(lambda name=name: scene.serves(NAMESPACE, name, "bf16", COUNT), f"BF16 of {name}")  # type: ignore[misc]
        yield scene


def chat(name: str, *of_fp8: str) -> JSON:
    """A first token within a second, which an FP8 engine that takes one request at a time has no chance to keep."""
    asked = service(NAMESPACE, name, precisions=("BF16", "FP8"), scaling=SCALING, objectives={"ttft": {"p95": "1s"}})
    asked["spec"]["variants"][1]["args"] += of_fp8
    return asked


def steps(scene: Scene, name: str) -> list[int]:
    """Replicas of FP8 that were asked for, one after the other."""
    asked = [
        int(change.body["spec"]["replicas"])
        for change in scene.deployments.changes(NAMESPACE)
        if change.body is not None and change.key[1] == f"{name}-fp8"
    ]
    return [count for count, _ in groupby(asked)]


def test_it_comes_by_steps_where_it_is_as_good_and_goes_where_it_is_not(scene: Scene) -> None:
    began = scene.pods.changes(NAMESPACE)[-1].at
    scene.put(zone("shifted", 400))
    scene.until(lambda: scene.serves(NAMESPACE, "good", "fp8", COUNT), "FP8 to serve")
    assert steps(scene, "good") == [1, 2, COUNT]
    assert scene.decisions(NAMESPACE, "good")[-1]["reason"] == "SwitchComplete"

    scene.until(lambda: "givenUp" in scene.status(NAMESPACE, "crowded"), "the crowded one to be given up")
    scene.until(lambda: scene.serves(NAMESPACE, "crowded", "bf16", COUNT), "BF16 to serve all again")
    assert steps(scene, "crowded") == [1, 0]
    last = scene.status(NAMESPACE, "crowded")["givenUp"]
    assert (last["variant"], last["times"]) == ("fp8", 1)
    assert "above objectives.ttft of 1000 ms" in last["why"]

    # make before break: at no moment fewer ready pods than before
    for name in ("good", "crowded"):
        assert min(scene.ready_over_time(NAMESPACE, name, since=began)) >= COUNT
