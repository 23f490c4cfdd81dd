"""How far measurements fell from predictions that had not seen them: p10 and p90, in ln, conformal style.

A prediction belongs to a class of what was known for it; what is asked beyond the measured range widens it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fallow.twin.calibration.curves import Configuration
from fallow.twin.calibration.tasks import Precision


class Basis(StrEnum):
    """What a prediction stands on."""

    MEASURED = "measured"
    SIMILAR = "similar"
    SPECIFICATION = "specification"


class Known(StrEnum):
    """How the model was described."""

    SHAPE = "shape"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Spread:
    """ln of the low and of the high over the best; low <= 0 <= high."""

    low: float
    high: float

    def times(self, factor: float) -> Spread:
        return Spread(self.low * factor, self.high * factor)

    def plus(self, width: float) -> Spread:
        return Spread(self.low - width, self.high + width)


@dataclass(frozen=True, slots=True)
class Spreads:
    """One for each output."""

    joules: Spread
    watts: Spread
    itl: Spread
    rate: Spread

    def times(self, factor: float) -> Spreads:
        return Spreads(*(one.times(factor) for one in (self.joules, self.watts, self.itl, self.rate)))

    def plus(self, width: float) -> Spreads:
        return Spreads(*(one.plus(width) for one in (self.joules, self.watts, self.itl, self.rate)))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Spreads by class.

    `other_gpu` multiplies those of a GPU type without rows; `per_octave` is added for each doubling of the batch beyond
    what was measured.
    """

    classes: dict[str, Spreads]
    other_gpu: float
    per_octave: float

    def of(self, key: str, *, octaves: float, measured_gpu: bool, measured_precision: bool) -> Spreads:
        spreads = self.classes[key]
        if not measured_gpu:
            spreads = spreads.times(self.other_gpu)
        if not measured_precision:
            spreads = spreads.plus(UNMEASURED_PRECISION)
        return spreads.plus(self.per_octave * octaves)


# INT8 and INT4 kernels have no rows; a choice.
UNMEASURED_PRECISION = 0.15


def class_of(one: Configuration, *, own: bool, known: Known) -> str:
    """The class of a configuration with a curve of its own, or of one without."""
    work = "text" if one.task.is_text else "other"
    if own:
        return f"{one.gpu.name} {work}"
    if one.task.is_text and one.precision is Precision.BF16:
        return f"{known} text BF16"
    return f"{known} {work if not one.task.is_text else 'text quantised'}"
