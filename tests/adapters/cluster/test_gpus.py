"""GPUs in resource lists: whole, in MIG instances and in copies, as pods ask for them and nodes offer them."""

from typing import Any

import pytest

from fallow.adapters.cluster.mirror import NODES, PODS, Mirror
from fallow.domain.snapshots import Node, Pod
from tests.adapters.cluster import raw

H100 = "NVIDIA-H100-80GB-HBM3"


def seen_pod(limits: dict[str, str], **more: Any) -> Pod:
    body = raw.pod()
    body["spec"] |= {"containers": [{"name": "main", "resources": {"limits": limits}}]} | more
    mirror = Mirror()
    mirror.put(PODS, body)
    return next(iter(mirror.view().pods.values()))


def seen_node(capacity: dict[str, str], **labels: str) -> Node:
    found: dict[str, Any] = {f"nvidia.com/{name.replace('_', '.')}": value for name, value in labels.items()}
    body = raw.node(gpus=0, **found)
    body["status"]["capacity"] |= capacity
    mirror = Mirror()
    mirror.put(NODES, body)
    return mirror.view().nodes["node-a"]


@pytest.mark.parametrize(
    ("limits", "gpus", "instances", "copies"),
    [
        ({"nvidia.com/gpu": "2"}, 2, {}, 0),
        ({"nvidia.com/mig-1g.10gb": "2", "nvidia.com/mig-3g.40gb": "1"}, 3, {"1g.10gb": 2, "3g.40gb": 1}, 0),
        ({"nvidia.com/gpu.shared": "1"}, 1, {}, 1),
        ({"nvidia.com/mig-1g.10gb.shared": "1"}, 1, {"1g.10gb": 1}, 0),
        ({"amd.com/gpu": "1"}, 1, {}, 0),
    ],
    ids=["whole", "instances", "a copy", "a copy of an instance", "another vendor's"],
)
def test_a_pod_says_what_it_asked_for(
    limits: dict[str, str], gpus: int, instances: dict[str, int], copies: int
) -> None:
    pod = seen_pod(limits | {"cpu": "4"})
    assert (pod.gpus, pod.instances, pod.copies) == (gpus, instances, copies)


def test_containers_add_up_and_a_greedier_init_container_counts_instead() -> None:
    part = {"name": "more", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "1"}}}
    warm = {"name": "warm", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "3"}}}
    assert seen_pod({}, containers=[part, part]).gpus == 2
    assert seen_pod({}, containers=[part, part], initContainers=[warm]).gpus == 3


@pytest.mark.parametrize(
    ("capacity", "labels", "gpus", "in_turns"),
    [
        ({"nvidia.com/gpu": "8"}, {"gpu_product": H100}, 8, False),
        ({"nvidia.com/gpu": "8"}, {"gpu_product": H100, "gpu_count": "2", "gpu_replicas": "4"}, 2, True),
        ({"nvidia.com/gpu": "8"}, {"gpu_product": f"{H100}-SHARED", "gpu_replicas": "4"}, 2, True),
        ({"nvidia.com/gpu.shared": "8"}, {"gpu_product": H100, "gpu_count": "2", "gpu_replicas": "4"}, 2, True),
        ({"nvidia.com/gpu.shared": "8"}, {}, 1, True),
        ({"nvidia.com/mig-1g.10gb": "7", "nvidia.com/mig-3g.40gb": "2"}, {"gpu_count": "2"}, 2, False),
        ({"nvidia.com/mig-1g.10gb": "7", "nvidia.com/mig-3g.40gb": "2"}, {}, 2, False),
        ({"nvidia.com/mig-1g.10gb": "7", "nvidia.com/gpu": "3"}, {}, 4, False),
        ({"nvidia.com/gpu": "14"}, {"gpu_product": f"{H100}-MIG-1g.10gb", "gpu_count": "14"}, 2, False),
        ({}, {"gpu_count": "8"}, 0, False),
    ],
    ids=[
        "whole",
        "in turns",
        "in turns, uncounted",
        "in turns, renamed",
        "in turns, unlabelled",
        "mixed instances",
        "mixed instances, uncounted",
        "instances beside whole GPUs",
        "one kind of instances",
        "no device plugin",
    ],
)
def test_a_node_s_physical_gpus_are_counted_however_they_are_handed_out(
    capacity: dict[str, str], labels: dict[str, str], gpus: int, *, in_turns: bool
) -> None:
    node = seen_node(capacity, **labels)
    assert (node.gpus, node.in_turns) == (gpus, in_turns)


def test_pods_ask_for_instances_as_if_they_were_gpus_where_the_node_s_label_names_them() -> None:
    single = seen_node({"nvidia.com/gpu": "16"}, gpu_product=f"{H100}-MIG-3g.40gb")
    mixed = seen_node({"nvidia.com/mig-3g.40gb": "16"}, gpu_product=H100, gpu_count="8")
    whole = seen_node({"nvidia.com/gpu": "8"}, gpu_product=H100)
    assert [(one.gpus, one.places) for one in (single, mixed, whole)] == [(8, 16), (8, 8), (8, 8)]


@pytest.mark.parametrize("profile", ["0g.10gb", "9g.90gb", "odd"])
def test_a_label_with_an_odd_profile_counts_gpus_all_the_same(profile: str) -> None:
    node = seen_node({"nvidia.com/gpu": "14"}, gpu_product=f"{H100}-MIG-{profile}")
    assert node.gpus >= 1
    assert node.places == 14


def test_a_cordoned_node_takes_no_pods() -> None:
    body = raw.node(gpus=8)
    mirror = Mirror()
    mirror.put(NODES, body)
    before = mirror.view().nodes["node-a"]
    mirror.put(NODES, {**body, "spec": {**body.get("spec", {}), "unschedulable": True}})

    assert (before.cordoned, mirror.view().nodes["node-a"].cordoned) == (False, True)
