"""MIG instances: which part of a GPU a profile such as 3g.40gb has, and what draws power in it.

Nobody has measured watts per instance (NVML and DCGM give one value for the whole board), so an instance draws the
share of its compute slices: assumed, of the bare board, of the context, and of its work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fallow.twin.physics.constants import GIB, MIG_MEMORY_SLICES, MIG_SLICES, GpuSpec

_NAME = re.compile(r"(\d)g\.(\d+)gb(?:[.+].*)?")


@dataclass(frozen=True, slots=True, order=True)
class Profile:
    """`slices` of the seven compute slices; `gigabytes` as the name says, a multiple of an eighth of the memory."""

    slices: int
    gigabytes: int
    name: str

    @property
    def share(self) -> float:
        return self.slices / MIG_SLICES


def profile_from(name: str) -> Profile | None:
    """From `1g.10gb`, as in the resource nvidia.com/mig-1g.10gb; None for what is no profile."""
    found = _NAME.fullmatch(name)
    if found is None or not 1 <= int(found[1]) <= MIG_SLICES:
        return None
    return Profile(int(found[1]), int(found[2]), name)


def part_of(spec: GpuSpec, profile: Profile) -> GpuSpec:
    """The instance as if it were a small GPU of its own; a full set of instances draws what the whole GPU does."""
    eighths = max(round(profile.gigabytes * GIB / spec.memory * MIG_MEMORY_SLICES), 1)
    memory, compute = min(eighths / MIG_MEMORY_SLICES, 1.0), profile.share
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
