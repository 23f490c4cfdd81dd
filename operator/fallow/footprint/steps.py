"""Energy follows the engine's steps: E = a * prompt tokens computed + b * generated tokens + c * iterations + d * time.

The loaded idle draw d is measured in windows without work and put in, so a, b and c are what work adds to it. Each
window forgets what is known along its own direction only, so constant load does not erase what other loads taught.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from scipy.special import stdtrit

from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import Learned, LoadBin, Phases, Placement, StepModel, StepMoments
from fallow.domain.reasons import Reason
from fallow.domain.units import Joules, Watts
from fallow.footprint.bins import bin_of, binned
from fallow.footprint.hardware import hardware_of
from fallow.footprint.measured import Window

Vector = NDArray[np.float64]

PHASES = ("prefill", "decode", "steps")
# windows that a direction remembers: 200 minutes of one replica, an hour of four
MEMORY = 200.0
# the relative error of a window that is assumed before any was judged, and how many windows that is worth
FIRST_SPREAD, FIRST_JUDGED = 0.05, 4.0
# standard deviations of a, b and c about zero before anything is known, J: far above any replica's, so that they bind
# nothing; of d relative to the constant of the GPU
WIDE = (10.0, 100.0, 1000.0)
IDLE_DOUBT = 0.15
# of a table's idle draw: 14 loaded GPUs in service draw up to 28 % more than on the bench (docs/methodology.md)
IDLE_LOW, IDLE_HIGH = 0.90, 1.40
LEAST_WINDOWS = 20.0
# mean power of a GPU between which a window is believed
LEAST_WATTS, MOST_WATTS = 5.0, 3000.0
LEAST_IDLE_WINDOWS = 3.0
# of the mean draw of windows without work; it moves with the GPU's temperature
IDLE_SCATTER = 0.02
# a coefficient is known when the energy that it explains is known to this share of the whole
KNOWN_SHARE = 0.20
CONFIDENCE = 0.95
# the drift test (CUSUM): errors beyond `SLACK` standard deviations are summed up to `ALARM`; a standard deviation is
# taken to be 5 % at least, and a bin has something usual after so many windows
SLACK, ALARM, CLIP, NO_DRIFT, LEAST_IN_BIN = 0.75, 12.0, 4.0, 0.05, 5.0
# added to a correlation matrix so that rounding leaves it positive
JITTER = 1e-10
# what a fit that drifted is still worth
KEPT_AFTER_DRIFT = 0.02


@dataclass(frozen=True, slots=True)
class Work:
    """What engines did: prompt tokens computed, tokens generated, iterations; and the replica-seconds held."""

    prompt_tokens: float
    generated_tokens: float
    iterations: float
    seconds: float

    @property
    def amounts(self) -> tuple[float, ...]:
        return (self.prompt_tokens, self.generated_tokens, self.iterations, self.seconds)


def learned_from(before: Learned | None, window: Window) -> Learned:
    """J1: one window more."""
    known = before if before is not None and before.gpus == window.gpus else Learned(window.gpus, window.end)
    if not _is_plausible(window):
        return known
    known = replace(known, at=max(known.at, window.end))
    if not window.works:
        return _idled(known, window)
    if window.iterations is None:
        return replace(known, bins=binned(known.bins, window))
    return _stepped(known, window)


def _is_plausible(window: Window) -> bool:
    """No GPU draws less than the least at rest, or more than twice the most that any is designed for."""
    if window.seconds <= 0:
        return False
    return LEAST_WATTS <= window.energy.value / (window.seconds * window.gpus) <= MOST_WATTS


def idle_draw(learned: Learned | None, product: str, gpus: int) -> Figure[Watts]:
    """The loaded idle draw of a replica: as measured here (the counter's 5 %), else by the constants of its GPUs."""
    if learned is not None and learned.idle_windows >= LEAST_IDLE_WINDOWS:
        seen = learned.idle_watts
        return Figure(Watts(0.95 * seen), Watts(seen), Watts(1.05 * seen))
    constant = hardware_of(product).context.value * gpus
    return Figure(Watts(IDLE_LOW * constant), Watts(constant), Watts(IDLE_HIGH * constant))


def is_relearning(learned: Learned) -> bool:
    """Whether its energy drifted away, and what was measured since does not carry a model yet."""
    steps = learned.steps
    return steps is not None and steps.refits > 0 and steps.windows < LEAST_WINDOWS


def _idle_doubt(learned: Learned, idle: Figure[Watts]) -> float:
    """Its standard deviation beside work measured by the same counter, whose own error is in both alike."""
    if learned.idle_windows >= LEAST_IDLE_WINDOWS:
        return IDLE_SCATTER * idle.best.value
    return (idle.high.value - idle.low.value) / 4


def step_model(learned: Learned | None, placement: Placement) -> StepModel | Missing:
    """The model of a placement; Missing says what is not known of it, and then only J/token is offered."""
    found = _coefficients(learned, placement)
    if isinstance(found, Missing) or learned is None or learned.steps is None:
        return found if isinstance(found, Missing) else Missing(Reason.NO_HISTORY)
    vague = [name for name, one in found.items() if one is None]
    if vague:
        words = "the load has varied too little to tell apart: " + ", ".join(vague)
        return Missing(Reason.NOT_IDENTIFIABLE, words)
    prefill, decode, step = (one for one in found.values() if one is not None)
    return StepModel(
        prefill=prefill,
        decode=decode,
        step=step,
        idle=idle_draw(learned, placement.product, learned.gpus),
        spread=float(np.sqrt(learned.steps.spread)),
        windows=learned.steps.windows,
        refits=learned.steps.refits,
    )


def step_cost(learned: Learned | None, placement: Placement) -> Figure[Joules] | Missing:
    """J per iteration alone, which may be known where prompt and generated tokens cannot be told apart."""
    found = _coefficients(learned, placement)
    if isinstance(found, Missing):
        return found
    return found["steps"] or Missing(Reason.NOT_IDENTIFIABLE, "the load has varied too little to tell steps apart")


def _coefficients(learned: Learned | None, placement: Placement) -> Mapping[str, Figure[Joules] | None] | Missing:
    """By phase, with their intervals; None where the energy that one explains is not known to `KNOWN_SHARE`."""
    if learned is None or (learned.steps is None and not learned.bins):
        return Missing(Reason.NO_HISTORY, f"no measured window of {placement.variant} on {placement.product} yet")
    if learned.steps is None:
        return Missing(Reason.NO_SERIES, "the engine does not count its iterations")
    moments = learned.steps
    if moments.windows < LEAST_WINDOWS:
        words = f"{moments.windows:.0f} of {LEAST_WINDOWS:.0f} windows with work measured"
        return Missing(Reason.NO_HISTORY, words + (" since the last drift" if moments.refits else ""))
    idle = idle_draw(learned, placement.product, learned.gpus)
    best, reach = _fitted(moments, idle.best.value, _idle_doubt(learned, idle))
    energy = sum(one.energy for one in learned.bins.values())
    seen = (
        sum(one.prompt_tokens for one in learned.bins.values()),
        sum(one.generated_tokens for one in learned.bins.values()),
        sum(one.iterations for one in learned.bins.values()),
    )
    return {
        name: Figure(Joules(max(value - half, 0.0)), Joules(value), Joules(value + half))
        if half * amount <= KNOWN_SHARE * energy
        else None
        for name, value, half, amount in zip(PHASES, best, reach, seen, strict=True)
    }


def work_energy(model: StepModel, work: Work) -> Figure[Joules]:
    """J2: what the work and the time take; the parts' bounds added up, and at least twice the spread of the whole."""
    parts = (model.prefill, model.decode, model.step, model.idle)
    low, best, high = (
        sum(value * amount for value, amount in zip(bound, work.amounts, strict=True))
        for bound in zip(*((part.low.value, part.best.value, part.high.value) for part in parts), strict=True)
    )
    reach = 2.0 * model.spread * best
    return Figure(Joules(max(min(low, best - reach), 0.0)), Joules(best), Joules(max(high, best + reach)))


def request_energy(model: StepModel, prompt: float, generated: float, running: float) -> Figure[Joules]:
    """J4: what one request adds above loaded idle, while `running` requests share each of its steps."""
    return work_energy(model, Work(prompt, generated, generated / max(running, 1.0), 0.0))


def phases(model: StepModel, energy: Figure[Joules], done: Work) -> Phases:
    """J3: an account's energy by phase. Work that would explain more than there was is scaled down to it."""
    whole = energy.best.value
    parts = [
        (model.prefill, done.prompt_tokens),
        (model.decode, done.generated_tokens),
        (model.step, done.iterations),
    ]
    explained = sum(coefficient.best.value * amount for coefficient, amount in parts)
    fit = min(1.0, whole / explained) if explained > 0 else 1.0
    prefill, decode, steps = (coefficient * (amount * fit) for coefficient, amount in parts)
    work = prefill + decode + steps
    rest = max(whole - work.best.value, 0.0)
    low, high = max(energy.low.value - work.high.value, 0.0), max(energy.high.value - work.low.value, rest)
    return Phases(prefill, decode, steps, standing=Figure(Joules(min(low, rest)), Joules(rest), Joules(high)))


def _idled(known: Learned, window: Window) -> Learned:
    """The mean draw of windows without work, the newest counting at least one in `MEMORY`."""
    number = min(known.idle_windows + 1.0, MEMORY)
    watts = window.energy.value / window.seconds
    return replace(known, idle_watts=known.idle_watts + (watts - known.idle_watts) / number, idle_windows=number)


def _stepped(known: Learned, window: Window) -> Learned:
    work = np.array([window.prompt_tokens, window.generated_tokens, window.iterations or 0.0, window.seconds])
    idle = idle_draw(known, window.placement.product, window.gpus)
    old, bins, weight = known.steps or _blank(idle.best.value, window), known.bins, 1.0
    coefficients = np.array([*_fitted(old, idle.best.value, 0.0)[0], idle.best.value])
    expected = float(work @ coefficients)
    row, energy = work / expected, window.energy.value / expected
    leverage = float(row @ _solved(_square(old.information), row))
    if leverage > 1.0:
        # nothing is expected yet that deserves the name, so the window is weighed by itself
        row, energy = work / window.energy.value, 1.0
    else:
        usual = _usual(bins, window, coefficients)
        old, weight = _judged(old, energy - 1.0, None if usual is None else energy / usual - 1.0, leverage)
        if max(old.above, old.below) > ALARM:
            old, bins = _restarted(old, window), {}
    # Cao and Schwartz (2000): only what is known along the row is discounted
    matrix, solution = _square(old.information), np.array(old.solution)
    along = matrix @ row
    matrix = matrix - np.outer(along, along) / (MEMORY * float(row @ along)) + weight * np.outer(row, row)
    solution = solution + weight * _solved(matrix, row) * (energy - float(row @ solution))
    steps = replace(
        old,
        information=tuple(float(value) for value in matrix[np.triu_indices(4)]),
        solution=tuple(float(value) for value in solution),
        windows=min(old.windows + 1.0, MEMORY),
    )
    return replace(known, steps=steps, bins=binned(bins, window))


def _blank(idle_watts: float, window: Window) -> StepMoments:
    """Nothing known, but that a replica draws something while it stands."""
    doubt = np.array([*WIDE, IDLE_DOUBT * idle_watts]) * window.gpus
    matrix = np.diag((FIRST_SPREAD / doubt) ** 2)
    return StepMoments(
        information=tuple(float(value) for value in matrix[np.triu_indices(4)]),
        solution=(0.0, 0.0, 0.0, idle_watts),
        windows=0.0,
        spread=FIRST_SPREAD**2,
        judged=FIRST_JUDGED,
        since=window.start,
    )


def _usual(bins: Mapping[int, LoadBin], window: Window, coefficients: Vector) -> float | None:
    """What windows of this concurrency use of what the model foresees: it is linear, and no engine is quite so."""
    index = bin_of(window)
    one = None if index is None else bins.get(index)
    if one is None or one.windows < LEAST_IN_BIN:
        return None
    work = np.array([one.prompt_tokens, one.generated_tokens, one.iterations, one.seconds])
    return one.energy / float(work @ coefficients)


def _judged(old: StepMoments, error: float, news: float | None, leverage: float) -> tuple[StepMoments, float]:
    """The error of a window that was predicted: into the spread, the drift test and the window's own weight.

    `news` is the error beside what is usual at this concurrency; None where that is not known yet.
    """
    deviation = float(np.sqrt(old.spread * (1.0 + leverage)))
    drift = 0.0 if news is None else float(np.clip(news / max(deviation, NO_DRIFT), -CLIP, CLIP))
    number = min(old.judged + 1.0, MEMORY)
    # a wild window moves neither the spread nor the fit more than one of `CLIP` standard deviations
    surprise = abs(error) / deviation
    judged = replace(
        old,
        spread=old.spread + (min(surprise, CLIP) ** 2 - 1.0) * old.spread / number,
        judged=number,
        above=old.above if news is None else max(old.above + drift - SLACK, 0.0),
        below=old.below if news is None else max(old.below - drift - SLACK, 0.0),
    )
    return judged, min(1.0, CLIP / surprise) if surprise > 0 else 1.0


def _restarted(old: StepMoments, window: Window) -> StepMoments:
    """After a drift: what was learned is kept as a weak guess, and the fit begins anew."""
    return replace(
        old,
        information=tuple(value * KEPT_AFTER_DRIFT for value in old.information),
        windows=0.0,
        judged=FIRST_JUDGED,
        above=0.0,
        below=0.0,
        refits=old.refits + 1,
        since=window.start,
    )


@lru_cache(maxsize=4096)
def _fitted(moments: StepMoments, idle: float, doubt: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """a, b, c and the halves of their 95 % intervals, with the idle draw and its standard deviation put in.

    Non-negative least squares on the Cholesky factor of X'X; the interval is that of the fit without the constraint,
    as wide as it takes to hold the constrained value.
    """
    matrix, solution = _square(moments.information), np.array(moments.solution)
    inner, across = matrix[:3, :3], matrix[:3, 3]
    scale = np.sqrt(np.diag(inner))
    factor = cholesky(inner / np.outer(scale, scale) + JITTER * np.eye(3), lower=True)
    right = (inner @ solution[:3] + across * (solution[3] - idle)) / scale
    free = solve_triangular(factor, right, lower=True)
    best, _ = nnls(factor.T, free)
    inverse = np.linalg.inv(factor)
    variance = moments.spread * np.sum(inverse**2, axis=0)
    shift = inverse.T @ (inverse @ (across / scale)) * doubt
    student = float(stdtrit(max(moments.judged, 1.0), 0.5 + CONFIDENCE / 2))
    half = student * np.sqrt(variance + shift**2)
    plain = inverse.T @ free
    half = np.maximum(half + np.abs(best - plain), 0.0)
    return tuple(float(value) for value in best / scale), tuple(float(value) for value in half / scale)


def _solved(matrix: Vector, right: Vector) -> Vector:
    """The solution with columns of one size; what is not determined at all stays near zero."""
    scale = np.sqrt(np.diag(matrix))
    factor = cholesky(matrix / np.outer(scale, scale) + JITTER * np.eye(len(scale)), lower=True)
    inner = solve_triangular(factor, right / scale, lower=True)
    answer: Vector = solve_triangular(factor.T, inner, lower=False) / scale
    return answer


def _square(triangle: tuple[float, ...]) -> Vector:
    matrix = np.zeros((4, 4))
    matrix[np.triu_indices(4)] = triangle
    return matrix + np.triu(matrix, 1).T
