"""MIG divides a GPU's compute by seven and its memory, with the bandwidth, by eight: what an instance has of them.

So on A100, H100, H200 and B200 (NVIDIA's MIG user guide); an A30 has four, and its nodes then count as fewer GPUs than
they have.
"""

import re

COMPUTE_SLICES = 7
MEMORY_SLICES = 8

# 3g.40gb, or a compute instance within one: 1c.3g.40gb
_PROFILE = re.compile(r"(?:(\d)c\.)?(\d)g\.")


def compute_slices(profile: str) -> int:
    """Compute slices of a MIG profile, 1 to 7; a profile of an unknown form has at least one."""
    found = _PROFILE.match(profile)
    return 1 if found is None else int(found[1] or found[2])


def memory_slices(share: float) -> int:
    """Memory slices, 1 to 8, of an instance whose profile names that share of its GPU's memory: names are rounded."""
    return min(max(round(share * MEMORY_SLICES), 1), MEMORY_SLICES)
