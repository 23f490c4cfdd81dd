"""What GPU pods that are no vLLM do: watts and activity over time, for the waste that is planted in a cluster.

Shares of the design power are assumed. Each kind is told apart as a real one is: by watts and activity together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from math import pi, sin

from fallow.twin.physics.constants import GIB, GpuSpec

# A training step fluctuates: utilisation 80-100 %, watts 75-95 % of the design power, over minutes. Assumed.
TRAINING_PERIOD = 240.0
# A kernel that polls keeps one multiprocessor busy: utilisation 100 %, little of the power. Assumed.
SPIN_SHARE = 0.15


class Behaviour(StrEnum):
    """NOTEBOOK holds a context and never works; SPIN is 100 % busy and does nothing; the last two are vLLM engines."""

    NOTEBOOK = "notebook"
    TRAINING = "training"
    SPIN = "spin"
    LOADED = "loaded"
    HALF_FILLED = "half-filled"


# Requests that a half-filled engine always has in work, of the 256 that it could have.
HALF_FILLED_CLIENTS = 4
ENGINES = {Behaviour.LOADED: 0, Behaviour.HALF_FILLED: HALF_FILLED_CLIENTS}


@dataclass(frozen=True, slots=True)
class Draw:
    """Of one GPU or instance: W, and shares of time, of tensor pipes, of memory traffic and of memory."""

    watts: float
    busy: float = 0.0
    tensor: float = 0.0
    dram: float = 0.0
    memory: float = 0.02


def drawn(behaviour: Behaviour, spec: GpuSpec, *, at: float, who: str) -> Draw:
    """`who` shifts the phase, so that two pods of one kind do not swing together."""
    reach = spec.tdp - spec.context
    if behaviour is Behaviour.TRAINING:
        phase = int(sha256(who.encode()).hexdigest()[:6], 16) / 0xFFFFFF
        swing = sin(2.0 * pi * (at / TRAINING_PERIOD + phase))
        watts = max((0.85 + 0.1 * swing) * spec.tdp, spec.context)
        return Draw(watts, busy=0.9 + 0.1 * swing, tensor=0.4, dram=0.5, memory=0.9)
    if behaviour is Behaviour.SPIN:
        return Draw(spec.context + SPIN_SHARE * reach, busy=1.0)
    return Draw(spec.context, memory=2.0 * GIB / spec.memory)
