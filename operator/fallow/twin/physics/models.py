"""Which model a name means: a known one, else one of the size that the name tells, else Llama-3.1-8B."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fallow.twin.calibration.asking import LARGEST_MODEL, SMALLEST_MODEL
from fallow.twin.calibration.models import PRESETS, ModelShape, UnknownModel, preset_named, usual_shape

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
# Short for the two models that most is known about.
SHORT = {"8b": LLAMA_8B, "70b": "meta-llama/Llama-3.1-70B-Instruct"}
# `14B`, or `30B-A3B` where 3 billion of 30 are active.
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?:-a(\d+(?:\.\d+)?)b)?(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """`kv_bytes`: KV cache per token in 16 bit over all GPUs, at the context that is usual."""

    name: str
    shape: ModelShape
    kv_bytes: float


@dataclass(frozen=True, slots=True)
class Meant:
    """`preset` is None where only the size is known."""

    name: str
    shape: ModelShape
    preset: str | None


def model_meant(name: str) -> Meant:
    """By a known model's name, `8b` and `70b` for Llama-3.1, or any name with a size in it."""
    known = SHORT.get(name.lower())
    if known is None:
        try:
            known = preset_named(name)
        except UnknownModel:
            sized = _SIZE.search(name)
            if sized is not None and SMALLEST_MODEL <= float(sized[1]) * 1e9 <= LARGEST_MODEL:
                parameters = float(sized[1]) * 1e9
                active = min(max(float(sized[2] or sized[1]) * 1e9, SMALLEST_MODEL), parameters)
                return Meant(name, usual_shape(parameters, active), None)
            known = LLAMA_8B
    return Meant(known, PRESETS[known], known)
