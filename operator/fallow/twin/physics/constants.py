"""Every number of the physics, each with its source or the word "assumed" or "derived".

GPUs, models and the measured laws that bind them. SI units unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GIB = float(2**30)

# Share of peak memory bandwidth that decoding reaches, and host time per step. Assumed; together they meet the fit of
# Llama-3.1-8B on H100 (6.66 ms) within 10 %.
BANDWIDTH_SHARE = 0.8
HOST_SECONDS = 0.0007
# Model FLOPs utilisation of prefill: 0.4-0.5 assumed, gives about 27k prompt tokens/s for 8B on H100.
PREFILL_MFU = 0.45
# Mean context of a running request, used only where beta is derived instead of measured. Assumed.
TYPICAL_CONTEXT_TOKENS = 1000
# Collective operations of tensor parallelism per step. Assumed; with it the derived 70B TP4 on H100 is within 10 %.
TENSOR_PARALLEL_SECONDS = 0.002
# vLLM's default share of GPU memory, and its KV block.
GPU_MEMORY_UTILIZATION = 0.92
BLOCK_TOKENS = 16
# CUDA context, activations and graphs, beside weights and KV cache. Assumed.
RUNTIME_OVERHEAD_BYTES = 2.5 * GIB
# vLLM's chunk of prefill per step on data-centre GPUs (max_num_batched_tokens), and its max_num_seqs: 256, or 1024 in
# recent versions on large GPUs; 256 keeps to the range of the fits.
CHUNK_TOKENS = 8192
MAX_NUM_SEQS = 256
# MIG divides compute by seven and memory by eight (NVIDIA's MIG user guide).
MIG_SLICES = 7
MIG_MEMORY_SLICES = 8
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


class Gpu(StrEnum):
    B200 = "B200"
    H200 = "H200"
    H100 = "H100"
    A100 = "A100"
    L40S = "L40S"
    L4 = "L4"


class Precision(StrEnum):
    BF16 = "BF16"
    FP8 = "FP8"
    INT8 = "INT8"
    INT4 = "INT4"


class ModelClass(StrEnum):
    B8 = "8b"
    B70 = "70b"


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU type. `bare`: no CUDA context; `context`: loaded and idle; `loading`: while weights come in, W."""

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
    fp8_units: bool


GPUS: dict[Gpu, GpuSpec] = {
    # Bare, context, clocks and temperature: arXiv 2605.23918 (60 and 40 samples). Bandwidth, FLOPS, TDP: data sheet.
    # Loading: assumed, between the 81 W measured while plain PyTorch loads 7B and the 300 W assumed in that paper.
    Gpu.H100: GpuSpec(
        Gpu.H100, "NVIDIA H100 80GB HBM3", 700, 80 * GIB, 3.35e12, 989e12,
        71.8, 121.7, 150.0, 345, 1980, 2619, 36.0, 66.0, True,
    ),
    # SXM 80 GB: bare 62.1 and loaded 87.0 reported for single devices (powertrace-sim); loading assumed.
    Gpu.A100: GpuSpec(
        Gpu.A100, "NVIDIA A100-SXM4-80GB", 400, 80 * GIB, 2.039e12, 312e12,
        62.1, 87.0, 110.0, 210, 1410, 1593, 32.0, 64.0, False,
    ),
    # Bare, context, clocks: arXiv 2605.23918; loading assumed.
    Gpu.L40S: GpuSpec(
        Gpu.L40S, "NVIDIA L40S", 350, 48 * GIB, 0.864e12, 362e12,
        35.6, 102.1, 120.0, 210, 2520, 9000, 32.0, 70.0, True,
    ),
    # Bare: arXiv 2604.09048; context and loading assumed.
    Gpu.L4: GpuSpec(
        Gpu.L4, "NVIDIA L4", 72, 24 * GIB, 0.300e12, 121e12,
        17.0, 30.0, 35.0, 210, 2040, 6251, 35.0, 72.0, True,
    ),
    # Bandwidth, memory, TDP: data sheet. The same die as H100, so its idle, context and clocks are assumed.
    Gpu.H200: GpuSpec(
        Gpu.H200, "NVIDIA H200", 700, 141e9, 4.8e12, 989e12,
        75.0, 125.0, 155.0, 345, 1980, 3201, 36.0, 66.0, True,
    ),
    # Bandwidth, memory, TDP: data sheet; everything else assumed.
    Gpu.B200: GpuSpec(
        Gpu.B200, "NVIDIA B200", 1000, 180 * GIB, 8.0e12, 2250e12,
        140.0, 200.0, 240.0, 120, 1965, 3996, 35.0, 68.0, True,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """`kv_bytes`: KV cache per token in 16 bit over all GPUs; `tensor_parallel`: of its fit."""

    name: str
    parameters: float
    kv_bytes: float
    tensor_parallel: int
    wake_seconds: float
    reload_seconds: float


MODELS: dict[ModelClass, ModelSpec] = {
    # Llama-3.1-8B: 32 layers, 8 KV heads of 128, K and V, 2 bytes. Wake of sleep level 1 is 3-6 s for large models and
    # a reload (level 2) 38-58 s in vLLM's blog of 2025-10-26 (A100, v0.11); scaled to the model: assumed.
    ModelClass.B8: ModelSpec(ModelClass.B8, 8.03e9, 32 * 8 * 128 * 2 * 2.0, 1, 3.0, 20.0),
    # Llama-3.1-70B: 80 layers, 8 KV heads of 128.
    ModelClass.B70: ModelSpec(ModelClass.B70, 70.6e9, 80 * 8 * 128 * 2 * 2.0, 4, 6.0, 58.0),
}

# Bytes per weight; INT4 with group scales and 16-bit embeddings comes to about 4.5 bits.
WEIGHT_BYTES: dict[Precision, float] = {
    Precision.BF16: 2.0,
    Precision.FP8: 1.0,
    Precision.INT8: 1.0,
    Precision.INT4: 0.5625,
}


@dataclass(frozen=True, slots=True)
class StepFit:
    """Decode step = alpha + beta * B seconds."""

    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class PowerFit:
    """W per GPU, low + span / (1 + exp(-slope (log2 B - centre))); below `fitted_from` log-linear to `single` at 1."""

    low: float
    span: float
    slope: float
    centre: float
    fitted_from: float = 8.0
    single: float = 0.0


# ML.ENERGY v3 (vLLM 0.11.1, lm-arena-chat, H100 SXM), refitted: errors at most 2 % in ITL and 1.5 % in watts, B <= 256.
MEASURED_STEPS: dict[tuple[Gpu, str, int], StepFit] = {
    (Gpu.H100, ModelClass.B8, 1): StepFit(6.66e-3, 0.0758e-3),
    (Gpu.H100, ModelClass.B70, 4): StepFit(16.3e-3, 0.0923e-3),
}
# Watts of one running request are not measured: 300 W follows a fleet-sim profile, the fit extrapolates to 430-480 W.
# 300 is taken, as the lower figure makes packing look less useful. For 70B the same ratio to P(8) is assumed.
POWER_FITS: dict[tuple[Gpu, ModelClass], PowerFit] = {
    (Gpu.H100, ModelClass.B8): PowerFit(480, 214, 1.21, 5.50, single=300),
    (Gpu.H100, ModelClass.B70): PowerFit(431, 220, 0.87, 6.97, single=268),
}
# Derived, not measured. H200 as H100; B200 from 849 -> 971 W of 70B TP2 in ML.ENERGY v3; A100 from
# a fleet-sim profile; L40S 200 -> 340 W and L4 45 -> 72 W assumed.
DERIVED_POWER: dict[Gpu, PowerFit] = {
    Gpu.B200: PowerFit(840, 140, 0.9, 6.5, single=550),
    Gpu.H200: PowerFit(480, 214, 1.21, 5.50, single=300),
    Gpu.A100: PowerFit(175, 210, 1.0, 2.5, fitted_from=1.0),
    Gpu.L40S: PowerFit(200, 140, 1.0, 3.5, fitted_from=1.0),
    Gpu.L4: PowerFit(45, 27, 1.0, 2.5, fitted_from=1.0),
}
# vLLM on A100 decodes about 2.1 times slower than on H100: derived from throughput ratios of 2.0-2.6.
A100_STEP_RATIO = 2.1
# Share of a decode step's constant part that reads weights, so that shrinks with their bytes. Derived: 6.0 of 6.7 ms.
WEIGHT_READ_SHARE = 0.9
# While a prompt is processed the GPU works at the plateau of its curve: power of this batch size. Assumed.
PREFILL_POWER_BATCH = 256.0


@dataclass(frozen=True, slots=True)
class RatioPoint:
    """At a batch size: step time and watts relative to BF16."""

    batch: float
    step: float
    watts: float


# FP8 on H100 against BF16: measured on Qwen3-235B-A22B, 8 GPUs (ML.ENERGY v3); applied to other models it is derived.
# Energy per token 1.55 x at batch 8, 1.21 x at 16, 0.93 at 32, 0.87-0.89 from 64: within the range of all seven pairs.
FP8_ON_H100: tuple[RatioPoint, ...] = (
    RatioPoint(8, 1.22, 1.27),
    RatioPoint(16, 1.06, 1.14),
    RatioPoint(32, 0.87, 1.07),
    RatioPoint(64, 0.86, 1.01),
    RatioPoint(96, 0.89, 0.99),
    RatioPoint(256, 0.90, 0.99),
)
# Weight-only INT4 (AWQ-Marlin) on a GPU with much bandwidth: less to read at small batches, dequantisation at large
# ones. Derived from the direction in arXiv 2411.02355, sizes assumed.
INT4_ON_H100: tuple[RatioPoint, ...] = (
    RatioPoint(1, 0.55, 0.95),
    RatioPoint(8, 0.65, 1.00),
    RatioPoint(32, 1.00, 1.00),
    RatioPoint(64, 1.25, 1.00),
    RatioPoint(256, 1.45, 1.00),
)
# Prompt tokens per second relative to BF16. FP8 units double the peak, little of it arrives in a mixed batch: 1.2 keeps
# the energy of the whole step within the measured ratio; weight-only formats dequantise first. Assumed.
PREFILL_RATIO: dict[Precision, float] = {
    Precision.BF16: 1.0,
    Precision.FP8: 1.2,
    Precision.INT8: 1.0,
    Precision.INT4: 0.8,
}
