"""Fits the coefficients of the physics: few, regularised towards guesses, robust, shared between GPU types.

B200 gets its own value of most coefficients as a departure from H100's, and each departure costs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import least_squares

from bench.calibration.rows import Measured
from fallow.twin.calibration.physics import Array, Coefficients, Decoding, decode

# Relative error that counts as one; beyond it the loss grows linearly (pseudo-Huber).
SCALE = 0.1
# Rows of images, video and code completion weigh less: what happens beside decoding is not modelled.
OTHER_TASKS = 0.25
# So does the median gap beside the step: a median of gaps is rougher than a mean.
GAPS = 0.5


@dataclass(frozen=True, slots=True)
class Guess:
    """First value, and how far (in ln) fit and B200's departure may go at the cost of one standard error."""

    value: float
    spread: float
    departure: float


GUESSES = {
    "weight_rate": Guess(0.75, 0.3, 0.2),
    "cache_rate": Guess(0.6, 0.4, 0.3),
    # Narrow: rows cannot tell it from sequence_seconds, and more than the peak is no rate.
    "compute_rate": Guess(0.75, 0.1, 0.1),
    # Narrow: rows cannot tell it from the prompts' lengths. 70B in FP8 on two H100 computed 5,000 tokens in 407 ms
    # (NVIDIA NIM's published benchmark), at 0.44 of the peak.
    "prefill_rate": Guess(0.45, 0.1, 0.1),
    "link_rate": Guess(0.15, 0.8, 0.5),
    "step_seconds": Guess(1e-3, 0.7, 0.5),
    "layer_seconds": Guess(4e-5, 0.7, 0.5),
    "mixture_layer_seconds": Guess(6e-5, 0.7, 0.5),
    "untuned_layer_seconds": Guess(5e-5, 0.7, 0.5),
    "fp8_layer_seconds": Guess(1e-4, 0.8, 0.5),
    "fp8_expert_seconds": Guess(2e-6, 0.7, 0.5),
    "parallel_layer_seconds": Guess(2e-5, 0.8, 0.5),
    "mixed_layer_seconds": Guess(4e-4, 0.7, 0.5),
    "sequence_seconds": Guess(4e-5, 0.7, 0.5),
    "host_seconds": Guess(2e-2, 1.0, 0.0),
    "imbalance": Guess(0.7, 0.6, 0.0),
    "distinct_tokens": Guess(0.85, 0.2, 0.0),
    "state_reads": Guess(1.0, 0.4, 0.3),
    "active_power": Guess(0.12, 0.7, 0.4),
    "weight_power": Guess(0.62, 0.4, 0.3),
    "cache_power": Guess(0.7, 0.4, 0.3),
    "compute_power": Guess(1.8, 0.5, 0.3),
    "launch_power": Guess(0.1, 0.8, 0.4),
    "mixture_power": Guess(0.1, 0.7, 0.4),
    "fp8_power": Guess(0.25, 0.7, 0.4),
    "link_power": Guess(0.1, 0.8, 0.4),
    "ceiling": Guess(4.0, 0.4, 0.2),
    "prompt_chat": Guess(120.0, 0.5, 0.0),
    "prompt_reasoning": Guess(250.0, 0.5, 0.0),
    "prompt_image": Guess(1400.0, 0.5, 0.0),
    "prompt_video": Guess(3000.0, 0.5, 0.0),
    "prompt_completion": Guess(1800.0, 0.5, 0.0),
}
assert set(GUESSES) == {field.name for field in fields(Coefficients)}
DEPARTING = [name for name, guess in GUESSES.items() if guess.departure]
SPREADS = np.array([guess.spread for guess in GUESSES.values()] + [GUESSES[name].departure for name in DEPARTING])


@dataclass(frozen=True, slots=True)
class Fit:
    """Logarithms of every coefficient over its guess, then of B200's departures."""

    point: Array

    def of(self, gpu: str) -> Coefficients:
        return _coefficients(self.point, 1.0 if gpu == "B200" else 0.0)

    def over(self, data: Measured) -> Decoding:
        return decode(data.cases, _coefficients(self.point, _departs(data)))


def fitted(data: Measured, start: Fit | None = None, rounds: int = 80) -> Fit:
    weights = _weights(data)
    departs = _departs(data)

    def cost(point: Array) -> Array:
        found = decode(data.cases, _coefficients(point, departs))
        step, watts, itl = found.step - data.step, found.watts - data.watts, found.itl - data.itl
        missed = np.concatenate([one * weights for one in (step, watts, step + watts, GAPS * itl)]) / SCALE
        gentle = np.sign(missed) * np.sqrt(2 * (np.sqrt(1 + missed**2) - 1)) / 2
        return np.concatenate([gentle, point / SPREADS])

    first = np.zeros(len(SPREADS)) if start is None else start.point
    return Fit(np.asarray(least_squares(cost, first, max_nfev=rounds).x, dtype=np.float64))


def _weights(data: Measured) -> Array:
    """A base model with many rows on a GPU weighs as their root, not as their number."""
    count = Counter((row.family, row.gpu.name) for row in data.rows)
    even = np.array([count[row.family, row.gpu.name] ** -0.5 for row in data.rows])
    text = np.array([1.0 if row.task.is_text else OTHER_TASKS for row in data.rows])
    return np.asarray(even / even.mean() * text, dtype=np.float64)


def _departs(data: Measured) -> Array:
    return np.array([float(row.gpu.name == "B200") for row in data.rows])


def _coefficients(point: Array, departs: Array | float) -> Coefficients:
    values = {name: np.log(guess.value) + point[index] for index, (name, guess) in enumerate(GUESSES.items())}
    for index, name in enumerate(DEPARTING, len(GUESSES)):
        values[name] = values[name] + departs * point[index]
    return Coefficients(**{name: np.exp(value) for name, value in values.items()})
