"""GPU nodes as Node objects: labels as GPU feature discovery writes them, an address of each node's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from e2e.harness.namespace import NODES
from fallow.twin.dcgm_metrics import DRIVER_VERSION

MANAGED = "kwok.x-k8s.io/node"
ADDRESS = "twin.fallow.dev/node-ip"

JSON = dict[str, Any]
Shape = Callable[[JSON], None]

MIB_PER_GPU = {
    "NVIDIA-A100-SXM4-80GB": 81_920,
    "NVIDIA-H100-80GB-HBM3": 81_559,
    "NVIDIA-H200": 143_771,
    "NVIDIA-L40S": 46_068,
    "NVIDIA-B200": 183_359,
}


def addresses() -> Iterator[str]:
    """Node addresses in order, each handed out once; the top of the range belongs to the control plane."""
    for host in ipaddress.ip_network(NODES).hosts():
        if int(host) & 0xFF00 == 0xFF00:
            return
        yield str(host)


def gpu_node(name: str, *, gpus: int, product: str, address: str, zone: str, memory_mib: int) -> JSON:
    """A node of a GPU server; with gpus=0 a plain one."""
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": f"{product.lower()}-x{gpus}" if gpus else "plain",
        "topology.kubernetes.io/region": zone.rsplit("-", 1)[0],
        "topology.kubernetes.io/zone": zone,
        "type": "kwok",
    }
    resources = {"cpu": "192", "memory": "2Ti", "ephemeral-storage": "4Ti", "pods": "250"}
    if gpus:
        labels |= {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": product,
            "nvidia.com/gpu.count": str(gpus),
            "nvidia.com/gpu.replicas": "1",
            "nvidia.com/gpu.memory": str(memory_mib),
            "nvidia.com/gpu.sharing-strategy": "none",
            "nvidia.com/mig.strategy": "none",
            "nvidia.com/cuda.driver-version.full": DRIVER_VERSION,
        }
        resources["nvidia.com/gpu"] = str(gpus)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {MANAGED: "fake", ADDRESS: address, "node.alpha.kubernetes.io/ttl": "0"},
        },
        "status": {"capacity": resources, "allocatable": resources},
    }


def annotated(**annotations: str) -> Shape:
    """With annotations of the twin (docs/twin.md), named with _ for -: its meters, and how its exporter was started."""

    def shape(node: JSON) -> None:
        node["metadata"]["annotations"] |= {
            f"twin.fallow.dev/{key.replace('_', '-')}": value for key, value in annotations.items()
        }

    return shape


def in_instances(profiles: Mapping[str, int]) -> Shape:
    """All its GPUs under MIG's mixed strategy: so many instances of each profile, such as 1g.10gb, on the node."""

    def shape(node: JSON) -> None:
        offered = {f"nvidia.com/mig-{profile}": count for profile, count in profiles.items()}
        counts = {f"{resource}.count": str(count) for resource, count in offered.items()}
        node["metadata"]["labels"] |= {"nvidia.com/mig.strategy": "mixed", **counts}
        offer(node, offered)

    return shape


def in_turns(copies: int) -> Shape:
    """So many copies of each GPU for time-slicing under the GPU's own name; the product then ends in -SHARED."""

    def shape(node: JSON) -> None:
        labels = node["metadata"]["labels"]
        labels["nvidia.com/gpu.product"] += "-SHARED"
        labels |= {"nvidia.com/gpu.replicas": str(copies), "nvidia.com/gpu.sharing-strategy": "time-slicing"}
        offer(node, {"nvidia.com/gpu": int(labels["nvidia.com/gpu.count"]) * copies})

    return shape


def offer(node: JSON, resources: Mapping[str, int]) -> None:
    """These in place of whole GPUs."""
    for amounts in (node["status"]["capacity"], node["status"]["allocatable"]):
        amounts.pop("nvidia.com/gpu", None)
        amounts.update({name: str(count) for name, count in resources.items()})
