"""What a model at a precision does on a GPU type: step time, watts, prefill rate and KV room.

Measured fits where there are any, else derived from bytes, bandwidth and FLOPS; `source` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import exp, log2

from fallow.twin.physics.constants import (
    A100_STEP_RATIO,
    BANDWIDTH_SHARE,
    DERIVED_POWER,
    FP8_ON_H100,
    GPU_MEMORY_UTILIZATION,
    GPUS,
    HOST_SECONDS,
    INT4_ON_H100,
    MEASURED_STEPS,
    MODELS,
    POWER_FITS,
    PREFILL_MFU,
    PREFILL_POWER_BATCH,
    PREFILL_RATIO,
    RUNTIME_OVERHEAD_BYTES,
    TENSOR_PARALLEL_SECONDS,
    TYPICAL_CONTEXT_TOKENS,
    WEIGHT_BYTES,
    WEIGHT_READ_SHARE,
    Gpu,
    GpuSpec,
    ModelClass,
    ModelSpec,
    PowerFit,
    Precision,
    RatioPoint,
    StepFit,
)
from fallow.twin.physics.parts import Profile, part_of


class LawSource(StrEnum):
    MEASURED = "measured"
    DERIVED = "derived"


class DoesNotFit(ValueError):
    """The weights leave no room for a KV cache on these GPUs."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds of a step and W per GPU at batches 0, 1, 2 and so on; flat beyond the last."""

    steps: tuple[float, ...]
    watts: tuple[float, ...]


NO_STEP, NO_POWER = StepFit(0.0, 0.0), PowerFit(0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Law:
    """One model, precision and GPU type at one tensor parallelism; `share` of the compute of each GPU is its own.

    With a `curve` it has no fits: that is where steps and watts are read.
    """

    gpu: GpuSpec
    model: ModelSpec
    precision: Precision
    tensor_parallel: int
    prefill_rate: float
    kv_tokens: int
    source: LawSource
    step: StepFit = NO_STEP
    power: PowerFit = NO_POWER
    ratios: tuple[RatioPoint, ...] = ()
    share: float = 1.0
    curve: Curve | None = None

    def step_seconds(self, batch: float) -> float:
        """Time of one decode step that gives every one of `batch` requests a token."""
        if self.curve is not None:
            return along(self.curve.steps, batch)
        return (self.step.alpha + self.step.beta * batch) * ratio_at(self.ratios, max(batch, 1.0)).step

    def watts(self, batch: float) -> float:
        """W per GPU while `batch` requests decode; batch 0 is a loaded idle engine."""
        if batch <= 0:
            return self.gpu.context
        if self.curve is not None:
            return min(along(self.curve.watts, batch), self.gpu.tdp)
        whole = batch / self.share  # a seventh of the GPU with 8 requests works as hard as the whole with 56
        active = self.share * power_at(self.power, whole) * ratio_at(self.ratios, whole).watts
        return min(active, self.gpu.tdp)

    @property
    def prefill_watts(self) -> float:
        return self.watts(PREFILL_POWER_BATCH * self.share)

    @property
    def weight_bytes(self) -> float:
        """Over all GPUs of the replica."""
        return self.model.parameters * WEIGHT_BYTES[self.precision]

    @property
    def flops_per_token(self) -> float:
        """Over all GPUs; attention is left out."""
        return 2.0 * self.model.parameters


def along(values: tuple[float, ...], batch: float) -> float:
    """Linear between whole batches."""
    batch = min(batch, len(values) - 1.0)
    whole = min(int(batch), len(values) - 2)
    return values[whole] + (batch - whole) * (values[whole + 1] - values[whole])


def power_at(fit: PowerFit, batch: float) -> float:
    def logistic(b: float) -> float:
        return fit.low + fit.span / (1.0 + exp(-fit.slope * (log2(b) - fit.centre)))

    batch = max(batch, 1.0)
    if batch >= fit.fitted_from:
        return logistic(batch)
    share = log2(batch) / log2(fit.fitted_from)
    return fit.single + share * (logistic(fit.fitted_from) - fit.single)


def ratio_at(points: tuple[RatioPoint, ...], batch: float) -> RatioPoint:
    """Linear in log2 of the batch, flat outside the points; without points the ratios are one."""
    if not points:
        return RatioPoint(batch, 1.0, 1.0)
    if batch <= points[0].batch:
        return points[0]
    for left, right in pairwise(points):
        if batch <= right.batch:
            share = (log2(batch) - log2(left.batch)) / (log2(right.batch) - log2(left.batch))
            return RatioPoint(
                batch,
                left.step + share * (right.step - left.step),
                left.watts + share * (right.watts - left.watts),
            )
    return points[-1]


def law_for(
    gpu: Gpu, model: ModelClass, precision: Precision, tensor_parallel: int, *, part: Profile | None = None
) -> Law:
    """The law of a replica on whole GPUs or on MIG instances, or DoesNotFit where the weights leave no room."""
    spec, weights = GPUS[gpu] if part is None else part_of(GPUS[gpu], part), MODELS[model]
    fit, source = _step(spec, weights, precision, tensor_parallel, whole=part is None)
    return Law(
        gpu=spec,
        model=weights,
        precision=precision,
        tensor_parallel=tensor_parallel,
        step=fit,
        power=POWER_FITS.get((gpu, model)) or DERIVED_POWER[gpu],
        ratios=_ratios(gpu, precision),
        prefill_rate=PREFILL_MFU
        * spec.flops
        * tensor_parallel
        / (2.0 * weights.parameters)
        * _prefill(spec, precision),
        kv_tokens=_kv_tokens(spec, weights, precision, tensor_parallel),
        source=source,
        share=1.0 if part is None else part.share,
    )


def _step(
    gpu: GpuSpec, model: ModelSpec, precision: Precision, tensor_parallel: int, *, whole: bool
) -> tuple[StepFit, LawSource]:
    measured = MEASURED_STEPS.get((gpu.name, model.name, tensor_parallel))
    if whole and measured is not None:
        return measured, LawSource.MEASURED if precision is Precision.BF16 else LawSource.DERIVED
    on_h100 = MEASURED_STEPS.get((Gpu.H100, model.name, tensor_parallel))
    if whole and gpu.name is Gpu.A100 and on_h100 is not None:
        lighter = WEIGHT_BYTES[precision] / WEIGHT_BYTES[Precision.BF16]
        alpha = on_h100.alpha * A100_STEP_RATIO * (1.0 - WEIGHT_READ_SHARE * (1.0 - lighter))
        return StepFit(alpha, on_h100.beta * A100_STEP_RATIO), LawSource.DERIVED
    # On Hopper quantised weights are expressed by ratios to BF16, so their bytes must not count twice.
    read = Precision.BF16 if _ratios(gpu.name, precision) else precision
    weights = model.parameters * WEIGHT_BYTES[read] / tensor_parallel
    talking = TENSOR_PARALLEL_SECONDS if tensor_parallel > 1 else 0.0
    cache = model.kv_bytes / tensor_parallel * TYPICAL_CONTEXT_TOKENS / gpu.bandwidth
    compute = 2.0 * model.parameters / tensor_parallel / (PREFILL_MFU * gpu.flops)
    alpha = weights / (BANDWIDTH_SHARE * gpu.bandwidth) + HOST_SECONDS + talking
    return StepFit(alpha, cache + compute), LawSource.DERIVED


def _ratios(gpu: Gpu, precision: Precision) -> tuple[RatioPoint, ...]:
    if gpu not in {Gpu.H100, Gpu.H200}:
        return ()
    return {Precision.FP8: FP8_ON_H100, Precision.INT4: INT4_ON_H100}.get(precision, ())


def _prefill(gpu: GpuSpec, precision: Precision) -> float:
    if precision is Precision.FP8 and not gpu.fp8_units:
        return PREFILL_RATIO[Precision.INT4]
    return PREFILL_RATIO[precision]


def _kv_tokens(gpu: GpuSpec, model: ModelSpec, precision: Precision, tensor_parallel: int) -> int:
    per_gpu = gpu.memory * GPU_MEMORY_UTILIZATION - RUNTIME_OVERHEAD_BYTES
    room = per_gpu * tensor_parallel - model.parameters * WEIGHT_BYTES[precision]
    tokens = int(room / model.kv_bytes)
    if tokens < 2048:
        raise DoesNotFit(
            f"{model.name} at {precision} does not fit on {tensor_parallel} x {gpu.name}; "
            "use more GPUs per replica, a smaller precision or a larger GPU"
        )
    return tokens
