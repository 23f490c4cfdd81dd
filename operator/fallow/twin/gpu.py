"""One simulated GPU: its energy counter, and the samples that dcgm-exporter would show of it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid5

from fallow.domain.readings import PodRef
from fallow.twin.physics.constants import GpuSpec


@dataclass(frozen=True, slots=True)
class GpuSample:
    """`watts` is the mean since the sample before, so the counter integrates exactly what was reported."""

    at: float
    watts: float
    counter_joules: float
    busy_share: float
    tensor_active: float
    dram_active: float
    sm_clock: int
    temperature: int
    used_bytes: float


@dataclass(slots=True)
class Work:
    """What one GPU did in a while."""

    joules: float = 0.0
    busy_seconds: float = 0.0
    flops: float = 0.0
    read_bytes: float = 0.0


class GpuDevice:
    """Keeps its counter whoever holds it; only a new node begins again."""

    def __init__(self, spec: GpuSpec, node: str, index: int, *, now: float, fresh: bool = False) -> None:
        self.spec = spec
        self.node = node
        self.index = index
        self.uuid = f"GPU-{uuid5(NAMESPACE_DNS, f'{node}/{index}')}"
        self.pci_bus_id = f"00000000:{0x17 + index * 8 & 0xFF:02X}:00.0"
        self.holder: PodRef | None = None
        self.container = ""
        self.used_bytes = 0.0
        self.has_context = False
        # A driver that has been up for a while: a reader that took the first sample for energy used would stand out.
        self._earlier = 0.0 if fresh else int(sha256(self.uuid.encode()).hexdigest()[:8], 16) / 40.0
        self._total = Work()
        self._sampled = Work()
        self._sampled_at = now
        self.sample = self._take(now, spec.bare)

    @property
    def joules(self) -> float:
        """Since the twin began."""
        return self._total.joules

    @property
    def counter_joules(self) -> float:
        """Since the driver was loaded."""
        return self._earlier + self._total.joules

    def book(self, work: Work) -> None:
        self._total.joules += work.joules
        self._total.busy_seconds += work.busy_seconds
        self._total.flops += work.flops
        self._total.read_bytes += work.read_bytes

    def take_sample(self, now: float) -> None:
        seconds = now - self._sampled_at
        if seconds <= 0:
            return
        self.sample = self._take(now, (self._total.joules - self._sampled.joules) / seconds)
        self._sampled = Work(self._total.joules, self._total.busy_seconds, self._total.flops, self._total.read_bytes)
        self._sampled_at = now

    def _take(self, now: float, watts: float) -> GpuSample:
        seconds = max(now - self._sampled_at, 1e-9)
        spec = self.spec
        heat = (watts - spec.bare) / (spec.tdp - spec.bare)
        return GpuSample(
            at=now,
            watts=watts,
            counter_joules=self.counter_joules,
            busy_share=min((self._total.busy_seconds - self._sampled.busy_seconds) / seconds, 1.0),
            tensor_active=min((self._total.flops - self._sampled.flops) / seconds / spec.flops, 1.0),
            dram_active=min((self._total.read_bytes - self._sampled.read_bytes) / seconds / spec.bandwidth, 1.0),
            sm_clock=spec.max_clock if self.has_context else spec.idle_clock,
            temperature=round(spec.idle_temperature + max(heat, 0.0) * (spec.hot_temperature - spec.idle_temperature)),
            used_bytes=self.used_bytes,
        )
