"""What pods ask for and nodes offer of GPUs: whole ones, MIG instances, and copies that are used in turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fallow.adapters.cluster.labels import GPU, GPU_COPIES, GPU_COUNT, GPU_PRODUCT
from fallow.domain.slices import COMPUTE_SLICES, compute_slices

JSON = Mapping[str, Any]

SHARED = ".shared"
MIG_PREFIX = f"{GPU.partition('/')[0]}/mig-"
# device plugins of the three vendors, and the name that time-slicing gives copies where it renames them
WHOLE = frozenset({GPU, "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe"})
COPIES = f"{GPU}{SHARED}"


@dataclass(frozen=True, slots=True)
class Asked:
    """Extended resources are whole numbers. `whole` is whatever a node hands out under the GPU's own name."""

    whole: int
    instances: Mapping[str, int]
    copies: int

    @property
    def all(self) -> int:
        return self.whole + self.copies + sum(self.instances.values())


def asked(resources: JSON) -> Asked:
    """The GPUs in a resource list."""
    instances: Counter[str] = Counter()
    for name, amount in resources.items():
        if name.startswith(MIG_PREFIX):
            instances[name.removeprefix(MIG_PREFIX).removesuffix(SHARED)] += int(amount)
    return Asked(
        whole=sum(int(amount) for name, amount in resources.items() if name in WHOLE),
        instances={profile: count for profile, count in instances.items() if count},
        copies=int(resources.get(COPIES, 0)),
    )


def asked_by(spec: JSON) -> Asked:
    """What a pod holds: its containers together, or its greediest init container if that takes more."""
    together: Counter[str] = Counter()
    for limits in _limits(spec.get("containers")):
        together.update(limits)
    for limits in _limits(spec.get("initContainers")):
        together |= Counter(limits)
    return asked(together)


@dataclass(frozen=True, slots=True)
class Offered:
    """The physical GPUs of a node; whether copies of them are handed out, or `instances` as if they were GPUs."""

    gpus: int
    in_turns: bool = False
    instances: int = 0


def offered(labels: Mapping[str, str], capacity: JSON) -> Offered:
    """GPU feature discovery counts the GPUs, but under MIG's single strategy it counts instances."""
    there, count, copies = asked(capacity), _number(labels.get(GPU_COUNT)), _number(labels.get(GPU_COPIES))
    _, single, profile = labels.get(GPU_PRODUCT, "").partition("-MIG-")
    if single and there.whole:
        # all alike, so what is left of a GPU's slices is too small for one; where memory is what limits, GPUs are more
        each = max(COMPUTE_SLICES // max(compute_slices(profile), 1), 1)
        return Offered(-(-there.whole // each), instances=there.whole)
    if there.instances:
        slices = sum(compute_slices(name) * amount for name, amount in there.instances.items())
        return Offered(max(count, there.whole + _gpus_of(slices)))
    if there.copies or copies > 1:
        physical = (there.copies or there.whole) // max(copies, 1) if copies > 1 else 1
        return Offered(max(count, physical), in_turns=True)
    return Offered(there.whole)


def _gpus_of(slices: int) -> int:
    return -(-slices // COMPUTE_SLICES)


def _limits(containers: Iterable[JSON] | None) -> list[dict[str, int]]:
    found = [(part.get("resources") or {}).get("limits") or {} for part in containers or ()]
    return [{name: int(amount) for name, amount in limits.items() if _is_gpu(name)} for limits in found]


def _is_gpu(name: str) -> bool:
    return name in WHOLE or name == COPIES or name.startswith(MIG_PREFIX)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
