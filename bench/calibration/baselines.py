"""What the engine model has to beat: interpolation between batches, and a regression on size, GPUs and batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, log

import numpy as np

from bench.calibration.folds import Miss
from bench.calibration.rows import Row
from fallow.twin.calibration.physics import Array
from fallow.twin.calibration.tasks import Precision, Task


def interpolation_error(row: Row, rows: Sequence[Row], value: Callable[[Row], float]) -> float | None:
    """Relative error of log-log interpolation between the neighbours in batch; None at the ends of a curve."""
    others = [other for other in rows if other.curve == row.curve and other.limit != row.limit]
    below = max((other for other in others if other.limit < row.limit), key=lambda one: one.limit, default=None)
    above = min((other for other in others if other.limit > row.limit), key=lambda one: one.limit, default=None)
    if below is None or above is None or not below.batch < above.batch:
        return None
    share = log(row.batch / below.batch) / log(above.batch / below.batch)
    return abs(exp((1 - share) * log(value(below)) + share * log(value(above))) / value(row) - 1)


def in_regression(row: Row) -> bool:
    return row.precision is Precision.BF16 and row.task.is_text


def regression_errors(rows: Sequence[Row], by: Callable[[Row], str]) -> dict[int, float]:
    """Relative error of J/token by id of the row, its model left out, on the text rows in BF16.

    ln J = k . (1, ln active, ln total, ln GPUs, ln B, ln2 B, reasoning), for each GPU type.
    """
    found: dict[int, float] = {}
    for gpu in {row.gpu.name for row in rows}:
        here = [row for row in rows if row.gpu.name == gpu and in_regression(row)]
        for name in {by(row) for row in here}:
            kept, out = [row for row in here if by(row) != name], [row for row in here if by(row) == name]
            joules = np.log([row.joules_per_token for row in kept])
            solution = np.linalg.lstsq(_columns(kept), joules, rcond=None)[0]
            for row, value in zip(out, _columns(out) @ solution, strict=True):
                found[id(row)] = abs(exp(value) / row.joules_per_token - 1)
    return found


def _columns(rows: Sequence[Row]) -> Array:
    return np.array(
        [
            [
                1.0,
                log(row.active),
                log(row.parameters),
                log(row.gpus),
                log(row.batch),
                log(row.batch) ** 2,
                float(row.task is Task.REASONING),
            ]
            for row in rows
        ]
    )


def relative(miss: Miss, output: str = "joules") -> float:
    """|predicted / measured - 1|."""
    return abs(exp(-getattr(miss, output)) - 1)
