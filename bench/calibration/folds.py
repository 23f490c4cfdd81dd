"""Fits without some rows and predicts them: the errors that a new batch size or a new model would meet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import log

import numpy as np

from bench.calibration.fit import Fit, fitted
from bench.calibration.rows import Row, measured
from bench.calibration.smoothing import curves_of
from fallow.twin.calibration.bounds import Bounds, Known, Spread, Spreads, class_of
from fallow.twin.calibration.curves import borrowing
from fallow.twin.calibration.hardware import GpuType
from fallow.twin.calibration.models import PRESETS, usual_shape
from fallow.twin.calibration.physics import Coefficients
from fallow.twin.calibration.predict import Calibration, Query, against_usual, predicted

GPUS = ("H100", "B200")
BATCH_FOLDS = 20
NO_SPREAD = Spreads(*[Spread(0.0, 0.0)] * 4)


@dataclass(frozen=True, slots=True)
class Fits:
    """The fit over known shapes and the one over sizes; first values for those without some rows."""

    shape: Fit
    size: Fit


@dataclass(frozen=True, slots=True)
class Miss:
    """One row predicted without it: ln of measured over predicted.

    `doubt` is the share that likeness leaves, `beyond` how many octaves of batch lay outside the curve.
    """

    row: Row
    kind: str
    own: bool
    doubt: float
    beyond: float
    joules: float
    watts: float
    itl: float
    rate: float


class Anything(dict[str, Spreads]):
    """Spreads of no width for every class, while none is known yet."""

    def __missing__(self, key: str) -> Spreads:
        return NO_SPREAD


def fits(rows: Sequence[Row], start: Fits | None = None) -> Fits:
    rounds = 80 if start is None else 25
    return Fits(
        fitted(measured(rows, known=True), None if start is None else start.shape, rounds),
        fitted(measured(rows, known=False), None if start is None else start.size, rounds),
    )


def calibration(rows: Sequence[Row], found: Fits, bounds: Bounds | None = None) -> Calibration:
    data = measured(rows, known=True)
    seen = found.shape.over(data)
    joules = seen.step + seen.watts + np.log(data.cases.gpus / data.cases.batch)
    departures = np.column_stack([data.joules - joules, data.step - seen.step, data.itl - seen.itl])
    coefficients: dict[Known, dict[str, Coefficients]] = {
        Known.SHAPE: {gpu: found.shape.of(gpu) for gpu in GPUS},
        Known.SIZE: {gpu: found.size.of(gpu) for gpu in GPUS},
    }
    curves = tuple(curves_of(rows, departures))
    return Calibration(
        coefficients,
        {Known.SHAPE: curves, Known.SIZE: against_usual(curves, coefficients)},
        bounds or Bounds(Anything(), 1.0, 0.0),
    )


def query_of(row: Row, known: Known, *, named: bool) -> Query:
    """As a user would ask: the length of answers is not known beforehand."""
    model = PRESETS[row.preset] if known is Known.SHAPE else usual_shape(row.parameters, row.active)
    return Query(row.gpu, model, row.precision, row.gpus, row.task, known, row.preset if named else None)


def misses(calibrated: Calibration, rows: Sequence[Row], known: Known, *, named: bool) -> list[Miss]:
    found = []
    for row in rows:
        query = query_of(row, known, named=named)
        own = calibrated.curve_of(query)
        doubt = 1.0 if own else borrowing(query.configuration, calibrated.curves[known]).unknown ** 0.5
        answer = predicted(calibrated, query, [row.batch])[0]
        found.append(
            Miss(
                row=row,
                kind=class_of(query.configuration, own=own is not None, known=known),
                own=own is not None,
                doubt=doubt,
                beyond=own.octaves_beyond(row.batch) if own else 0.0,
                joules=log(row.joules_per_token / answer.joules_per_token.best.value),
                watts=log(row.watts / answer.watts_per_gpu.best.value),
                itl=log(1e3 * row.itl / answer.itl.best.value),
                rate=log(row.tokens_per_second / answer.tokens_per_second.best.value),
            )
        )
    return found


def batch_folds(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows to leave out together: at most one batch size of a curve, wherever it lies."""
    curves: dict[Hashable, list[int]] = defaultdict(list)
    for row in rows:
        if row.limit not in curves[row.curve]:
            curves[row.curve].append(row.limit)
    place = {curve: shift for shift, curve in enumerate(curves)}
    folds: list[list[Row]] = [[] for _ in range(BATCH_FOLDS)]
    for row in rows:
        rank = sorted(curves[row.curve]).index(row.limit)
        folds[(rank + place[row.curve]) % BATCH_FOLDS].append(row)
    return folds


def is_inner(row: Row, rows: Sequence[Row]) -> bool:
    limits = [other.limit for other in rows if other.curve == row.curve]
    return min(limits) < row.limit < max(limits)


def _without_batches(rows: Sequence[Row], start: Fits, fold: Sequence[Row]) -> list[Miss]:
    out = set(map(id, fold))
    kept = [row for row in rows if id(row) not in out]
    calibrated = calibration(kept, Fits(fitted(measured(kept, known=True), start.shape, 25), start.size))
    return [miss for miss in misses(calibrated, fold, Known.SHAPE, named=True) if miss.own]


def held_out_batches(rows: Sequence[Row], start: Fits) -> list[Miss]:
    return _each(_without_batches, rows, start, [[rows.index(row) for row in fold] for fold in batch_folds(rows)])


def _without(rows: Sequence[Row], start: Fits, fold: Sequence[Row]) -> list[Miss]:
    out = set(map(id, fold))
    kept = [row for row in rows if id(row) not in out]
    calibrated = calibration(kept, fits(kept, start))
    return [miss for known in Known for miss in misses(calibrated, fold, known, named=False)]


def held_out_models(rows: Sequence[Row], start: Fits, by: Callable[[Row], str]) -> list[Miss]:
    """Each model left out as a whole, asked for by its shape and by its size only."""
    return _each(
        _without,
        rows,
        start,
        [[index for index, row in enumerate(rows) if by(row) == name] for name in sorted({by(row) for row in rows})],
    )


def _each(
    without: Callable[[Sequence[Row], Fits, Sequence[Row]], list[Miss]],
    rows: Sequence[Row],
    start: Fits,
    folds: Sequence[Sequence[int]],
) -> list[Miss]:
    with ProcessPoolExecutor() as pool:
        found = pool.map(partial(_fold, without, rows, start), folds)
        return [miss for part in found for miss in part]


def _fold(
    without: Callable[[Sequence[Row], Fits, Sequence[Row]], list[Miss]],
    rows: Sequence[Row],
    start: Fits,
    fold: Sequence[int],
) -> list[Miss]:
    return without(rows, start, [rows[index] for index in fold])


def as_other_gpu(rows: Sequence[Row], known: GpuType) -> list[Miss]:
    """Text rows of the other GPU type, predicted from those of `known` and from the data sheet."""
    kept = [row for row in rows if row.gpu.name == known.name]
    found = calibration(kept, fits(kept))
    blind = replace(
        found, coefficients={how: dict.fromkeys(GPUS, by[known.name]) for how, by in found.coefficients.items()}
    )
    others = [row for row in rows if row.gpu.name != known.name and row.task.is_text]
    return [miss for how in Known for miss in misses(blind, others, how, named=False)]
