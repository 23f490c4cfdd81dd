"""Planted waste on a cluster with a real Prometheus: `fallow audit` finds each, accuses nobody else; its total is true.

The auditor is a ServiceAccount that may only get and list. It looks twice: back in time through Prometheus, and without
one by way of the API server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import PRODUCT, Scene, planted, service, steady
from e2e.harness.stack import Stack

pytestmark = pytest.mark.cluster

JSON = dict[str, Any]

NAMESPACE = "audited"
NODES, GPUS = 2, 6
# of 12: each of these holds one, training two
HOLDERS = {"forgotten": 1, "loaded": 1, "half": 1, "poller": 1, "training": 2, "busy": 1, "standby": 1, "seldom": 1}
FREE = NODES * GPUS - sum(HOLDERS.values())
WINDOW, WATCH = 60, 30
AUDITOR = f"system:serviceaccount:{NAMESPACE}:auditor"
# what the how-to page gives an auditor, and no more
RULES = [
    {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["nodes/proxy", "pods/proxy"], "verbs": ["get"]},
    {"apiGroups": ["apps"], "resources": ["replicasets", "deployments", "statefulsets"], "verbs": ["list"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
    {
        "apiGroups": ["keda.sh", "serving.kserve.io", "fallow.dev"],
        "resources": ["scaledobjects", "inferenceservices"],
        "verbs": ["list"],
    },
]
WASTE = {
    ("unallocated", None),
    ("loaded-idle", "Notebook forgotten"),
    ("loaded-idle", "Deployment loaded"),
    ("under-filled", "Deployment half"),
    ("spinning", "Deployment poller"),
}


@dataclass(frozen=True, slots=True)
class Audited:
    """What the audits said, and the mean watts by the twin's own account: of each GPU then, of all now."""

    scene: Scene
    past: JSON
    present: JSON
    text: str
    table: str
    true_watts: dict[str, float]
    true_present: float


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    with Stack(cluster) as stack, Scene(stack, nodes=NODES, gpus=GPUS) as scene:
        yield scene


@pytest.fixture(scope="module")
def audited(scene: Scene) -> Audited:
    scene.namespace(NAMESPACE, "Observe")
    account = permit_auditor(scene)
    scene.put(
        service(NAMESPACE, "busy", scaling={"minReplicas": 1, "maxReplicas": 2, "targetConcurrency": 8}),
        service(NAMESPACE, "standby", scaling={"minReplicas": 1, "maxReplicas": 2}),
        *(
            workload(name, "loaded" if name == "seldom" else behaviour)
            for name, behaviour in (
                ("loaded", "loaded"),
                ("half", "half-filled"),
                ("poller", "spin"),
                ("training", "training"),
                ("seldom", "loaded"),
            )
        ),
        workload("forgotten", "notebook", kind="StatefulSet", labels={"notebook-name": "forgotten"}),
    )
    scene.stack.traffic(NAMESPACE, "busy", steady(10))
    scene.stack.traffic(
        NAMESPACE, "seldom", {"rate": {"constant": 0.1}, "cv": 0.1, "prompt": {"mean": 50}, "output": {"mean": 5}}
    )
    expected = sum(HOLDERS.values())
    scene.until(lambda: held(scene) == expected, f"{expected} GPUs to be held")
    scene.until(lambda: scene.stack.twin_state()["services"] and tokens(scene, "busy") > 500, "the busy one to be busy")
    before = scene.stack.twin_state()
    scene.until(lambda: now(scene) - before["now"] >= WINDOW, "a minute to pass", WINDOW + 60)
    after = scene.stack.twin_state()
    scene.until(lambda: scraped(scene) > after["now"], "Prometheus to have read the end of it")
    cluster = scene.cluster
    end = datetime.fromtimestamp(after["now"], UTC).isoformat()
    past = ("--prometheus-url", cluster.prometheus_url, "--window", f"{WINDOW}s", "--until", end)
    seconds = after["now"] - before["now"]
    then = {gpu["uuid"]: gpu["joules"] for gpu in before["gpus"]}
    costs = ("--price-per-kwh", "0.30", "--currency", "EUR", "--zone", "DE")
    earlier = scene.stack.twin_state()
    present = json.loads(run_audit(account, "--scrape", "proxy", "--watch", f"{WATCH}s", "-o", "json"))
    later = scene.stack.twin_state()
    return Audited(
        scene,
        json.loads(run_audit(account, *past, *costs, "-o", "json")),
        present,
        run_audit(account, *past, *costs),
        run_plugin(scene.cluster, account, *past, "-o", "csv"),
        {gpu["uuid"]: (gpu["joules"] - then[gpu["uuid"]]) / seconds for gpu in after["gpus"]},
        (later["cluster"]["joules"] - earlier["cluster"]["joules"]) / (later["now"] - earlier["now"]),
    )


def workload(name: str, behaviour: str, *, kind: str = "Deployment", labels: dict[str, str] | None = None) -> JSON:
    """A planted pod as somebody would run it; `seldom` gets a request now and then."""
    pod = (
        planted(NAMESPACE, name, behaviour, service=name)
        if behaviour == "loaded"
        else planted(NAMESPACE, name, behaviour)
    )
    own = {"app": name, **(labels or {})}
    container = pod["spec"]["containers"][0]
    if behaviour in {"loaded", "half-filled"}:
        container |= {"image": "vllm/vllm-openai:v0.11.1", "args": ["--model", "Qwen/Qwen3-8B"]}
    container["resources"]["limits"] = {"nvidia.com/gpu": str(HOLDERS[name])}
    template = {"metadata": {"labels": own, "annotations": pod["metadata"]["annotations"]}, "spec": pod["spec"]}
    spec: JSON = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    metadata = {"name": name, "namespace": NAMESPACE, "labels": own}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def permit_auditor(scene: Scene) -> Path:
    """A kubeconfig that may read what an audit reads."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "gpu-auditor"}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "gpu-auditor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gpu-auditor"},
        "subjects": [{"kind": "ServiceAccount", "name": "auditor", "namespace": NAMESPACE}],
    }
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "auditor", "namespace": NAMESPACE},
    }
    scene.put(account, {**role, "rules": RULES}, binding)
    return scene.cluster.service_account_kubeconfig(NAMESPACE, "auditor")


def run_audit(kubeconfig: Path, *arguments: str) -> str:
    """As a person runs it, from a shell."""
    program = Path(sys.executable).with_name("fallow")
    command = [str(program), "audit", "--kubeconfig", str(kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    return done.stdout


def run_plugin(cluster: Cluster, kubeconfig: Path, *arguments: str) -> str:
    """As a plugin of kubectl, which hands nothing on but the environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig)}
    command = [str(cluster.program("kubectl")), "fallow", "audit", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def held(scene: Scene) -> int:
    return sum(1 for gpu in scene.stack.twin_state()["gpus"] if gpu["holder"])


def now(scene: Scene) -> float:
    return float(scene.stack.twin_state()["now"])


def tokens(scene: Scene, name: str) -> int:
    return sum(one["generated_tokens"] for one in scene.stack.twin_state()["services"] if one["service"] == name)


def scraped(scene: Scene) -> float:
    """The age of the oldest newest sample, as a time."""
    found = scene.ask_prometheus("min(timestamp(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION))")
    return float(found[0]["value"][1]) if found else 0.0


def findings(audit: JSON) -> set[tuple[str, str | None]]:
    return {
        (one["kind"], None if one["holder"] is None else f"{one['holder']['kind']} {one['holder']['name']}")
        for one in audit["findings"]
    }


@pytest.mark.parametrize("way", ["past", "present"])
def test_each_planted_waste_is_found_and_nobody_else_is_accused(audited: Audited, way: str) -> None:
    said: JSON = getattr(audited, way)
    print(
        json.dumps(
            [(one["kind"], one["holder"], one["evidence"], one["confidence"]) for one in said["findings"]], indent=1
        )
    )
    assert findings(said) == WASTE
    free = next(one for one in said["findings"] if one["kind"] == "unallocated")
    assert len(free["gpus"]) == FREE


@pytest.mark.parametrize(("way", "tolerance"), [("past", 0.02), ("present", 0.05)])
def test_the_total_is_the_true_energy(audited: Audited, way: str, tolerance: float) -> None:
    """The present is watched for half a minute, in which a meter's second weighs more."""
    said: JSON = getattr(audited, way)
    truth = sum(audited.true_watts.values()) if way == "past" else audited.true_present
    print(
        f"{way}: audit {said['totals']['watts']:.1f} W, twin {truth:.1f} W, {said['totals']['watts'] / truth - 1:+.3%}"
    )
    assert said["totals"]["watts"] == pytest.approx(truth, rel=tolerance)
    assert said["totals"]["gpus"] == NODES * GPUS


def test_every_gpu_has_its_true_watts_and_its_shares_add_up(audited: Audited) -> None:
    by_uuid: dict[str, float] = {}
    for line in audited.past["gpus"]:
        by_uuid[line["uuid"]] = by_uuid.get(line["uuid"], 0.0) + line["watts"] * line["share_of_time"]
        assert sum(line["shares"].values()) == pytest.approx(1.0)
    worst = max(abs(by_uuid[uuid] / watts - 1) for uuid, watts in audited.true_watts.items())
    print(f"largest error of one GPU {worst:.2%}")
    assert by_uuid.keys() == audited.true_watts.keys()
    assert worst < 0.05


def test_busy_and_standby_ones_are_shown_as_what_they_are(audited: Audited) -> None:
    shares = {one["holder"]["name"]: one["shares"] for one in audited.past["gpus"] if one["holder"]}
    assert shares["busy"]["useful"] > 0.9
    assert shares["training"]["useful"] > 0.99
    assert shares["standby"]["standby"] > 0.99
    assert shares["seldom"]["standby"] > 0.8


def test_the_audit_saw_everything(audited: Audited) -> None:
    print(audited.past["not_seen"], audited.present["not_seen"])
    assert audited.past["not_seen"] == []


def test_it_only_lists_and_gets(audited: Audited) -> None:
    asked = [event for event in audited.scene.cluster.audit_events() if event.user == AUDITOR]
    assert asked
    assert {event.verb for event in asked} <= {"get", "list"}
    assert all(event.allowed for event in asked)


def test_people_and_tables_get_the_same(audited: Audited) -> None:
    print(audited.text)
    assert all(len(line) <= 120 for line in audited.text.splitlines())
    assert all(name in audited.text for name in ("forgotten", "poller", "loaded", "half", PRODUCT.split("-")[1]))
    assert len(audited.table.splitlines()) == 1 + len(audited.past["gpus"])
