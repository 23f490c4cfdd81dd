"""GPU nodes as Node objects: labels as GPU feature discovery writes them, an address of each node's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from e2e.harness.namespace import NODES

MANAGED = "kwok.x-k8s.io/node"
ADDRESS = "twin.fallow.dev/node-ip"

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


def gpu_node(name: str, *, gpus: int, product: str, address: str, zone: str, memory_mib: int) -> dict[str, Any]:
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
