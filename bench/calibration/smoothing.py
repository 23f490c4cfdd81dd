"""Smooths the departures of measured rows from the physics into curves: a Gaussian process with a heavy-tailed noise.

One row's departure is shared in parts with configurations like it, with its base model, its task and its own curve.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2
from statistics import median

import numpy as np

from bench.calibration.rows import Row
from fallow.twin.calibration.curves import FIRST_KNOT, LAST_KNOT, Configuration, Curve, likeness
from fallow.twin.calibration.models import PRESETS
from fallow.twin.calibration.physics import Array

# Degrees of freedom of the noise: an outlier pulls little.
TAIL = 3.0
REWEIGHTED = 5


@dataclass(frozen=True, slots=True)
class Parts:
    """Standard deviation in ln and reach in log2 of the batch of each part that rows share; same for both GPU types."""

    like: tuple[float, float]
    base: tuple[float, float]
    curve: tuple[float, float]
    task: tuple[float, float]
    same_batch: float = 0.007
    noise: float = 0.01
    noise_beside_text: float = 0.016


# Chosen by the errors at batches left out, which hardly move with them; J/token and step share theirs, ITL is rougher.
SMOOTH = Parts(like=(0.17, 8.0), base=(0.12, 6.0), curve=(0.13, 6.0), task=(0.07, 3.0))
ROUGH = Parts(like=(0.2, 7.0), base=(0.05, 2.0), curve=(0.15, 4.0), task=(0.1, 3.0), same_batch=0.015)
PARTS = (SMOOTH, SMOOTH, ROUGH)


def curves_of(rows: Sequence[Row], departures: Array) -> list[Curve]:
    """One curve per configuration; `departures` has (J/token, step, ITL) for each row, against known shapes."""
    found = []
    grouped: dict[Hashable, list[int]] = {}
    for index, row in enumerate(rows):
        grouped.setdefault(row.curve, []).append(index)
    places: list[tuple[Row, Array]] = []
    for members in grouped.values():
        batches = [rows[index].batch for index in members]
        # an average of 7.98 running sequences belongs to the knot of 8; one knot beyond each end says what others know
        first = max(FIRST_KNOT, floor(log2(min(batches)) + 0.1) - 1)
        last = min(LAST_KNOT, ceil(log2(max(batches)) - 0.1) + 1)
        places.append((rows[members[0]], np.arange(first, last + 1, dtype=np.float64)))
    knots = _posterior(rows, departures, places)
    for (row, at), values in zip(places, knots, strict=True):
        members = grouped[row.curve]
        found.append(
            Curve(
                preset=row.preset,
                like=configuration(row),
                output=median(rows[index].output for index in members),
                lowest=min(rows[index].batch for index in members),
                highest=max(rows[index].batch for index in members),
                first=int(at[0]),
                departures=values,
            )
        )
    return found


def configuration(row: Row) -> Configuration:
    return Configuration(row.gpu, PRESETS[row.preset], row.precision, row.gpus, row.task)


def _posterior(rows: Sequence[Row], departures: Array, places: Sequence[tuple[Row, Array]]) -> list[Array]:
    """Mean departures at the knots of each place, GPU type by GPU type: they share no part."""
    answer: list[Array] = [np.empty((len(at), departures.shape[1])) for _, at in places]
    for gpu in sorted({row.gpu.name for row in rows}):
        mine = [index for index, row in enumerate(rows) if row.gpu.name == gpu]
        there = [index for index, (row, _) in enumerate(places) if row.gpu.name == gpu]
        given = _Places([rows[index] for index in mine], np.log2([rows[index].batch for index in mine]))
        wanted = _Places(
            [places[index][0] for index in there for _ in places[index][1]],
            np.concatenate([places[index][1] for index in there]),
        )
        means = np.column_stack(
            [
                _mean(given, wanted, departures[mine, target], parts)
                for target, parts in enumerate(PARTS[: departures.shape[1]])
            ]
        )
        start = 0
        for index in there:
            count = len(places[index][1])
            answer[index] = means[start : start + count]
            start += count
    return answer


@dataclass(frozen=True, slots=True)
class _Places:
    rows: list[Row]
    at: Array


def _mean(given: _Places, wanted: _Places, values: Array, parts: Parts) -> Array:
    shared = _covariance(given, given, parts)
    beside = np.array([0.0 if row.task.is_text else 1.0 for row in given.rows])
    noise = parts.noise**2 + parts.noise_beside_text**2 * beside
    trust = np.ones(len(values))
    for _ in range(REWEIGHTED):
        inverse = np.linalg.inv(shared + np.diag(noise / trust))
        precision = np.diag(inverse)
        left_out = (inverse @ values) / precision
        trust = np.clip((TAIL + 1) / (TAIL + left_out**2 * precision), 0.05, 1.0)
    return _covariance(wanted, given, parts) @ np.linalg.solve(shared + np.diag(noise / trust), values)


def _covariance(ones: _Places, others: _Places, parts: Parts) -> Array:
    apart = ones.at[:, None] - others.at[None, :]

    def same(key: Callable[[Row], Hashable]) -> Array:
        left, right = [key(row) for row in ones.rows], [key(row) for row in others.rows]
        return np.array([[float(one == other) for other in right] for one in left])

    base = same(lambda row: (row.family, row.precision, row.gpus))
    alike = likeness([configuration(row) for row in ones.rows], [configuration(row) for row in others.rows])
    return (
        parts.like[0] ** 2 * alike * _smooth(apart, parts.like[1])
        + parts.base[0] ** 2 * base * _kinked(apart, parts.base[1])
        + parts.curve[0] ** 2 * same(lambda row: row.curve) * (1 + _kinked(apart, parts.curve[1])) / 2
        + parts.task[0] ** 2 * same(lambda row: (row.task, row.gpus == 1)) * _smooth(apart, parts.task[1])
        + parts.same_batch**2 * base * (np.abs(apart) < 0.05)
    )


def _smooth(apart: Array, reach: float) -> Array:
    return np.asarray(np.exp(-((apart / reach) ** 2) / 2), dtype=np.float64)


def _kinked(apart: Array, reach: float) -> Array:
    scaled = np.sqrt(3) * np.abs(apart) / reach
    return np.asarray((1 + scaled) * np.exp(-scaled), dtype=np.float64)
