"""Forecasts of the mean rate some cycles ahead, each from what had come by then: `of(series)(lead)[i]` is made at the
end of cycle i for cycle i + lead.

What comes before a whole season has passed is of no meaning, and nothing is judged by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from scipy.ndimage import uniform_filter1d

from bench.forecast.sizing import latest
from bench.forecast.traffic import CYCLE, Series
from fallow.twin.simulation.demand import Array

Ahead = Callable[[int], Array]
Predictor = Callable[[Series], Ahead]

MINUTE = 60 // CYCLE
# Cycles over which the rates around a time a season ago are averaged: half an hour.
CURVE = 30 * MINUTE
# Of its mean, what the rate a season ago counts for at least where it is divided by.
FLOOR = 0.05
# Cycles over which the level may be taken; time constants of Holt's level and trend.
LEVELS = (MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE)
HOLT_LEVELS, HOLT_TRENDS = (MINUTE, 5 * MINUTE, 15 * MINUTE), (10 * MINUTE, 30 * MINUTE, 120 * MINUTE)
# Cycles ahead by which parameters are chosen: two minutes.
FITTED_FOR = 2 * MINUTE


def trailing(rates: Array, count: int) -> Array:
    """Mean of so many cycles up to each, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(rates)])
    ends = np.arange(1, len(rates) + 1)
    starts = np.maximum(ends - count, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def past(values: Array, cycles: int) -> Array:
    """At each cycle the value so many cycles before (after, where negative); the outermost one beyond the ends."""
    at = np.clip(np.arange(len(values)) - cycles, 0, len(values) - 1)
    return np.asarray(values[at])


def steady(level: Array) -> Ahead:
    return lambda _: level


def last(series: Series) -> Ahead:
    return steady(series.rates)


def mean(series: Series, *, cycles: int) -> Ahead:
    return steady(trailing(series.rates, cycles))


def highest(series: Series, *, cycles: int) -> Ahead:
    """Of the cycles up to each."""
    return steady(latest(series.rates, cycles, most=True))


def known(series: Series) -> Ahead:
    """What rates will scatter around: no forecast that does not foresee bursts is better."""
    return lambda lead: past(series.expected, -lead)


def holt(series: Series) -> Ahead:
    """Level and trend by exponential smoothing (C. C. Holt, 1957), with the time constants that err least in the part
    to fit by.
    """
    some = slice(series.learned, series.margins)
    part = series.rates[some]
    pairs = [(level, trend) for level in HOLT_LEVELS for trend in HOLT_TRENDS]
    best = min(pairs, key=lambda pair: squared(smoothed(part, *pair), part))
    level, trend = smoothed(series.rates, *best)
    return lambda lead: np.maximum(level + lead * trend, 0.0)


def smoothed(rates: Array, level_cycles: float, trend_cycles: float) -> tuple[Array, Array]:
    """Level, and its change in a cycle."""
    alpha, beta = 1.0 - np.exp(-1.0 / level_cycles), 1.0 - np.exp(-1.0 / trend_cycles)
    levels, trends = np.empty(len(rates)), np.empty(len(rates))
    level, trend = float(rates[0]), 0.0
    for at, rate in enumerate(rates.tolist()):
        before = level
        level += trend + alpha * (rate - level - trend)
        trend += beta * (level - before - trend)
        levels[at], trends[at] = level, trend
    return levels, trends


def squared(found: tuple[Array, Array], rates: Array) -> float:
    """Mean squared error of level and trend, two minutes ahead."""
    level, trend = found
    errors = rates[FITTED_FOR:] - (level + FITTED_FOR * trend)[:-FITTED_FOR]
    return float(np.mean(errors**2))


def curve(series: Series) -> Array:
    """The rates around each cycle, half an hour together; a season later all of them are known."""
    return np.asarray(uniform_filter1d(series.rates, CURVE, mode="nearest"))


def seasonal(series: Series, *, season: int) -> Ahead:
    """What came around the same time a season before: of `series.seasons`, that one."""
    usual = curve(series)
    return lambda lead: past(usual, series.seasons[season] - lead)


def scaled(series: Series, *, season: int) -> Ahead:
    """The recent level times what a season ago was ahead over what was recent then; the level is taken over the time
    that errs least in the part to fit by.
    """
    some = slice(series.learned, series.margins - FITTED_FOR)
    ahead = series.rates[series.learned + FITTED_FOR : series.margins]
    best = min(
        LEVELS, key=lambda cycles: float(np.mean((ahead - ratio(series, season, cycles)(FITTED_FOR)[some]) ** 2))
    )
    return ratio(series, season, best)


def ratio(series: Series, season: int, cycles: int) -> Ahead:
    usual, long = curve(series), series.seasons[season]
    least = FLOOR * float(usual[: series.learned].mean())
    recent = trailing(series.rates, cycles)
    then = np.maximum(past(trailing(usual, cycles), long), least)
    return lambda lead: recent * np.maximum(past(usual, long - lead), least) / then


def raised(series: Series, *, season: int) -> Ahead:
    """The mean of the last minute, or more where it rose a season before: what is ahead takes nothing away."""
    minute, by_season = trailing(series.rates, MINUTE), scaled(series, season=season)
    return lambda lead: np.maximum(minute, by_season(lead))


def predictors(series: Series) -> Mapping[str, Predictor]:
    """By name, those whose seasons are in the series."""
    found: dict[str, Predictor] = {
        "last cycle": last,
        "mean of the last minute": partial(mean, cycles=MINUTE),
        "mean of the last 5 min": partial(mean, cycles=5 * MINUTE),
        "highest of the last 2 min": partial(highest, cycles=2 * MINUTE),
        "level and trend (Holt)": holt,
    }
    for place, name in enumerate(("day", "week")[: len(series.seasons)]):
        found[f"a {name} before"] = partial(seasonal, season=place)
        found[f"level, by the {name} before"] = partial(scaled, season=place)
        found[f"last minute, raised by the {name} before"] = partial(raised, season=place)
    return found
