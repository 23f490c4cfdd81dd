"""What is unknown never takes capacity away: exporters, engines, Prometheus and the API server fail, one after another.

While signals are missing the load ends. A healthy service beside them then comes to rest, which shows that the others
would have lost their replicas too, had their missing signals been read as zero.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.outages import (
    HEALTHY,
    PATIENCE,
    REPLICAS,
    Fault,
    Outage,
    cycles,
    is_fresh,
    lived_through,
    silence,
    staged,
    told,
    under_load,
    woken,
)
from e2e.harness.scenes import SERVICE_LABEL, Scene, quick_template, service

pytestmark = pytest.mark.cluster

FAULTS = (
    Fault("dcgm", "down", ("StaleSeries", "GPU-")),
    Fault("dcgm", "nan", ("NotANumber", "DCGM_FI_")),
    Fault("dcgm", "frozen", ("StaleSeries", "stands still")),
    Fault("dcgm", "no_pod_labels", ("NoSeries", "dcgm-exporter names 0 of 1 GPUs of pod")),
    Fault("vllm", "down", ("StaleSeries", "vLLM series of pod")),
    Fault("vllm", "hang", ("StaleSeries", "vLLM series of pod")),
    Fault("vllm", "nan", ("NotANumber", "vllm:num_requests")),
    Fault("vllm", "frozen", ("StaleSeries", "stand still")),
)


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    with staged(cluster, "failsafe", FAULTS, direct=False, max_age=6) as scene:
        yield scene


@pytest.fixture(scope="module")
def outage(scene: Scene) -> Outage:
    return lived_through(scene, "failsafe", FAULTS)


named = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


@named
def test_a_missing_signal_takes_no_replica_away_and_is_named(outage: Outage, fault: Fault) -> None:
    assert outage.levels[HEALTHY][-1] == 0
    assert outage.levels[fault.name] == [REPLICAS]
    condition = outage.conditions[fault.name]
    assert condition["status"] == "False"
    assert all(word in f"{condition['reason']} {condition['message']}" for word in fault.words)


@named
def test_everything_recovers_by_itself_once_the_signal_is_back(outage: Outage, fault: Fault) -> None:
    scene, namespace = outage.scene, outage.namespace
    scene.until_running(namespace, fault.name, 0)
    scene.until(lambda: is_fresh(scene, namespace, fault.name), "fresh metrics")
    scene.until(lambda: scene.status(namespace, fault.name)["idle"]["resting"], "a rest by the policy")


# of a connection that is reset before its handshake CPython's ssl leaves the socket to the garbage collector
@pytest.mark.filterwarnings("ignore:.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_a_restart_of_the_api_server_takes_nothing_away(cluster: Cluster, scene: Scene) -> None:
    namespace = "failsafe"
    woken(scene, namespace, LATER, "first")
    under_load(scene, namespace, LATER)
    began, done = time.time(), cycles(scene)
    cluster.stop_apiserver()
    scene.until(lambda: cycles(scene) >= done + 5, "cycles without the API server")
    cluster.start_apiserver()
    done = cycles(scene)
    scene.until(lambda: cycles(scene) >= done + 5, "cycles after the API server's restart")
    assert levels_of(scene, began) == {name: [REPLICAS] for name in LATER}
    # it watches again and writes again
    woken(scene, namespace, ["vllm-down"], "after the restart")


def test_without_prometheus_nothing_is_taken_away(cluster: Cluster, scene: Scene) -> None:
    namespace = "failsafe"
    woken(scene, namespace, LATER, "second")
    under_load(scene, namespace, LATER)
    began = time.time()
    cluster.stop_prometheus()
    silence(scene, namespace, LATER)
    for name in LATER:
        told(scene, namespace, name, ("SourceUnreachable", cluster.prometheus_url))
    # cycles go on in the dark for longer than it takes to scale in and to rest
    done = cycles(scene)
    scene.until(lambda: cycles(scene) >= done + PATIENCE + 5, "cycles without Prometheus")
    assert levels_of(scene, began) == {name: [REPLICAS] for name in LATER}
    cluster.start_prometheus()
    for name in LATER:
        scene.until_running(namespace, name, 0)


def test_what_a_killed_operator_has_shielded_is_freed_by_the_next_one(scene: Scene) -> None:
    scene.put(service("failsafe", "loading", scaling={"maxReplicas": 1}, template=quick_template(load=8)))
    scene.until(lambda: KEPT in notes(scene, "loading"), "a shield of the pod that loads")
    scene.stack.kill_operator()
    scene.until_running("failsafe", "loading", 1)
    assert KEPT in notes(scene, "loading")
    scene.stack.start_operator()
    scene.until(lambda: KEPT not in notes(scene, "loading"), "the shield to come off")


def notes(scene: Scene, name: str) -> dict[str, str]:
    """On the service's only pod."""
    found = [body["metadata"] for body in scene.pods.all("failsafe").values()]
    return next((one["annotations"] for one in found if one["labels"].get(SERVICE_LABEL) == name), {})


KEPT = "karpenter.sh/do-not-disrupt"
LATER = (HEALTHY, "dcgm-down")


def levels_of(scene: Scene, since: float) -> dict[str, list[int]]:
    return {name: scene.replicas_over_time("failsafe", name, since=since) for name in LATER}
