"""Watch events go into the mirror, one picture of the cluster comes out."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.adapters.cluster.mirror import (
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    POLICIES,
    PROFILES,
    SERVICES,
    ZONES,
    Mirror,
)
from fallow.domain.readings import PodRef
from fallow.domain.units import Instant
from fallow.domain.workloads import IdleState, ServiceKey, ServiceMemory
from tests.adapters.cluster import raw

CHAT = ServiceKey("llm", "chat")
TEN = Instant(1795341600.0)  # 2026-11-22T10:00:00Z


def mirror_of(*objects: tuple[str, dict[str, Any]]) -> Mirror:
    mirror = Mirror()
    for kind, body in objects:
        mirror.put(kind, body)
    return mirror


def test_all_kinds_appear_in_the_view() -> None:
    view = mirror_of(
        (SERVICES, raw.inference_service()),
        (POLICIES, raw.energy_policy()),
        (ZONES, raw.grid_zone()),
        (PROFILES, raw.model_profile()),
        (PODS, raw.pod()),
        (NODES, raw.node()),
        (DEPLOYMENTS, raw.deployment()),
    ).view()

    assert list(view.services) == [CHAT]
    assert [policy.name for policy in view.policies] == ["green"]
    assert [zone.name for zone in view.zones] == ["north"]
    assert [profile.name for profile in view.profiles] == ["bf16-h100"]
    assert list(view.pods) == [PodRef("llm", "chat-bf16-x")]
    assert list(view.nodes) == ["node-a"]
    assert [(w.name, w.variant, w.replicas, w.ready, w.owned) for w in view.workloads] == [
        ("chat-bf16", "bf16", 1, 1, True)
    ]


def test_an_unreadable_object_is_named_and_the_rest_is_still_seen() -> None:
    broken = raw.inference_service("broken", spec={"scaling": {"minReplicas": 9}})
    view = mirror_of((SERVICES, broken), (SERVICES, raw.inference_service())).view()

    assert list(view.services) == [CHAT]
    assert [(part.kind, part.name) for part in view.invalid] == [("InferenceService", "broken")]
    assert "maxReplicas" in view.invalid[0].message


def test_a_service_carries_the_labels_of_its_namespace() -> None:
    mirror = mirror_of((SERVICES, raw.inference_service()), (NAMESPACES, raw.namespace("llm", team="search")))

    assert mirror.view().services[CHAT].namespace_labels == {"team": "search"}


def test_a_service_that_is_being_deleted_is_no_longer_managed() -> None:
    mirror = mirror_of((SERVICES, raw.inference_service(deletionTimestamp="2026-11-22T11:00:00Z")))

    assert not mirror.view().services


def test_an_unchanged_cluster_gives_the_very_same_view() -> None:
    mirror = mirror_of((SERVICES, raw.inference_service()))

    assert mirror.view() is mirror.view()


def test_an_older_version_that_arrives_late_is_ignored() -> None:
    mirror = mirror_of(
        (DEPLOYMENTS, raw.deployment(replicas=3, resourceVersion="120")),
        (DEPLOYMENTS, raw.deployment(replicas=2, resourceVersion="110")),
        (SERVICES, raw.inference_service()),
    )

    assert mirror.view().workloads[0].replicas == 3


def test_an_object_made_anew_under_the_same_name_replaces_the_old_one() -> None:
    mirror = mirror_of(
        (NODES, raw.node(gpus=8)),
        (NODES, {**raw.node(gpus=4), "metadata": {"name": "node-a", "uid": "new", "resourceVersion": "1"}}),
    )

    assert mirror.view().nodes["node-a"].gpus == 4


def test_memory_is_read_from_the_status() -> None:
    status = {"variant": "fp8", "idle": {"state": "Idle", "resting": True, "since": "2026-11-22T10:00:00Z"}}
    memory = mirror_of((SERVICES, raw.inference_service(status=status))).view().memories[CHAT]

    assert memory == ServiceMemory(serving="fp8", resting=True, idle_state=IdleState.IDLE, idle_state_since=TEN)


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        pytest.param(raw.pod(), True, id="ours"),
        pytest.param(raw.pod(gpus=0), True, id="ours-without-a-gpu"),
        pytest.param(raw.pod(labels={}), True, id="foreign-with-a-gpu"),
        pytest.param(raw.pod(labels={}, gpus=0), False, id="foreign-without-a-gpu"),
        pytest.param(raw.pod(phase="Succeeded"), False, id="ended"),
    ],
)
def test_pods_that_hold_gpus_or_are_ours_are_seen(body: dict[str, Any], seen: bool) -> None:
    assert bool(mirror_of((PODS, body)).view().pods) is seen


def test_a_foreign_pod_belongs_to_no_service() -> None:
    pod = mirror_of((PODS, raw.pod(labels={"app": "train"}))).view().pods[PodRef("llm", "chat-bf16-x")]

    assert pod.service is None
    assert pod.gpus == 1


def test_a_pod_in_deletion_says_since_when() -> None:
    body = raw.pod(deletionTimestamp="2026-11-22T10:01:00Z", deletionGracePeriodSeconds=60)
    pod = mirror_of((PODS, body)).view().pods[PodRef("llm", "chat-bf16-x")]

    assert pod.deleting
    assert pod.deleting_since == TEN


def test_a_ready_pod_says_since_when_and_on_which_port() -> None:
    service = raw.inference_service(spec={"engine": {"port": 9000}})
    pod = mirror_of((PODS, raw.pod()), (SERVICES, service)).view().pods[PodRef("llm", "chat-bf16-x")]

    assert (pod.ready_since, pod.started, pod.placed, pod.port) == (TEN + 300, TEN + 60, TEN + 30, 9000)


def test_the_greediest_init_container_counts_when_it_holds_more() -> None:
    body = raw.pod()
    body["spec"]["initContainers"] = [{"name": "warm", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]

    assert mirror_of((PODS, body)).view().pods[PodRef("llm", "chat-bf16-x")].gpus == 4


def test_an_adopted_deployment_and_its_pods_belong_to_the_service() -> None:
    labels = {"app": "legacy"}
    view = mirror_of(
        (SERVICES, raw.adopting("legacy")),
        (DEPLOYMENTS, raw.deployment("legacy", replicas=2, owner="", labels=labels)),
        (PODS, raw.pod("legacy-1", labels={**labels, "pod-template-hash": "x"})),
        (PODS, raw.pod("other-1", labels={"app": "other"})),
    ).view()

    assert [(w.name, w.replicas, w.owned) for w in view.workloads] == [("legacy", 2, False)]
    assert view.pods[PodRef("llm", "legacy-1")].service == CHAT
    assert view.pods[PodRef("llm", "legacy-1")].variant == "bf16"
    assert view.pods[PodRef("llm", "other-1")].service is None


@pytest.mark.parametrize(
    ("owner", "counts"),
    [
        pytest.param(raw.UID, True, id="ours"),
        pytest.param("", True, id="orphaned-with-its-label"),
        pytest.param("somebody-else", False, id="controlled-by-another"),
    ],
)
def test_only_deployments_of_this_very_service_count(owner: str, counts: bool) -> None:
    view = mirror_of((SERVICES, raw.inference_service()), (DEPLOYMENTS, raw.deployment(owner=owner))).view()

    assert bool(view.workloads) is counts


def test_objects_whose_deletion_was_missed_can_be_forgotten() -> None:
    mirror = mirror_of((PODS, raw.pod("a")), (PODS, raw.pod("b")))
    mirror.forget(PODS, frozenset({"pod-a"}))

    assert mirror.uids(PODS) == {"pod-b"}


def test_what_nobody_reads_is_not_kept() -> None:
    mirror = mirror_of(
        (SERVICES, raw.inference_service(managedFields=[{"manager": "kubectl"}])),
        (DEPLOYMENTS, raw.deployment("other", owner="", labels={"app": "web"}, annotations={"a": "x" * 1000})),
    )

    assert "managedFields" not in (mirror.get(SERVICES, "llm", "chat") or {})["metadata"]
    assert "annotations" not in (mirror.get(DEPLOYMENTS, "llm", "other") or {})["metadata"]


def test_an_adopted_deployment_that_appears_later_brings_its_pods() -> None:
    labels = {"app": "legacy"}
    mirror = mirror_of((SERVICES, raw.adopting("legacy")), (PODS, raw.pod("legacy-1", labels=labels)))
    before = mirror.view().pods[PodRef("llm", "legacy-1")].service
    mirror.put(DEPLOYMENTS, raw.deployment("legacy", owner="", labels=labels))

    assert before is None
    assert mirror.view().pods[PodRef("llm", "legacy-1")].service == CHAT


@pytest.mark.parametrize(
    ("kind", "body", "name"),
    [
        pytest.param(DEPLOYMENTS, raw.deployment(replicas=5), "workloads", id="deployment"),
        pytest.param(PODS, raw.pod("another"), "pods", id="pod"),
        pytest.param(NODES, raw.node("another"), "nodes", id="node"),
        pytest.param(POLICIES, raw.energy_policy("another"), "policies", id="policy"),
        pytest.param(ZONES, raw.grid_zone("another"), "zones", id="zone"),
        pytest.param(PROFILES, raw.model_profile("another"), "profiles", id="profile"),
        pytest.param(NAMESPACES, raw.namespace(team="x"), "services", id="namespace"),
    ],
)
def test_an_event_changes_its_own_part_of_the_view_alone(kind: str, body: dict[str, Any], name: str) -> None:
    mirror = mirror_of((SERVICES, raw.inference_service()), (PODS, raw.pod()))
    before = mirror.view()
    mirror.put(kind, body)
    after = mirror.view()
    parts = ("nodes", "pods", "workloads", "services", "memories", "policies", "zones", "profiles", "invalid")

    assert [part for part in parts if getattr(before, part) != getattr(after, part)] == [name]


ANNOTATED = {"template": {"metadata": {"annotations": {"fallow.dev/idle-clocks": "fall"}}}}
GIVEN_UP = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}


@pytest.mark.parametrize(
    ("spec", "status", "throttled", "rolling"),
    [
        ({}, {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2}, False, False),
        (ANNOTATED, {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2}, True, False),
        (ANNOTATED, {"observedGeneration": 0, "replicas": 2, "updatedReplicas": 2}, True, True),
        (ANNOTATED, {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 1}, True, True),
        (ANNOTATED, {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 1, **GIVEN_UP}, True, False),
    ],
    ids=["plain", "its clocks fall", "just written", "pods of before are there", "given up for want of room"],
)
def test_a_deployment_tells_whether_its_clocks_fall_and_its_pods_are_being_replaced(
    spec: dict[str, Any], status: dict[str, Any], throttled: bool, rolling: bool
) -> None:
    body = raw.deployment()
    body["spec"] |= spec
    body["status"] |= status
    held = mirror_of((SERVICES, raw.inference_service()), (DEPLOYMENTS, body))
    (workload,) = held.view().workloads
    assert (workload.tuning.throttled, workload.rolling) == (throttled, rolling)
    assert bool(held.view().rolling) is rolling
