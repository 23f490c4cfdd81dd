"""Time, power and latency of one decode step from bytes, FLOPs, layers and links: the part that carries over.

A step reads the weights that its batch touches and the KV cache of every sequence, computes, launches each layer and
talks to the other GPUs; some steps carry the prompts of requests that come in besides, and take longer. Power is what
each of these draws. The coefficients are fitted on measured rows; they are in `coefficients.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.twin.calibration.hardware import GpuType
from fallow.twin.calibration.models import ModelShape
from fallow.twin.calibration.tasks import ORDER, WEIGHT_BYTES, Precision, Task, weight_bytes

Array = NDArray[np.float64]
# A coefficient is one number, or one per case while several GPU types are fitted at once.
Coefficient = Array | float

# How sharply the larger of memory and compute time rules a step, and of device and host time. Choices.
ROOF = 3.0
STALL = 4.0
# How sharply the median gap turns from that of a step without prompts to that of one with them, where half of the steps
# have some; steps of either kind vary. A choice.
TURN = 1.5
# vLLM's gpu_memory_utilization at most, and what context and activations take of each GPU, B. Choices.
MEMORY_SHARE = 0.97
OVERHEAD = 1.5e9


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

    @property
    def stalls(self) -> bool:
        """Waits for its host: reasoning and images on a single B200 did, in all runs but those of MXFP4.

        Steps took 25 to 45 ms whatever the size of the model and drew little; of images from a batch of 16 on.
        """
        beside = self.task in {Task.REASONING, Task.IMAGE} and self.precision is not Precision.MXFP4
        return self.gpu.name == "B200" and self.gpus == 1 and beside

    @property
    def expert_parallel(self) -> bool:
        """Each GPU has whole experts: as all mixtures were run but those of MXFP4, which are cut like dense layers."""
        return self.model.mixture and self.precision is not Precision.MXFP4

    @property
    def untuned(self) -> bool:
        """Experts in 16 bit have Triton kernels, and a GPU's share of them had no tuned tiles.

        Without those, vLLM's `get_default_config` takes others for a batch above the number of experts on a GPU; that
        vLLM 0.11.1 had none for such shares is assumed, since all rows of them jump there.
        """
        return self.expert_parallel and self.precision is Precision.BF16 and self.gpus > 1

    @property
    def flops(self) -> float:
        """Of one GPU: twice as many in 8 bit, and so are the activations beside MXFP4 on Blackwell (FlashInfer)."""
        eight = self.precision is Precision.FP8 and self.gpu.has_fp8
        four = self.precision is Precision.MXFP4 and self.gpu.generation == "Blackwell"
        return self.gpu.flops * (2.0 if eight or four else 1.0)


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
    untuned_layer_seconds: Coefficient
    fp8_layer_seconds: Coefficient
    fp8_expert_seconds: Coefficient
    parallel_layer_seconds: Coefficient
    mixed_layer_seconds: Coefficient
    sequence_seconds: Coefficient
    host_seconds: Coefficient
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
    """Settings as columns, so that all of them are computed at once. `room`: B for the KV cache on each GPU."""

    batch: Array
    gpus: Array
    output: Array
    context: Array
    task: NDArray[np.int64]
    active: Array
    shared_bytes: Array
    routed_bytes: Array
    touched: Array
    local_experts: Array
    layers: Array
    mixture_layers: Array
    hidden: Array
    cache_width: Array
    cache_layers: Array
    window_layers: Array
    window: Array
    state: Array
    room: Array
    mixture: NDArray[np.bool_]
    fp8: NDArray[np.bool_]
    expert_parallel: NDArray[np.bool_]
    untuned: NDArray[np.bool_]
    stalling: NDArray[np.bool_]
    bandwidth: Array
    flops: Array
    link: Array
    idle: Array
    design: Array


@dataclass(frozen=True, slots=True)
class Decoding:
    """Natural logarithms: `step` seconds per token of each sequence with prefill, `itl` the median gap between two of
    its tokens, `watts` per GPU.
    """

    step: Array
    watts: Array
    itl: Array


def usable_of(gpu: GpuType) -> float:
    """B of its memory for weights and KV cache."""
    return gpu.memory * MEMORY_SHARE - OVERHEAD


def room_of(gpu: GpuType, model: ModelShape, precision: Precision, gpus: int) -> float:
    """B that the weights leave to the KV cache, over all GPUs; below 0 where they do not fit."""
    return usable_of(gpu) * gpus - model.parameters * WEIGHT_BYTES[precision]


def cases_of(settings: Sequence[Setting]) -> Cases:
    def column(values: list[float]) -> Array:
        return np.array(values, dtype=np.float64)

    def flags(values: list[bool]) -> NDArray[np.bool_]:
        return np.array(values, dtype=np.bool_)

    models = [one.model for one in settings]
    gpus = [one.gpu for one in settings]
    each = [weight_bytes(one.precision, mixture=one.model.mixture) for one in settings]
    return Cases(
        batch=column([one.batch for one in settings]),
        gpus=column([one.gpus for one in settings]),
        output=column([one.output for one in settings]),
        context=column([np.nan if one.context is None else one.context for one in settings]),
        task=np.array([ORDER.index(one.task) for one in settings], dtype=np.int64),
        active=column([model.active for model in models]),
        shared_bytes=column(
            [(model.parameters - model.routed) * of[0] for model, of in zip(models, each, strict=True)]
        ),
        routed_bytes=column([model.routed * of[1] for model, of in zip(models, each, strict=True)]),
        touched=column([model.touched if model.mixture else 0.5 for model in models]),
        local_experts=column([max(1.0, one.model.experts / one.gpus) for one in settings]),
        layers=column([model.layers for model in models]),
        mixture_layers=column([model.mixture_layers for model in models]),
        hidden=column([model.hidden for model in models]),
        cache_width=column([_cache_width(one) for one in settings]),
        cache_layers=column([model.cache_layers for model in models]),
        window_layers=column([model.window_layers for model in models]),
        window=column([model.window for model in models]),
        state=column([model.state_bytes for model in models]),
        room=column([max(0.0, room_of(one.gpu, one.model, one.precision, one.gpus) / one.gpus) for one in settings]),
        mixture=flags([model.mixture for model in models]),
        fp8=flags([one.precision is Precision.FP8 for one in settings]),
        expert_parallel=flags([one.expert_parallel for one in settings]),
        untuned=flags([one.untuned for one in settings]),
        stalling=flags([one.stalls for one in settings]),
        bandwidth=column([gpu.bandwidth for gpu in gpus]),
        flops=column([one.flops for one in settings]),
        link=column([gpu.link for gpu in gpus]),
        idle=column([gpu.idle for gpu in gpus]),
        design=column([gpu.design for gpu in gpus]),
    )


def _cache_width(one: Setting) -> float:
    """B per token and layer that each GPU keeps."""
    whole = 4.0 * one.model.cache_heads * one.model.head_dim
    return whole * one.model.cache_copies(one.gpus) / one.gpus


def decode(cases: Cases, by: Coefficients) -> Decoding:
    """A decode step in steady state; see docs/methodology.md, K1 to K3."""
    batch, gpus, layers, local = cases.batch, cases.gpus, cases.layers, cases.local_experts
    prompt = np.choose(
        cases.task,
        [
            np.broadcast_to(tokens, batch.shape)
            for tokens in (
                by.prompt_chat, by.prompt_reasoning, by.prompt_image, by.prompt_video, by.prompt_completion
            )
        ],
    )  # fmt: skip
    # Prompts come independently (Poisson): the share of steps that carry some, and the tokens in such a step.
    prompts = batch / cases.output
    mixed = -np.expm1(-prompts)
    tokens = batch + prompts / mixed * prompt

    read, waited = _weights(cases, by, batch)
    read_mixed, waited_mixed = _weights(cases, by, tokens)
    cache = _cache(cases, by, prompt)
    flops = 2 * cases.active * batch / gpus
    prefill_flops = flops * prompt / cases.output

    # Seconds.
    per_layer = by.layer_seconds + cases.fp8 * by.fp8_layer_seconds
    per_mixture = by.mixture_layer_seconds + cases.fp8 * by.fp8_expert_seconds * local
    launch = layers * per_layer + cases.mixture_layers * per_mixture + by.step_seconds + by.sequence_seconds * batch
    exchanged = 4 * cases.hidden * batch / (cases.link * by.link_rate)
    talk = np.where(gpus > 1, layers * (by.parallel_layer_seconds + exchanged), 0.0)
    compute = flops / (cases.flops * by.compute_rate)
    beside = cache / (cases.bandwidth * by.cache_rate) + launch + talk

    def device(waited: Array, tokens: Array) -> Array:
        memory = waited / (cases.bandwidth * by.weight_rate)
        untuned = cases.untuned * (tokens > local) * cases.mixture_layers * by.untuned_layer_seconds
        return (memory**ROOF + compute**ROOF) ** (1 / ROOF) + beside + untuned

    def longest(*seconds: Array) -> Array:
        return np.asarray(sum(one**STALL for one in seconds) ** (1 / STALL))

    host = np.asarray(cases.stalling * by.host_seconds, dtype=np.float64)
    busy, busy_mixed = device(waited, batch), device(waited_mixed, tokens)
    busy_mixed = busy_mixed + prefill_flops / mixed / (cases.flops * by.prefill_rate)
    alone = longest(busy, host)
    # a step with prompts is no replayed graph: it takes at least what launching its layers does
    more = longest(busy_mixed, host, layers * by.mixed_layer_seconds) - alone
    step = alone + mixed * more
    itl = alone + more / (1 + (1 / mixed - 1) ** TURN)

    # Watts above idle, as shares of what is left to the design power; they close in on it like a soft ceiling.
    share = (
        by.active_power * (busy + mixed * (busy_mixed - busy))
        + by.weight_power * (read + mixed * (read_mixed - read)) / cases.bandwidth
        + by.cache_power * cache / cases.bandwidth
        + by.compute_power * (flops + prefill_flops) / cases.flops
        + (by.launch_power + cases.mixture * by.mixture_power + cases.fp8 * by.fp8_power) * launch
        + by.link_power * talk
    ) / step
    above = share / (1 + share**by.ceiling) ** (1 / by.ceiling)
    return Decoding(np.log(step), np.log(cases.idle + (cases.design - cases.idle) * above), np.log(itl))


def touched_by(cases: Cases, by: Coefficients, tokens: Array) -> Array:
    """Share of the routed experts that so many tokens in a step take, 0 to 1."""
    return np.where(cases.mixture, 1 - (1 - cases.touched) ** (tokens**by.distinct_tokens), 0.0)


def _weights(cases: Cases, by: Coefficients, tokens: Array) -> tuple[Array, Array]:
    """B that a GPU reads in a step of so many tokens: the mean one, and the one with most, for which a step waits."""
    touched = touched_by(cases, by, tokens)
    uneven = np.sqrt(2 * np.log(cases.gpus) * touched * (1 - touched) / cases.local_experts)
    most = np.minimum(1.0, touched + cases.expert_parallel * by.imbalance * uneven)
    shared, routed = cases.shared_bytes / cases.gpus, cases.routed_bytes / cases.gpus
    return shared + routed * touched, shared + routed * most


def _cache(cases: Cases, by: Coefficients, prompt: Array) -> Array:
    """B of KV cache and state that a GPU reads: no more than it has room for, since others wait or are preempted."""
    context = np.where(np.isnan(cases.context), prompt + cases.output / 2, cases.context)
    kept = cases.cache_layers * context + cases.window_layers * np.minimum(context, cases.window)
    state = cases.state * by.state_reads * cases.batch / cases.gpus
    return np.minimum(cases.cache_width * kept * cases.batch, cases.room) + state
