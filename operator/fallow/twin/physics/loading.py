"""What a start takes, what waking from sleep does, and how long a service must be idle for a release to be worth it.

The paper's rule (arXiv 2605.23918) charges all power while loading; what loading adds to an empty GPU is less, and so
is the time after which releasing pays (docs/methodology.md, break-even).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, pow  # noqa: A004 -- of floats, so that it gives a float

from fallow.domain.figures import Figure
from fallow.domain.units import Joules, Seconds, Watts, energy
from fallow.twin.calibration.models import PRESETS
from fallow.twin.calibration.tasks import WEIGHT_BYTES, Precision
from fallow.twin.physics.constants import GPUS, Gpu, GpuSpec
from fallow.twin.physics.models import LLAMA_8B

# Processes, CUDA contexts and graphs of vLLM, s: 20.3 for 3B of which weights are a tenth (v0.10.1, arXiv 2606.07362).
ENGINE_SECONDS = 20.0
# Compiling, s: 11-21 when it never ran on the node, 3-6 from its cache (the same).
COMPILE_SECONDS, CACHED_COMPILE_SECONDS = 15.0, 5.0
# Weights come in at 2 GB/s, a network volume or a local disk; an image of 10 GB at 0.3 GB/s. Assumed.
READ_RATE = 2e9
PULL_SECONDS = 30.0
# Of ln seconds from start to start; more than fourfold between versions of an engine. Assumed.
SIGMA = 0.3
# The highest power that was assumed while loading, of the design power: 300 of 700 W (arXiv 2605.23918).
HIGHEST_SHARE = 300.0 / GPUS[Gpu.H100].tdp

# s from sleep level 1 of 8B, and the power of a model's parameters that it grows by: .26 of 0.6B, .82 of 4.2B, 2.9 of
# 30B, 5.4 of 235B in FP8 on four, to 15 % (vLLM's blog of 2025-10-26, A100, v0.11.0).
WAKE_SECONDS, WAKE_POWER = 1.17, 0.55
# FP8 is 13-33 % faster (the same).
FP8_SHARE = 0.8


def wake_seconds(parameters: float, precision: Precision, level: int) -> float:
    """From being asked to wake from sleep level 1 or 2 until the engine serves; all GPUs of a replica at once.

    From level 2 weights are read as at a start: .85 s of 0.6B were measured there, and 2.6 of 4.2B, where this says 5.
    """
    size = parameters / PRESETS[LLAMA_8B].parameters
    copied = WAKE_SECONDS * pow(size, WAKE_POWER) * (FP8_SHARE if precision is Precision.FP8 else 1.0)
    return copied + (parameters * WEIGHT_BYTES[precision] / READ_RATE if level == 2 else 0.0)


def load_seconds(
    weight_bytes: float, *, read_rate: float = READ_RATE, compiled: bool = False, image_there: bool = True
) -> Seconds:
    """Median from the container's start to ready; from being placed where the image is not there.

    `compiled`: the same model ran on the node before. All GPUs of a replica read over the same way.
    """
    pull = 0.0 if image_there else PULL_SECONDS
    compiling = CACHED_COMPILE_SECONDS if compiled else COMPILE_SECONDS
    return Seconds(pull + ENGINE_SECONDS + weight_bytes / read_rate + compiling)


def spread(median: Seconds, deviate: float) -> Seconds:
    """One start: lognormal, `deviate` is drawn from the standard normal distribution."""
    return Seconds(median * exp(SIGMA * deviate))


def load_watts(gpu: GpuSpec) -> Figure[Watts]:
    """Mean of one GPU while it loads: as loaded and idle; assumed; the paper's 300 W on H100."""
    high = max(HIGHEST_SHARE * gpu.tdp, gpu.loading)
    return Figure(Watts(gpu.context), Watts(gpu.loading), Watts(high))


def load_energy(gpu: GpuSpec, seconds: Seconds, *, gpus: int = 1) -> Figure[Joules]:
    """What a load adds to empty GPUs, which would have drawn their bare watts."""
    watts, bare = load_watts(gpu), Watts(gpu.bare)
    low, best, high = (energy(one - bare, seconds) * gpus for one in (watts.low, watts.best, watts.high))
    return Figure(low, best, high)


def paper_break_even(load: Watts, seconds: Seconds, parking: Watts) -> Seconds:
    """T* = P_load t_load / P_park; `parking`: what a loaded idle engine draws above an empty GPU."""
    return Seconds(energy(load, seconds).value / parking.value)


def added_energy(samples: Sequence[Watts], every: Seconds, bare: Watts) -> Joules:
    """Energy of a load above the empty GPU's, from power samples `every` so many seconds."""
    return Joules(sum((sample.value - bare.value) * every for sample in samples))


def break_even(added: Joules, parking: Watts) -> Seconds:
    """T* = E_extra / (P_loaded - P_bare): idle for longer, a release saves energy."""
    return Seconds(added.value / parking.value)
