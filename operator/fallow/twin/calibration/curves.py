"""What was measured beyond the physics: a curve for each configuration, and what others may borrow from it.

A curve is a departure from the physics in ln, at batches of 8, 16, 32 and so on. A configuration without a curve of its
own departs as those like it do: kriging over size, number of GPUs, GPU type, precision and task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2

import numpy as np

from fallow.twin.calibration.hardware import GpuType
from fallow.twin.calibration.models import ModelShape
from fallow.twin.calibration.physics import Array
from fallow.twin.calibration.tasks import Precision, Task

FIRST_KNOT = 3
LAST_KNOT = 12

# How alike two configurations are: ln of size and log2 of GPUs over which likeness fades, and what it is multiplied by
# where the other things differ. Variance that no other configuration shares, against the shared one. Chosen by leaving
# each model out; the errors hardly move with them.
SIZE_REACH = 0.6
GPUS_REACH = 2.0
OTHER_GPU = 0.6
OTHER_PRECISION = 0.7
OTHER_TEXT_TASK = 0.6
OTHER_TASK = 0.3
OWN_VARIANCE = 0.4


@dataclass(frozen=True, slots=True)
class Configuration:
    """What likeness looks at."""

    gpu: GpuType
    model: ModelShape
    precision: Precision
    gpus: int
    task: Task


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A measured configuration; `departures` has a row (J/token, step, ITL) for each knot from 2^first on.

    Each is only equal to itself, so that what is reckoned of many can be kept for them.
    """

    preset: str
    like: Configuration
    output: float
    lowest: float
    highest: float
    first: int
    departures: Array

    @property
    def knots(self) -> Array:
        """log2 of the batches."""
        return np.arange(self.first, self.first + len(self.departures), dtype=np.float64)

    def octaves_beyond(self, batch: float) -> float:
        """How far a batch lies outside what was measured, in doublings."""
        return max(0.0, log2(self.lowest / batch), log2(batch / self.highest))

    def at(self, batches: Array) -> Array:
        """Departures at batches, held flat beyond the knots; linear in log2 between them."""
        at, knots = np.log2(batches), self.knots
        return np.column_stack([np.interp(at, knots, column) for column in self.departures.T])


def likeness(ones: Sequence[Configuration], others: Sequence[Configuration]) -> Array:
    """From 0 to 1, a row for each of `ones`; a mixture of experts and a dense model are nothing like each other."""

    def apart(number: Callable[[Configuration], float]) -> Array:
        left, right = np.log([number(one) for one in ones]), np.log([number(other) for other in others])
        return np.asarray(left[:, None] - right[None, :], dtype=np.float64)

    def differ(name: Callable[[Configuration], str | bool]) -> Array:
        left, right = np.array([name(one) for one in ones]), np.array([name(other) for other in others])
        return np.asarray(left[:, None] != right[None, :], dtype=np.float64)

    size = apart(lambda one: one.model.parameters) ** 2 + apart(lambda one: one.model.active) ** 2
    gpus = (apart(lambda one: one.gpus) / np.log(2)) ** 2
    text = np.outer([one.task.is_text for one in ones], [other.task.is_text for other in others])
    return np.asarray(
        np.exp(-size / SIZE_REACH**2 / 2 - gpus / GPUS_REACH**2 / 2)
        * OTHER_GPU ** differ(lambda one: one.gpu.name)
        * OTHER_PRECISION ** differ(lambda one: one.precision)
        * np.where(text, OTHER_TEXT_TASK, OTHER_TASK) ** differ(lambda one: one.task)
        * (1 - differ(lambda one: one.model.mixture)),
        dtype=np.float64,
    )


@dataclass(frozen=True, slots=True)
class Borrowing:
    """How much a configuration takes from each curve, and the share of variance that remains unknown, 0 to 1."""

    weights: Array
    unknown: float


def borrowing(one: Configuration, curves: tuple[Curve, ...]) -> Borrowing:
    toward = likeness([one], [curve.like for curve in curves])[0]
    weights = np.linalg.solve(_among(curves), toward)
    return Borrowing(weights, float(1.0 - weights @ toward))


@lru_cache(maxsize=4)
def _among(curves: tuple[Curve, ...]) -> Array:
    """How much each has in common with each."""
    known = [curve.like for curve in curves]
    return np.asarray(likeness(known, known) + OWN_VARIANCE * np.eye(len(known)))
