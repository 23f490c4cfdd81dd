"""A node without its GPUs: CPU packages and memory, with energy counters as RAPL keeps them."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256

from fallow.twin.physics.constants import (
    DRAM_IDLE_WATTS,
    DRAM_WATTS_PER_BUSY_GPU,
    PACKAGE_IDLE_WATTS,
    PACKAGE_WATTS_PER_BUSY_GPU,
    PACKAGE_WATTS_PER_LOADING_GPU,
    PACKAGES,
)


class HostMeter(StrEnum):
    """Which exporter shows the counters: node-exporter on :9100, Kepler on :28282, both or none."""

    RAPL = "rapl"
    KEPLER = "kepler"
    BOTH = "both"
    NONE = "none"

    @property
    def rapl(self) -> bool:
        return self in {HostMeter.RAPL, HostMeter.BOTH}

    @property
    def kepler(self) -> bool:
        return self in {HostMeter.KEPLER, HostMeter.BOTH}


class Host:
    """Moves by `advance` alone. A node that has been up for a while does not begin at zero."""

    def __init__(self, node: str, *, fresh: bool = False) -> None:
        self.joules = 0.0
        self.dark = False
        self._package = 0.0
        self._dram = 0.0
        seed = int(sha256(f"host of {node}".encode()).hexdigest()[:8], 16)
        self._earlier = (0.0, 0.0) if fresh else (seed / 2e4, seed / 7e4)
        self._watts = PACKAGES * PACKAGE_IDLE_WATTS + DRAM_IDLE_WATTS

    @property
    def watts(self) -> float:
        """Over the last stretch."""
        return self._watts

    @property
    def package_joules(self) -> float:
        """Of each package since the node was started."""
        return self._earlier[0] + self._package / PACKAGES

    @property
    def dram_joules(self) -> float:
        """Of the memory at each package."""
        return self._earlier[1] + self._dram / PACKAGES

    def reset(self) -> None:
        """The node was started anew: its counters begin at zero."""
        self._earlier = (-self._package / PACKAGES, -self._dram / PACKAGES)

    def advance(self, seconds: float, *, busy: float, loading: int) -> None:
        """`busy` is the mean number of busy GPUs meanwhile, `loading` of those into which weights are read."""
        package = PACKAGES * PACKAGE_IDLE_WATTS
        package += PACKAGE_WATTS_PER_BUSY_GPU * busy + PACKAGE_WATTS_PER_LOADING_GPU * loading
        dram = DRAM_IDLE_WATTS + DRAM_WATTS_PER_BUSY_GPU * busy
        if self.dark:
            package = dram = 0.0
        self._watts = package + dram
        self._package += package * seconds
        self._dram += dram * seconds
        self.joules += self._watts * seconds
