"""Every number of the physics, each with its source or the word "assumed" or "derived".

GPUs, engines and clocks. SI units unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fallow.twin.calibration.tasks import Precision

GIB = float(2**30)

# vLLM's default share of GPU memory, and its KV block.
GPU_MEMORY_UTILIZATION = 0.92
BLOCK_TOKENS = 16
# vLLM's chunk of prefill per step on data-centre GPUs (max_num_batched_tokens), and its max_num_seqs: 256, or 1024 in
# recent versions on large GPUs; 256 keeps to the range of the fits.
CHUNK_TOKENS = 8192
MAX_NUM_SEQS = 256
# A node without its GPUs as RAPL sees it: two CPU packages and their memory. Idle, and per busy GPU, for the host side
# of an engine; per GPU that loads, for reading and unpacking weights. All assumed, for a server of eight GPUs.
PACKAGE_IDLE_WATTS = 110.0
PACKAGES = 2
DRAM_IDLE_WATTS = 60.0
PACKAGE_WATTS_PER_BUSY_GPU = 25.0
PACKAGE_WATTS_PER_LOADING_GPU = 60.0
DRAM_WATTS_PER_BUSY_GPU = 5.0
# Where RAPL's energy counters start anew, max_energy_range_uj of a server's package and DRAM domains: at 200 W a
# package wraps every 22 minutes, and node-exporter shows it as it is.
PACKAGE_RANGE_JOULES = 262143.328850
DRAM_RANGE_JOULES = 65712.999613
# With CUDA_DISABLE_PERF_BOOST=1 clocks fall 2 s after the last request and the draw is that of an empty GPU after less
# than 4 s: taken as one step between the two. The ramps of H100 and A100 are measured there, the others assumed
# (arXiv 2605.23918, gpu-parking-tax).
FALL_SECONDS, RAMP_SECONDS = 3.0, 0.2


class Gpu(StrEnum):
    B200 = "B200"
    H200 = "H200"
    H100 = "H100"
    A100 = "A100"
    L40S = "L40S"
    L4 = "L4"


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU type. `bare`: no CUDA context; `context`: loaded and idle; `loading`: while weights come in, W.

    `ramp`: seconds until clocks that had fallen are up again for the first request.
    """

    name: Gpu
    model_name: str
    tdp: float
    memory: float
    bandwidth: float
    flops: float
    bare: float
    context: float
    loading: float
    idle_clock: int
    max_clock: int
    memory_clock: int
    idle_temperature: float
    hot_temperature: float
    ramp: float = RAMP_SECONDS


GPUS: dict[Gpu, GpuSpec] = {
    # Bare, context, clocks and temperature: arXiv 2605.23918 (60 and 40 samples). Bandwidth, FLOPS, TDP: data sheet.
    # Loading: assumed, between the 81 W measured while plain PyTorch loads 7B and the 300 W assumed in that paper.
    Gpu.H100: GpuSpec(
        Gpu.H100, "NVIDIA H100 80GB HBM3", 700, 80 * GIB, 3.35e12, 989e12,
        71.8, 121.7, 150.0, 345, 1980, 2619, 36.0, 66.0, 0.147,
    ),
    # SXM 80 GB: bare 62.1 and loaded 87.0 reported for single devices (powertrace-sim); loading assumed.
    Gpu.A100: GpuSpec(
        Gpu.A100, "NVIDIA A100-SXM4-80GB", 400, 80 * GIB, 2.039e12, 312e12,
        62.1, 87.0, 110.0, 210, 1410, 1593, 32.0, 64.0, 0.22,
    ),
    # Bare, context, clocks: arXiv 2605.23918; loading assumed.
    Gpu.L40S: GpuSpec(
        Gpu.L40S, "NVIDIA L40S", 350, 48 * GIB, 0.864e12, 362e12,
        35.6, 102.1, 120.0, 210, 2520, 9000, 32.0, 70.0,
    ),
    # Bare: arXiv 2604.09048; context and loading assumed.
    Gpu.L4: GpuSpec(
        Gpu.L4, "NVIDIA L4", 72, 24 * GIB, 0.300e12, 121e12,
        17.0, 30.0, 35.0, 210, 2040, 6251, 35.0, 72.0,
    ),
    # Bandwidth, memory, TDP: data sheet. The same die as H100, so the rest is assumed to be alike.
    Gpu.H200: GpuSpec(
        Gpu.H200, "NVIDIA H200", 700, 141e9, 4.8e12, 989e12,
        71.8, 121.7, 150.0, 345, 1980, 3201, 36.0, 66.0,
    ),
    # Bandwidth, memory, TDP: data sheet; everything else assumed, the context as by the calibration.
    Gpu.B200: GpuSpec(
        Gpu.B200, "NVIDIA B200", 1000, 180 * GIB, 8.0e12, 2250e12,
        103.0, 174.0, 215.0, 120, 1965, 3996, 35.0, 68.0,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RatioPoint:
    """At a batch size: step time and watts relative to BF16."""

    batch: float
    step: float
    watts: float


# FP8 of a dense model on H100 against BF16, derived, for nobody has published its energy. Linear layers are 76 % of a
# step of 8B at one request (DistServe's profile of decoding), fewer beside attention in large batches: assumed, half at
# 256. They take 1/1.7 of the time at 1 to 64 rows and 1/1.5 at 256, quantisation included (vLLM's benchmarks of GEMMs:
# its pull requests 17126 of Llama-3.1-8B and 49363 of Gemma-4-31B on H100, 1.4 to 1.9). 7B at 32 requests was measured
# 1.31 x as fast (Baseten, TensorRT-LLM). Watts: 70B on four was seen at 480 and 520 a GPU at 64 and 128 requests (lhl's
# gist of 2025-01), where BF16 draws 478 and 524 by the fit. Mixtures have rows of their own: at 8 FP8 costs them more.
DENSE_FP8_ON_HOPPER: tuple[RatioPoint, ...] = (
    RatioPoint(1, 0.70, 1.00),
    RatioPoint(8, 0.72, 1.00),
    RatioPoint(32, 0.76, 1.00),
    RatioPoint(128, 0.80, 1.00),
    RatioPoint(256, 0.84, 1.00),
)
# Weight-only INT4 (AWQ-Marlin) on a GPU with much bandwidth: less to read at small batches, dequantisation at large
# ones. Derived from the direction in arXiv 2411.02355, sizes assumed.
INT4_ON_HOPPER: tuple[RatioPoint, ...] = (
    RatioPoint(1, 0.55, 0.95),
    RatioPoint(8, 0.65, 1.00),
    RatioPoint(32, 1.00, 1.00),
    RatioPoint(64, 1.25, 1.00),
    RatioPoint(256, 1.45, 1.00),
)
# Prompt tokens per second relative to BF16, with those ratios. FP8: linear layers, 85 % of it, at 1.5 x the speed; vLLM
# was measured at 1.3 to 1.45 x with 2B and 4B on Blackwell (cards of Mapika/decider). INT4 dequantises first: assumed.
PREFILL_RATIO: dict[Precision, float] = {Precision.FP8: 1.4, Precision.INT4: 0.8}
