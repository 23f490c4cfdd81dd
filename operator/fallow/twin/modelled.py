"""The law of any known model for the event engine, from the same prediction as the tables of the fast clock.

Llama-3.1 8B and 70B keep laws of their own, fitted to their rows; a model that nobody knows is taken for one of them.
"""

from __future__ import annotations

from functools import lru_cache

from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.models import PRESETS, UnknownModel, preset_named
from fallow.twin.calibration.predict import DoesNotFit as TooLarge
from fallow.twin.calibration.store import shipped
from fallow.twin.physics.constants import GPUS, MODELS, Gpu, ModelClass, ModelSpec, Precision
from fallow.twin.physics.laws import Curve, DoesNotFit, Law, LawSource, law_for
from fallow.twin.physics.parts import Profile
from fallow.twin.simulation.predicting import predicted_table

# Presets whose rows are those that the two classes are fitted to.
FITTED = frozenset(
    {
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        "meta-llama/Llama-3.3-70B-Instruct",
    }
)
# Largest batch of a law's curve; steps and watts are held flat beyond it.
MOST = 512


def law_of(
    gpu: Gpu, model: str, known_as: ModelClass, precision: Precision, gpus: int, *, part: Profile | None = None
) -> Law:
    """Of a replica that runs `model`; raises DoesNotFit. On a part of a GPU only the two classes have laws."""
    try:
        preset = preset_named(model)
    except UnknownModel:
        preset = ""
    if part is not None or not preset or preset in FITTED:
        return law_for(gpu, known_as, precision, gpus, part=part)
    return _predicted(gpu, preset, precision, gpus)


@lru_cache(maxsize=64)
def _predicted(gpu: Gpu, preset: str, precision: Precision, gpus: int) -> Law:
    calibration, shape = shipped(), PRESETS[preset]
    # as published where nothing else is asked for: some models only come in fewer bits
    asked = None if precision is Precision.BF16 else precision.value
    query = query_of(Described(name=preset), Work(gpu=gpu.value, gpus=gpus, precision=asked), calibration)
    try:
        table = predicted_table(query, slots=MOST)
    except TooLarge as error:
        raise DoesNotFit(str(error)) from error
    return Law(
        gpu=GPUS[gpu],
        model=_spec(preset, shape.parameters, shape.cache_bytes(1.0), gpus),
        precision=precision,
        tensor_parallel=gpus,
        prefill_rate=table.prefill_rate,
        kv_tokens=int(table.cache),
        source=LawSource.MEASURED if calibration.curve_of(query) is not None else LawSource.DERIVED,
        curve=Curve(tuple(table.step), tuple(table.watts / gpus)),
    )


def _spec(name: str, parameters: float, kv_bytes: float, gpus: int) -> ModelSpec:
    """Wake and reload between those of 8B and 70B by size, both assumed there."""
    small, large = MODELS[ModelClass.B8], MODELS[ModelClass.B70]
    share = (parameters / small.parameters) ** 0.32
    return ModelSpec(
        name, parameters, kv_bytes, gpus, small.wake_seconds * share,
        min(small.reload_seconds * share**1.5, 10 * large.reload_seconds),
    )  # fmt: skip
