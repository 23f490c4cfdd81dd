"""Turns what a person writes about a model and its work into a query, or says what to write instead."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fallow.twin.calibration.bounds import Known
from fallow.twin.calibration.hardware import gpu_named
from fallow.twin.calibration.models import PRESETS, ModelShape, preset_named, usual_shape
from fallow.twin.calibration.predict import Calibration, Query
from fallow.twin.calibration.tasks import SOURCE_NAMES, Precision, Task

SMALLEST_MODEL, LARGEST_MODEL = 1e7, 1e13
LARGEST_BATCH = 65536.0
# A context this long is that of reasoning rather than of chat: halfway between both, in ln.
LONG_CONTEXT = 1500.0
PRECISION_NAMES = {
    "bfloat16": Precision.BF16, "float16": Precision.BF16, "fp16": Precision.BF16,
    "fp4": Precision.MXFP4, "nvfp4": Precision.MXFP4, "awq": Precision.INT4, "gptq": Precision.INT4,
}  # fmt: skip
PUBLISHED_AS = {"openai": Precision.MXFP4, "deepseek-ai": Precision.FP8}


class Unusable(ValueError):
    """The message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Described:
    """A model in the words of its user; None is what they did not say."""

    name: str | None = None
    parameters: str | None = None
    active: str | None = None
    layers: int | None = None
    cache_heads: int | None = None
    head_dim: int | None = None
    experts: int | None = None
    experts_per_token: int | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What it runs on and does; None is as usual."""

    gpu: str
    gpus: int = 1
    precision: str | None = None
    task: str | None = None
    context: float | None = None
    output: float | None = None


def query_of(model: Described, work: Work, calibration: Calibration) -> Query:
    """Raises Unusable, or UnknownGpu or UnknownModel, which say as much."""
    if model.name is None:
        preset, (shape, known) = None, _shape(model)
    else:
        if model != Described(name=model.name):
            raise Unusable("--model says what the model is: leave out --params, --layers and the like, or leave it out")
        preset = preset_named(model.name)
        shape, known = PRESETS[preset], Known.SHAPE
    return Query(
        gpu=gpu_named(work.gpu),
        model=shape,
        precision=_precision(work.precision, model.name, preset),
        gpus=work.gpus,
        task=_task(work, preset, calibration),
        known=known,
        preset=preset,
        output=work.output,
        context=work.context,
    )


def batches_of(text: str) -> list[float]:
    """Batches as 8,64,256; raises Unusable."""
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or not all(0 < batch <= LARGEST_BATCH for batch in found):
        raise Unusable(f"--batch {text!r} is no list of batches from above 0 to {LARGEST_BATCH:.0f}: write 8,64,256")
    return found


def _shape(model: Described) -> tuple[ModelShape, Known]:
    if model.parameters is None:
        raise Unusable(
            "say which model: --model NAME, or --params 14e9 (and --active-params 3e9 of a mixture of experts)"
        )
    parameters = _count("--params", model.parameters)
    active = parameters if model.active is None else _count("--active-params", model.active)
    if active > parameters:
        raise Unusable(f"--active-params {active:g} are more than --params {parameters:g}: write at most as many")
    shape = usual_shape(parameters, active)
    if model.layers is not None:
        shape = replace(shape, layers=float(model.layers), cache_layers=float(model.layers))
    if model.cache_heads is not None:
        shape = replace(shape, cache_heads=float(model.cache_heads))
    if model.head_dim is not None:
        shape = replace(shape, head_dim=float(model.head_dim))
    if model.experts is not None or model.experts_per_token is not None:
        shape = _with_experts(shape, model.experts, model.experts_per_token)
    return shape, Known.SIZE if model.layers is None else Known.SHAPE


def _with_experts(shape: ModelShape, experts: int | None, per_token: int | None) -> ModelShape:
    if not shape.mixture:
        raise Unusable("--experts is for a mixture of experts: give --active-params that are fewer than --params")
    experts = int(shape.experts) if experts is None else experts
    taken = min(shape.experts_per_token, experts / 2) if per_token is None else float(per_token)
    if taken >= experts:
        raise Unusable(f"--experts-per-token {taken:g} must be fewer than the {experts} experts")
    return replace(shape, experts=float(experts), experts_per_token=taken)


def _count(option: str, text: str) -> float:
    plain = text.strip().lower().replace("_", "")
    factor = {"b": 1e9, "m": 1e6, "t": 1e12}.get(plain[-1:], 1.0)
    try:
        value = float(plain[:-1] if factor > 1 else plain) * factor
    except ValueError:
        value = 0.0
    if not SMALLEST_MODEL <= value <= LARGEST_MODEL:
        raise Unusable(
            f"{option} {text!r} is no number of parameters from 10 million to 10 trillion: write 14e9 or 14B"
        )
    return value


def _precision(text: str | None, name: str | None, preset: str | None) -> Precision:
    if text is not None:
        plain = text.strip().lower()
        found = PRECISION_NAMES.get(plain) or next((one for one in Precision if one.lower() == plain), None)
        if found is None:
            raise Unusable(f"--precision {text!r} is not known: write one of {', '.join(Precision)}")
        return found
    if name is not None and preset is not None:
        if name.lower().endswith("-fp8") or preset.lower().endswith("-fp8"):
            return Precision.FP8
        return PUBLISHED_AS.get(preset.split("/")[0], Precision.BF16)
    return Precision.BF16


def _task(work: Work, preset: str | None, calibration: Calibration) -> Task:
    if work.task is not None:
        plain = work.task.strip().lower()
        found = SOURCE_NAMES.get(plain) or next((one for one in Task if one == plain), None)
        if found is None:
            raise Unusable(f"--task {work.task!r} is not known: write one of {', '.join(Task)}")
        return found
    if work.context is not None and work.context >= LONG_CONTEXT:
        return Task.REASONING
    measured = {curve.like.task for curve in calibration.curves[Known.SHAPE] if curve.preset == preset}
    return next((task for task in Task if task in measured), Task.CHAT)
