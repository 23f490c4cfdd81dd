"""The chart's rights against the calls that the operator makes with them: none refused, none granted in vain."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import pytest

from e2e.harness.audit import AuditEvent
from e2e.harness.cluster import Cluster
from e2e.harness.scenes import MODEL, OPERATOR, Scene, burst, profile, quick_template, service, zone
from e2e.harness.stack import OPERATOR_NAMESPACE, RELEASE, Stack

pytestmark = pytest.mark.cluster

NAMESPACE = "rights"
DECLARED = "fallow.dev/declared-minimum"
# so small a part makes the ledger of a few GPUs continue in further ConfigMaps
SETTINGS = {
    "leader_election": True,
    "cycle_interval": 1,
    "status_interval": 2,
    "ledger_interval": 2,
    "ledger_part_bytes": 500,
    "resync_interval": 2,
}


class Right(NamedTuple):
    group: str
    resource: str
    verb: str


@pytest.fixture(scope="module")
def calls(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[AuditEvent]]:
    """Everything that the operator asked of the API server while it did everything that it can do."""
    keys = tmp_path_factory.mktemp("credentials")
    (keys / "electricity-maps").write_text("key")
    carbon = {"credentials_dir": str(keys), "carbon_urls": '{"ElectricityMaps": "http://127.0.0.1:1"}'}
    # books of its own: those of a long run would not fit into parts so small
    cluster.kubectl("delete", "configmap", "fallow-ledger", "-n", OPERATOR_NAMESPACE, "--ignore-not-found")
    # an API server that restarts refuses for want of rights until it has read them, which others' scenarios see
    before = len(list(cluster.audit_events()))
    with Stack(cluster, operator_settings={**SETTINGS, **carbon}) as stack, Scene(stack, nodes=1) as scene:
        live(scene)
        # the API server notes a watch when it ends
        stack.stop_operator()
        yield [event for event in islice(cluster.audit_events(), before, None) if event.user == OPERATOR]


def live(scene: Scene) -> None:
    """A service starts (shielded), works, rests and loses its request; another one is adopted and brought within its
    limits.
    """
    scene.namespace(NAMESPACE)
    scene.put(zone("rights", 300), profile("rights-bf16", "BF16", 0.2), scaled_objects())
    scene.cluster.kubectl("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh")
    scene.put(*(existing(name, replicas=2) for name in ("legacy", "by-hpa", "by-keda")))
    scene.put(
        service(
            NAMESPACE,
            "chat",
            scaling={"minReplicas": 0, "maxReplicas": 2},
            replicas=1,
            # long enough for a cycle to see it load
            template=quick_template(load=5),
        ),
        *(adopting(name) for name in ("legacy", "by-hpa", "by-keda")),
        owner("autoscaling/v2", "HorizontalPodAutoscaler", "by-hpa", minReplicas=2, maxReplicas=3),
        owner("keda.sh/v1alpha1", "ScaledObject", "by-keda", minReplicaCount=2, maxReplicaCount=3),
    )
    scene.until_running(NAMESPACE, "chat", 1)
    scene.stack.traffic(NAMESPACE, "chat", burst(3, 4))
    scene.until(lambda: scene.replicas(NAMESPACE, "legacy") == 1, "the adopted Deployment within its limits")
    for sort, name in (("hpa", "by-hpa"), ("scaledobject", "by-keda")):
        scene.until(lambda sort=sort, name=name: DECLARED in notes(scene, sort, name), f"a new minimum of {name}")  # type: ignore[misc]
    scene.until(lambda: scene.status(NAMESPACE, "chat").get("idle", {}).get("resting"), "the service to rest")
    scene.until(
        lambda: "replicas" not in (scene.services.get(NAMESPACE, "chat") or {"spec": {"replicas": 1}})["spec"],
        "its request to be removed",
    )
    scene.until(lambda: scene.events(NAMESPACE, "chat"), "Events about it")
    scene.put(keyed_zone())
    scene.until(lambda: zone_says(scene, "SourceUnreachable"), "the zone to have used its key")


def adopting(name: str) -> dict[str, Any]:
    body = service(NAMESPACE, f"adopting-{name}", scaling={"maxReplicas": 1}, targetRef={"name": name})
    del body["spec"]["template"]
    return body


def owner(api_version: str, kind: str, name: str, **bounds: int) -> dict[str, Any]:
    """An autoscaler of somebody else over the Deployment of that name."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": {"scaleTargetRef": target, **bounds}}


def scaled_objects() -> dict[str, Any]:
    """KEDA's kind, which comes while the operator runs; of KEDA itself nothing is there."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def notes(scene: Scene, sort: str, name: str) -> dict[str, str]:
    found: dict[str, str] = scene.cluster.get(sort, name, "-n", NAMESPACE)["metadata"].get("annotations", {})
    return found


def keyed_zone() -> dict[str, Any]:
    """Of no node here: its provider wants a key, which the operator has as a file."""
    source = {"source": "ElectricityMaps", "electricityMaps": {"zone": "DE"}}
    spec = {"nodeSelector": {"matchLabels": {"region": "elsewhere"}}, "intensity": source}
    return {"apiVersion": "fallow.dev/v1alpha1", "kind": "GridZone", "metadata": {"name": "keyed"}, "spec": spec}


def zone_says(scene: Scene, reason: str) -> bool:
    status = scene.cluster.get("gridzone", "keyed").get("status", {})
    return any(condition["reason"] == reason for condition in status.get("conditions", ()))


def existing(name: str, *, replicas: int) -> dict[str, Any]:
    container = {
        "name": "server",
        "image": "vllm/vllm-openai",
        "args": ["--model", MODEL],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    pod = {"metadata": {"labels": {"app": name}, **quick_template()["metadata"]}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod},
    }


def granted(cluster: Cluster) -> dict[Right, str]:
    """Every right of the ServiceAccount, with the namespace that it is for (empty: all)."""
    found: dict[Right, str] = {}
    for rule in cluster.get("clusterrole", RELEASE)["rules"]:
        found |= dict.fromkeys(rights(rule), "")
    for rule in cluster.get("role", f"{RELEASE}-ledger", "-n", OPERATOR_NAMESPACE)["rules"]:
        found |= dict.fromkeys(rights(rule), OPERATOR_NAMESPACE)
    return found


def rights(rule: dict[str, Any]) -> list[Right]:
    return [
        Right(group, resource, verb)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def used(calls: list[AuditEvent]) -> set[Right]:
    """The rights that were needed, for what was not found too.

    A server-side apply that makes an object needs create as well; the answer is 201.
    """
    found = set()
    for event in calls:
        if not event.resource or not event.allowed:
            continue
        resource = f"{event.resource}/{event.subresource}" if event.subresource else event.resource
        found.add(Right(event.group, resource, event.verb))
        if event.verb == "patch" and event.status == 201:
            found.add(Right(event.group, resource, "create"))
    return found


def test_nothing_is_refused(calls: list[AuditEvent]) -> None:
    denied = {(e.verb, e.group, e.resource, e.subresource, e.namespace) for e in calls if not e.allowed}

    assert calls
    assert denied == set()


def test_every_right_is_used(cluster: Cluster, calls: list[AuditEvent]) -> None:
    in_vain = {right for right in granted(cluster) if right not in used(calls)}

    assert in_vain == set()


def test_configmaps_are_touched_in_the_own_namespace_alone(calls: list[AuditEvent]) -> None:
    touched = {(event.namespace, event.name) for event in calls if event.resource == "configmaps"}

    assert {namespace for namespace, _ in touched} == {OPERATOR_NAMESPACE}
    assert {name for _, name in touched if name and not name.startswith("fallow-ledger-")} == {"fallow-ledger"}


def test_no_secret_is_ever_read(calls: list[AuditEvent]) -> None:
    assert not [event for event in calls if event.resource == "secrets"]
