"""Arithmetic intensity against a GPU's ridge point: whether fewer bytes of weights can save an engine's work anything.

vLLM's counters are estimates and data sheets name peaks, so both sides have wide bounds, and between them nothing is
said.
"""

from __future__ import annotations

from typing import NamedTuple

from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.readings import COUNTING, EngineReading, Operations
from fallow.domain.reasons import Reason
from fallow.domain.rooflines import Roofline
from fallow.domain.units import FlopsPerByte
from fallow.footprint.hardware import hardware_of

# vLLM counts what each operation reads and writes as if none were fused: twice the bytes of weights and cache in steps
# of 2,048 prompt tokens of an 8B model. A prompt's attention counts whole, though half of it is masked: a quarter too
# much at 16k tokens.
COUNTED = Bounds(0.8, 2.0)
# It takes the weights of all compressed-tensors, GPTQ and Quark models as 4 bits, those of 8 bits too.
COUNTED_QUANTISED = Bounds(0.5, 2.0)
# What of its peaks an engine attains: of arithmetic 0.47 with prompts and 0.89 without, of bandwidth 0.77 to 0.85
# (the twin's fit of 627 rows of ML.ENERGY v3 on H100 and B200).
ATTAINED = Bounds(0.5, 1.2)

SIXTEEN_BITS = frozenset({"BF16", "FP16"})
# Units that a precision is computed in, where the GPU has them, and their rate against 16 bits (NVIDIA's data sheets).
# Weights of other precisions are turned into 16 bits first.
UNITS = {
    "FP8": ("FP8", 2.0),
    "MXFP8": ("FP8", 2.0),
    "INT8": ("INT8", 2.0),
    "FP6": ("FP4", 2.0),
    "MXFP6": ("FP4", 2.0),
    "FP4": ("FP4", 4.0),
    "NVFP4": ("FP4", 4.0),
    "MXFP4": ("FP4", 4.0),
}


class Rate(NamedTuple):
    """Of arithmetic, against that of 16 bits: at least, and at most."""

    low: float
    high: float


def rate_of(precision: str, product: str) -> Rate:
    """I3: nothing says whether activations have fewer bits too, so units that a GPU has may stand idle."""
    unit, times = UNITS.get(precision.upper(), ("", 1.0))
    return Rate(1.0, times if unit in hardware_of(product).units else 1.0)


def only_shrinks(precision: str, serving: str, product: str) -> bool:
    """Whether arithmetic is surely no faster in a precision than in the one that serves, only its weights smaller."""
    return rate_of(precision, product).high <= rate_of(serving, product).low


def ridge(precision: str, product: str) -> Figure[FlopsPerByte] | Missing:
    """I2: peak arithmetic in the precision over the bandwidth of the memory."""
    gpu, rate = hardware_of(product), rate_of(precision, product)
    if gpu.flops is None or gpu.bandwidth is None or precision.upper() == "FP32":
        return Missing(Reason.NO_HISTORY, f"nobody told the peak of {product or 'the GPU'} in {precision}")
    point = FlopsPerByte(gpu.flops / gpu.bandwidth)
    return Figure(point * (rate.low * ATTAINED.low), point * rate.high, point * (rate.high * ATTAINED.high))


def roofline(done: Operations, precision: str, product: str) -> Roofline | Missing:
    """I1: operations over bytes of what was computed, against the ridge point of the GPU that it was computed on."""
    point = ridge(precision, product)
    if isinstance(point, Missing):
        return point
    bounds = COUNTED if precision.upper() in SIXTEEN_BITS else COUNTED_QUANTISED
    return Roofline(Figure.around(FlopsPerByte(done.flops / done.bytes), bounds), point)


def done_between(before: EngineReading | None, now: EngineReading) -> Operations | Missing:
    """What an engine computed between two readings, for each of its GPUs; since it started where there is none before,
    or where it began anew since.
    """
    last = now.operations
    first = Operations(0, 0) if before is None else before.operations
    if isinstance(last, Missing):
        return last
    if isinstance(first, Missing):
        return first
    if last.flops < first.flops or last.bytes < first.bytes:
        before, first = None, Operations(0, 0)
    done = Operations(last.flops - first.flops, last.bytes - first.bytes)
    if done.flops > 0 and done.bytes > 0:
        return done
    tokens = now.generated_tokens - (0.0 if before is None else before.generated_tokens)
    if tokens == 0:
        return Missing(Reason.NO_WORK, "nothing was computed")
    return Missing(Reason.NO_SERIES, f"vLLM's estimated FLOPs stand still while it works: {COUNTING}")
