"""Time, power and latency of one decode step from bytes, FLOPs, layers and links: the part that carries over.

A step reads the weights that its batch touches and the KV cache of every sequence, computes, launches each layer, talks
to the other GPUs, and takes its share of prefill for the requests that come in. Power is what each of these draws. The
coefficients are fitted on measured rows; they are in `coefficients.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.twin.calibration.hardware import GpuType
from fallow.twin.calibration.models import ModelShape
from fallow.twin.calibration.tasks import ORDER, WEIGHT_BYTES, Precision, Task

Array = NDArray[np.float64]
# A coefficient is one number, or one per case while several GPU types are fitted at once.
Coefficient = Array | float

# vLLM captures CUDA graphs up to this batch; larger ones are launched kernel by kernel.
CAPTURED = 512
# How sharply the larger of memory and compute time rules a step, and of device and host time. Choices.
ROOF = 3.0
STALL = 4.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One engine at one batch: `batch` is the mean number of running sequences, `output` tokens per answer."""

    gpu: GpuType
    model: ModelShape
    precision: Precision
    gpus: int
    task: Task
    batch: float
    output: float
    context: float | None = None


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Shares of peak rates, seconds, and shares of the power above idle; `prompt_*` are tokens."""

    weight_rate: Coefficient
    cache_rate: Coefficient
    compute_rate: Coefficient
    prefill_rate: Coefficient
    link_rate: Coefficient
    step_seconds: Coefficient
    layer_seconds: Coefficient
    mixture_layer_seconds: Coefficient
    fp8_layer_seconds: Coefficient
    parallel_layer_seconds: Coefficient
    uncaptured_layer_seconds: Coefficient
    sequence_seconds: Coefficient
    reasoning_host_seconds: Coefficient
    imbalance: Coefficient
    distinct_tokens: Coefficient
    state_reads: Coefficient
    active_power: Coefficient
    weight_power: Coefficient
    cache_power: Coefficient
    compute_power: Coefficient
    launch_power: Coefficient
    mixture_power: Coefficient
    fp8_power: Coefficient
    link_power: Coefficient
    ceiling: Coefficient
    prompt_chat: Coefficient
    prompt_reasoning: Coefficient
    prompt_image: Coefficient
    prompt_video: Coefficient
    prompt_completion: Coefficient


@dataclass(frozen=True, slots=True)
class Cases:
    """Settings as columns, so that all of them are computed at once."""

    batch: Array
    gpus: Array
    output: Array
    context: Array
    task: NDArray[np.int64]
    active: Array
    shared: Array
    routed: Array
    touched: Array
    experts: Array
    layers: Array
    hidden: Array
    cache_width: Array
    cache_layers: Array
    window_layers: Array
    window: Array
    state: Array
    weight_bytes: Array
    mixture: NDArray[np.bool_]
    fp8: NDArray[np.bool_]
    stalling: NDArray[np.bool_]
    bandwidth: Array
    flops: Array
    link: Array
    idle: Array
    design: Array


@dataclass(frozen=True, slots=True)
class Decoding:
    """Natural logarithms: `step` seconds per token of each sequence with prefill, `itl` without, `watts` per GPU."""

    step: Array
    watts: Array
    itl: Array


def cases_of(settings: Sequence[Setting]) -> Cases:
    def column(values: list[float]) -> Array:
        return np.array(values, dtype=np.float64)

    models = [one.model for one in settings]
    gpus = [one.gpu for one in settings]
    return Cases(
        batch=column([one.batch for one in settings]),
        gpus=column([one.gpus for one in settings]),
        output=column([one.output for one in settings]),
        context=column([np.nan if one.context is None else one.context for one in settings]),
        task=np.array([ORDER.index(one.task) for one in settings], dtype=np.int64),
        active=column([model.active for model in models]),
        shared=column([model.parameters - model.routed for model in models]),
        routed=column([model.routed for model in models]),
        touched=column([model.touched if model.mixture else 0.5 for model in models]),
        experts=column([model.experts for model in models]),
        layers=column([model.layers for model in models]),
        hidden=column([model.hidden for model in models]),
        cache_width=column([4.0 * model.cache_heads * model.head_dim for model in models]),
        cache_layers=column([model.cache_layers for model in models]),
        window_layers=column([model.window_layers for model in models]),
        window=column([model.window for model in models]),
        state=column([model.state_bytes for model in models]),
        weight_bytes=column([WEIGHT_BYTES[one.precision] for one in settings]),
        mixture=np.array([model.mixture for model in models], dtype=np.bool_),
        fp8=np.array([one.precision is Precision.FP8 for one in settings], dtype=np.bool_),
        stalling=np.array([_stalls(one) for one in settings], dtype=np.bool_),
        bandwidth=column([gpu.bandwidth for gpu in gpus]),
        flops=column([gpu.flops for gpu in gpus]),
        link=column([gpu.link for gpu in gpus]),
        idle=column([gpu.idle for gpu in gpus]),
        design=column([gpu.design for gpu in gpus]),
    )


def _stalls(one: Setting) -> bool:
    """Reasoning on a single B200 waited for its host in all runs but those of MXFP4: steps of 32 to 45 ms, any size."""
    return (
        one.gpu.name == "B200" and one.task is Task.REASONING and one.gpus == 1 and one.precision is not Precision.MXFP4
    )


def decode(cases: Cases, by: Coefficients) -> Decoding:
    """A decode step in steady state; see docs/methodology.md, K1 to K3."""
    batch, gpus, layers = cases.batch, cases.gpus, cases.layers
    several = gpus > 1
    prompt = np.choose(
        cases.task,
        [
            np.broadcast_to(tokens, batch.shape)
            for tokens in (
                by.prompt_chat, by.prompt_reasoning, by.prompt_image, by.prompt_video, by.prompt_completion
            )
        ],
    )  # fmt: skip
    context = np.where(np.isnan(cases.context), prompt + cases.output / 2, cases.context)

    # Bytes: a mixture reads the experts that the batch touches; a step ends when the GPU with most of them has.
    touched = np.where(cases.mixture, 1 - (1 - cases.touched) ** (batch**by.distinct_tokens), 0.0)
    local = np.maximum(1.0, cases.experts / gpus)
    most = np.minimum(1.0, touched + by.imbalance * np.sqrt(2 * np.log(gpus) * touched * (1 - touched) / local))
    read = (cases.shared + cases.routed * touched) * cases.weight_bytes / gpus
    waited = (cases.shared + cases.routed * most) * cases.weight_bytes / gpus
    kept = cases.cache_layers * context + cases.window_layers * np.minimum(context, cases.window)
    cache = (cases.cache_width * kept + cases.state * by.state_reads) * batch / gpus

    flops = 2 * cases.active * batch / gpus
    prefill_flops = flops * prompt / cases.output

    # Seconds.
    memory = waited / (cases.bandwidth * by.weight_rate)
    compute = flops / (cases.flops * by.compute_rate)
    core = (memory**ROOF + compute**ROOF) ** (1 / ROOF) + cache / (cases.bandwidth * by.cache_rate)
    prefill = prefill_flops / (cases.flops * by.prefill_rate)
    per_layer = by.layer_seconds + cases.mixture * by.mixture_layer_seconds + cases.fp8 * by.fp8_layer_seconds
    launch = layers * per_layer + by.step_seconds + by.sequence_seconds * batch
    exchanged = 4 * cases.hidden * batch / (cases.link * by.link_rate)
    talk = np.where(several, layers * (by.parallel_layer_seconds + exchanged), 0.0)
    host = cases.stalling * by.reasoning_host_seconds
    uncaptured = np.where(batch > CAPTURED * 1.02, layers * by.uncaptured_layer_seconds, 0.0)

    device = core + launch + talk
    busy = device + prefill
    step = (busy**STALL + host**STALL + uncaptured**STALL) ** (1 / STALL)
    itl = (device**STALL + host**STALL + uncaptured**STALL) ** (1 / STALL)

    # Watts above idle, as shares of what is left to the design power; they close in on it like a soft ceiling.
    share = (
        by.active_power * busy
        + by.weight_power * read / cases.bandwidth
        + by.cache_power * cache / cases.bandwidth
        + by.compute_power * (flops + prefill_flops) / cases.flops
        + (by.launch_power + cases.mixture * by.mixture_power + cases.fp8 * by.fp8_power) * launch
        + by.link_power * talk
    ) / step
    above = share / (1 + share**by.ceiling) ** (1 / by.ceiling)
    return Decoding(np.log(step), np.log(cases.idle + (cases.design - cases.idle) * above), np.log(itl))
