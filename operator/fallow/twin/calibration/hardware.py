"""GPU types by their data sheets, and by the names that people and drivers give them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuType:
    """One GPU. `idle`: W with an engine loaded and no work; `flops`: dense, 16 bit; `link`: B/s to peers, one way."""

    name: str
    generation: str
    design: float
    idle: float
    memory: float
    bandwidth: float
    flops: float
    link: float
    driver_names: tuple[str, ...] = ()

    @property
    def has_fp8(self) -> bool:
        """Computes in 8 bit floats, at twice the rate of 16 bit (data sheets)."""
        return self.generation in {"Ada", "Hopper", "Blackwell"}


class UnknownGpu(ValueError):
    """No GPU type has this name."""


# Design power, memory, bandwidth and FLOPS: data sheets, as compiled in Fallow's GPU constants and, from A30 on, in
# maufadel/wattgpu (Apache-2.0). Idle: measured with a loaded engine for H100 SXM, A100 PCIe and L40S (gpu-parking-tax,
# arXiv 2605.23918) and reported for A100 SXM 80 GB; all others assumed, see docs/methodology.md. Link: NVLink's data
# sheet rate one way, else PCIe of the generation.
GPUS: tuple[GpuType, ...] = (
    GpuType("H100", "Hopper", 700, 121.6, 80e9, 3352e9, 989e12, 450e9, ("NVIDIA H100 80GB HBM3", "H100 SXM")),
    GpuType("H100-PCIe", "Hopper", 350, 85, 80e9, 2040e9, 756e12, 64e9, ("NVIDIA H100 PCIe",)),
    GpuType("H100-NVL", "Hopper", 400, 85, 94e9, 3940e9, 835e12, 300e9, ("NVIDIA H100 NVL",)),
    GpuType("H200", "Hopper", 700, 121.6, 141e9, 4890e9, 989e12, 450e9, ("NVIDIA H200", "H200 SXM", "H200-NVL")),
    GpuType("B200", "Blackwell", 1000, 174, 192e9, 8000e9, 2250e12, 900e9, ("NVIDIA B200", "B200 SXM")),
    GpuType("A100", "Ampere", 400, 87, 80e9, 2039e9, 312e12, 300e9, ("NVIDIA A100-SXM4-80GB", "A100-80GB", "A100 SXM")),
    GpuType("A100-40GB", "Ampere", 400, 87, 40e9, 1555e9, 312e12, 300e9, ("NVIDIA A100-SXM4-40GB",)),
    GpuType("A100-PCIe", "Ampere", 300, 79.9, 80e9, 1935e9, 312e12, 32e9, ("NVIDIA A100 80GB PCIe",)),
    GpuType("A30", "Ampere", 165, 45, 24e9, 933e9, 165e12, 32e9, ("NVIDIA A30",)),
    GpuType("L40S", "Ada", 350, 102.4, 48e9, 864e9, 362e12, 32e9, ("NVIDIA L40S",)),
    GpuType("L4", "Ada", 72, 30, 24e9, 300e9, 121e12, 32e9, ("NVIDIA L4",)),
    GpuType("RTX-4090", "Ada", 450, 60, 24e9, 1010e9, 165e12, 32e9, ("NVIDIA GeForce RTX 4090",)),
    GpuType("RTX-3090", "Ampere", 350, 60, 24e9, 936e9, 71e12, 32e9, ("NVIDIA GeForce RTX 3090",)),
    GpuType("T4", "Turing", 70, 21, 16e9, 320e9, 65e12, 16e9, ("Tesla T4",)),
    GpuType("V100", "Volta", 300, 55, 32e9, 898e9, 125e12, 150e9, ("Tesla V100-SXM2-32GB",)),
)  # fmt: skip


def gpu_named(name: str) -> GpuType:
    """A type by its name here or in the driver, whatever its case and punctuation; raises UnknownGpu."""
    wanted = _plain(name)
    for gpu in GPUS:
        if wanted in {_plain(known) for known in (gpu.name, *gpu.driver_names)}:
            return gpu
    raise UnknownGpu(f"{name!r} is no GPU that is known here: write one of {', '.join(gpu.name for gpu in GPUS)}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("nvidia")
