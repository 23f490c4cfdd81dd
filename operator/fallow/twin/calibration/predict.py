"""Predicts steady-state decoding of any model on any GPU type of the table, with p10 to p90 bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import TypeVar

import numpy as np

from fallow.domain.figures import Figure
from fallow.domain.units import Joules, Quantity, Watts
from fallow.twin.calibration.bounds import Basis, Bounds, Known, Spread, class_of
from fallow.twin.calibration.curves import Configuration, Curve, borrowing
from fallow.twin.calibration.hardware import GpuType
from fallow.twin.calibration.models import ModelShape, usual_shape
from fallow.twin.calibration.physics import Array, Coefficients, Setting, cases_of, decode, room_of, usable_of
from fallow.twin.calibration.tasks import USUAL_OUTPUT, WEIGHT_BYTES, Precision, Task

# Batches measured, and those between which a prediction without own measurements is kept from falling back.
SMALLEST_MEASURED = 8.0
LARGEST_MEASURED = 4096.0
GRID = 2.0 ** np.arange(0.0, 17.25, 0.25)


class Milliseconds(Quantity):
    """Latency, ms."""

    __slots__ = ()


class TokensPerSecond(Quantity):
    """Output tokens per second of a replica."""

    __slots__ = ()


class DoesNotFit(ValueError):
    """The weights are larger than the GPUs' memory."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to predict.

    `preset` names the model where it is a known one; `known` says whether `model` is its true shape or what is usual
    for its size. `context`: tokens held per running sequence, `output`: of an answer; None: as measured for the task.
    """

    gpu: GpuType
    model: ModelShape
    precision: Precision
    gpus: int
    task: Task
    known: Known = Known.SHAPE
    preset: str | None = None
    output: float | None = None
    context: float | None = None

    @property
    def configuration(self) -> Configuration:
        return Configuration(self.gpu, self.model, self.precision, self.gpus, self.task)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Steady state at one mean number of running sequences.

    `joules_per_token`: energy of all GPUs of the replica per output token, with prefill. `watts_per_gpu`: mean power of
    each. `itl`: median time between two tokens of one answer. `tokens_per_second`: output tokens of the replica.
    """

    batch: float
    joules_per_token: Figure[Joules]
    watts_per_gpu: Figure[Watts]
    itl: Figure[Milliseconds]
    tokens_per_second: Figure[TokensPerSecond]
    basis: Basis


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything that was fitted: coefficients by GPU type, for models known by shape and by size; curves over both."""

    coefficients: dict[Known, dict[str, Coefficients]]
    curves: dict[Known, tuple[Curve, ...]]
    bounds: Bounds

    def coefficients_of(self, gpu: GpuType, known: Known) -> Coefficients:
        """Those of the measured type of its generation: B200 for Blackwell, H100 for all before it."""
        return self.coefficients[known]["B200" if gpu.generation == "Blackwell" else "H100"]

    def curve_of(self, query: Query) -> Curve | None:
        if query.preset is None:
            return None
        like = query.configuration
        return next(
            (
                curve
                for curve in self.curves[Known.SHAPE]
                if curve.preset == query.preset
                and curve.like.gpu.name == like.gpu.name
                and (curve.like.precision, curve.like.gpus, curve.like.task) == (like.precision, like.gpus, like.task)
            ),
            None,
        )


def against_usual(curves: Sequence[Curve], coefficients: dict[Known, dict[str, Coefficients]]) -> tuple[Curve, ...]:
    """The same measured curves as departures from the physics of models of which only the size is known."""
    found = []
    for curve in curves:
        like, batches = curve.like, 2.0**curve.knots
        true = physics(like, like.model, batches, curve.output, None, coefficients[Known.SHAPE][like.gpu.name])
        usual = usual_shape(like.model.parameters, like.model.active)
        seen = physics(like, usual, batches, curve.output, None, coefficients[Known.SIZE][like.gpu.name])
        found.append(
            Curve(
                curve.preset,
                like,
                curve.output,
                curve.lowest,
                curve.highest,
                curve.first,
                curve.departures + true - seen,
            )
        )
    return tuple(found)


def predicted(calibration: Calibration, query: Query, batches: Sequence[float]) -> list[Prediction]:
    """A prediction for each batch; raises DoesNotFit where the weights are larger than the GPUs' memory."""
    require_room(query)
    asked = np.array(batches, dtype=np.float64)
    own = calibration.curve_of(query)
    best = _best(calibration, query, own, asked)
    joules, rate = best.joules, asked / best.step
    # energy over time is power: where that leaves what the GPU can draw, the energy is believed and the time gives way
    watts = np.clip(joules * rate / query.gpus, query.gpu.idle, query.gpu.design)
    rate = watts * query.gpus / joules
    basis = _basis(query, own)
    answers = []
    for index, batch in enumerate(asked):
        spreads = calibration.bounds.of(
            class_of(query.configuration, own=own is not None, known=query.known),
            octaves=own.octaves_beyond(batch) if own else _octaves_beyond(batch),
            measured_gpu=query.gpu.name in calibration.coefficients[query.known],
            measured_precision=query.precision.measured,
        ).times(best.doubt)
        answers.append(
            Prediction(
                batch=float(batch),
                joules_per_token=_figure(Joules, joules[index], spreads.joules),
                watts_per_gpu=_figure(Watts, watts[index], spreads.watts, within=(query.gpu.idle, query.gpu.design)),
                itl=_figure(Milliseconds, 1e3 * best.itl[index], spreads.itl),
                tokens_per_second=_figure(TokensPerSecond, rate[index], spreads.rate),
                basis=basis,
            )
        )
    return answers


def require_room(query: Query) -> None:
    """Raises DoesNotFit with the number of GPUs that would do."""
    weights = query.model.parameters * WEIGHT_BYTES[query.precision]
    each = usable_of(query.gpu)
    if weights > each * query.gpus:
        enough = 1
        while weights > each * enough:
            enough *= 2
        raise DoesNotFit(
            f"{weights / 1e9:.0f} GB of weights do not fit on {query.gpus} x {query.gpu.name} of"
            f" {query.gpu.memory / 1e9:.0f} GB: write --tp {enough}, or a smaller --precision"
        )


def sequences_that_fit(query: Query) -> float:
    """How many sequences of the expected context the KV cache holds; more are preempted, or wait."""
    room = room_of(query.gpu, query.model, query.precision, query.gpus)
    context = query.context or (query.output or USUAL_OUTPUT[query.task]) / 2
    return room / (query.model.cache_bytes(context) * query.model.cache_copies(query.gpus))


def _octaves_beyond(batch: float) -> float:
    return max(0.0, log2(SMALLEST_MEASURED / batch), log2(batch / LARGEST_MEASURED))


def _basis(query: Query, own: Curve | None) -> Basis:
    if own is not None:
        return Basis.MEASURED
    return Basis.SIMILAR if query.gpu.name in {"H100", "B200"} else Basis.SPECIFICATION


@dataclass(frozen=True, slots=True)
class _Best:
    """J/token, seconds per step with prefill, seconds of ITL; `doubt` is what share of the spreads remains."""

    joules: Array
    step: Array
    itl: Array
    doubt: float


def _best(calibration: Calibration, query: Query, own: Curve | None, asked: Array) -> _Best:
    if own is not None:
        values = _levels(calibration, query, asked, own.output) + own.at(asked)
        return _best_of(values, 1.0)
    curves = calibration.curves[query.known]
    lent = borrowing(query.configuration, curves)

    def values_at(batches: Array, departures: Array) -> Array:
        levels = _levels(calibration, query, batches, USUAL_OUTPUT[query.task])
        return levels + np.tensordot(lent.weights, departures, 1)

    # A sum of curves may wave: more batch never costs more energy a token, nor less time a step, unless measured so.
    grid = values_at(GRID, _on_grid(curves)) * DOWNHILL
    before = np.searchsorted(GRID, asked, side="right") - 1
    at_asked = values_at(asked, _departures(curves, asked)) * DOWNHILL
    values = np.minimum(at_asked, np.minimum.accumulate(grid)[before.clip(0)]) * DOWNHILL
    return _best_of(values, float(np.sqrt(lent.unknown)))


def _departures(curves: Sequence[Curve], batches: Array) -> Array:
    """By curve, batch and quantity."""
    return np.array([curve.at(batches) for curve in curves])


@lru_cache(maxsize=4)
def _on_grid(curves: tuple[Curve, ...]) -> Array:
    return _departures(curves, GRID)


def _best_of(values: Array, doubt: float) -> _Best:
    joules, step, itl = np.exp(values.T)
    return _Best(joules, step, itl, doubt)


# J/token falls with the batch, step and ITL rise: turned so that all three fall.
DOWNHILL = np.array([1.0, -1.0, -1.0])


def _levels(calibration: Calibration, query: Query, batches: Array, output: float) -> Array:
    by = calibration.coefficients_of(query.gpu, query.known)
    return physics(query.configuration, query.model, batches, query.output or output, query.context, by)


def physics(
    like: Configuration, model: ModelShape, batches: Array, output: float, context: float | None, by: Coefficients
) -> Array:
    """J/token, step and ITL by the physics alone, in ln; a row for each batch."""
    settings = [
        Setting(like.gpu, model, like.precision, like.gpus, like.task, float(batch), output, context)
        for batch in batches
    ]
    found = decode(cases_of(settings), by)
    joules = found.step + found.watts + np.log(like.gpus / batches)
    return np.column_stack([joules, found.step, found.itl])


Q = TypeVar("Q", bound=Quantity)


def _figure(unit: type[Q], best: float, spread: Spread, *, within: tuple[float, float] = (0.0, np.inf)) -> Figure[Q]:
    low, high = best * np.exp(spread.low), best * np.exp(spread.high)
    low, high = min(best, max(low, within[0])), max(best, min(high, within[1]))
    return Figure(unit(float(low)), unit(float(best)), unit(float(high)))
