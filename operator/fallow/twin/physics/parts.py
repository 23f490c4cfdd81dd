"""MIG instances: which part of a GPU a profile such as 3g.40gb has, and what draws power in it.

Nobody has measured watts per instance (NVML and DCGM give one value for the whole board), so an instance draws the
share of its compute slices: assumed, of the bare board, of the context, and of its work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fallow.domain.slices import COMPUTE_SLICES, MEMORY_SLICES, memory_slices
from fallow.twin.physics.constants import GIB, GpuSpec

_NAME = re.compile(r"(\d)g\.(\d+)gb(?:[.+].*)?")
# GPU types that MIG divides into sevenths and eighths, with the GB that their profiles are named by; and the sevenths
# and eighths that an instance may have (NVIDIA's MIG user guide). An A30 has quarters, which no law is known of.
NAMED_BY: Mapping[str, float] = {
    "A100": 80, "A100-40GB": 40, "A100-PCIe": 80, "H100": 80, "H100-PCIe": 80, "H100-NVL": 94, "H200": 141, "B200": 180,
}  # fmt: skip
SIZES = ((1, 1), (1, 2), (2, 2), (3, 4), (4, 4), (7, 8))


@dataclass(frozen=True, slots=True, order=True)
class Profile:
    """`slices` of the seven compute slices; `gigabytes` as the name says, a multiple of an eighth of the memory."""

    slices: int
    gigabytes: int
    name: str

    @property
    def share(self) -> float:
        return self.slices / COMPUTE_SLICES

    def eighths(self, memory: float) -> int:
        """Of a GPU with so many bytes."""
        return memory_slices(self.gigabytes * GIB / memory)

    def most_on(self, memory: float) -> int:
        """How many such instances a GPU with so many bytes has room for."""
        return min(COMPUTE_SLICES // self.slices, MEMORY_SLICES // self.eighths(memory))


def profiles_of(gpu: str) -> Mapping[str, Profile]:
    """What a GPU type can be divided into, by name; nothing where MIG does not divide it."""
    if gpu not in NAMED_BY:
        return {}
    sizes = [(slices, int(NAMED_BY[gpu] * eighths / MEMORY_SLICES + 0.5)) for slices, eighths in SIZES]
    return {name: Profile(*size, name) for size in sizes for name in ["{}g.{}gb".format(*size)]}


def profile_from(name: str) -> Profile | None:
    """From `1g.10gb`, as in the resource nvidia.com/mig-1g.10gb; None for what is no profile."""
    found = _NAME.fullmatch(name)
    if found is None or not 1 <= int(found[1]) <= COMPUTE_SLICES:
        return None
    return Profile(int(found[1]), int(found[2]), name)


def part_of(spec: GpuSpec, profile: Profile) -> GpuSpec:
    """The instance as if it were a small GPU of its own; a full set of instances draws what the whole GPU does."""
    memory, compute = profile.eighths(spec.memory) / MEMORY_SLICES, profile.share
    return replace(
        spec,
        memory=spec.memory * memory,
        bandwidth=spec.bandwidth * memory,
        flops=spec.flops * compute,
        tdp=spec.tdp * compute,
        bare=spec.bare * compute,
        context=spec.context * compute,
        loading=spec.loading * compute,
    )
