"""Between two cycles, which are half a minute apart here: who cannot wait is not kept waiting for the next one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import Scene, burst, service, steady
from e2e.harness.stack import GATEWAY_PORT, Stack

pytestmark = pytest.mark.cluster

NAMESPACE = "hurry"
CYCLE = 30
GROWS = {"minReplicas": 1, "maxReplicas": 4, "targetConcurrency": 8}
WAKE = {"metric": "gateway_requests_waiting", "selector": {"namespace": NAMESPACE, "service": "sleeper"}}
PRIORITIES = count(1)


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {
        "cycle_interval": CYCLE,
        "pulse_interval": 0.5,
        "status_interval": 2,
        "estimation_window": 15,
        "gateways": [f"http://127.0.0.1:{GATEWAY_PORT}/metrics"],
    }
    with Stack(cluster, operator_settings=settings) as stack, Scene(stack) as scene:
        # readings are as old as a cycle here
        guards = {"dwell": "3s", "metricsMaxAge": f"{4 * CYCLE}s", "maxStepPerMinute": "4x"}
        scene.namespace(NAMESPACE, guards=guards)
        scene.put(
            service(NAMESPACE, "crowded", scaling=GROWS),
            service(NAMESPACE, "sleeper", scaling={"minReplicas": 0, "maxReplicas": 1, "wake": WAKE}),
        )
        stack.traffic(NAMESPACE, "crowded", steady(3))
        stack.traffic(NAMESPACE, "sleeper", burst(3, 5))
        yield scene


def nudged(scene: Scene) -> None:
    """A cycle now, so that the next one of its own accord is half a minute away."""
    changed = {"spec": {"priority": next(PRIORITIES)}}
    scene.cluster.kubectl("patch", "energypolicy", NAMESPACE, "--type=merge", "-p", json.dumps(changed))
    time.sleep(3)


def hurries(scene: Scene, name: str) -> list[str]:
    lines = scene.stack.operator_log().splitlines()
    return [line for line in lines if f"brought forward: {NAMESPACE}/{name}: " in line]


def test_a_load_that_doubles_is_met_before_the_next_cycle(scene: Scene) -> None:
    scene.until_running(NAMESPACE, "crowded", 1)
    nudged(scene)
    began = time.monotonic()
    scene.stack.traffic(NAMESPACE, "crowded", steady(26))
    scene.until(lambda: scene.replicas(NAMESPACE, "crowded") > 1, "more replicas")
    print(f"more replicas were asked for after {time.monotonic() - began:.1f} s")
    assert hurries(scene, "crowded")
    assert "are asked for" in hurries(scene, "crowded")[0]


def test_a_request_at_the_door_of_a_resting_service_wakes_it_before_the_next_cycle(scene: Scene) -> None:
    def rests() -> bool:
        nudged(scene)
        return bool(scene.status(NAMESPACE, "sleeper").get("idle", {}).get("resting"))

    scene.until(rests, "the service to rest")
    nudged(scene)
    asked = threading.Thread(target=lambda: scene.stack.complete(NAMESPACE, "sleeper", "Is anybody there?"))
    began = time.monotonic()
    asked.start()
    scene.until(lambda: scene.replicas(NAMESPACE, "sleeper") == 1, "the wake")
    print(f"the wake was asked for after {time.monotonic() - began:.1f} s")
    asked.join(60)
    assert not asked.is_alive()
    assert "requests wait for it while it rests" in hurries(scene, "sleeper")[0]
    scene.until(
        lambda: any(one["action"] == "Wake" for one in scene.decisions(NAMESPACE, "sleeper")),
        "the decision in the status",
    )
