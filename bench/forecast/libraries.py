"""Two forecasters of libraries that Fallow does not depend on, compared where they are installed.

statsmodels: harmonics of the season by least squares, and an ARMA(1, 1) process around them. LightGBM: boosted trees
of recent rates, those of a season before and the time; what they correct is the mean of the last five minutes.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from bench.forecast.predictors import MINUTE, Ahead, Predictor, curve, past, trailing
from bench.forecast.traffic import CYCLE, Series
from fallow.twin.simulation.demand import Array

MODULES = ("statsmodels", "lightgbm")
# Shortest period of the harmonics, seconds.
SHORTEST = 7200
# Cycles that trees are fitted by: one of so many.
THINNED = 3
TREES, LEAVES = 150, 15
LEAST_RATE = 0.05


def installed() -> Mapping[str, Predictor]:
    """By name, those whose library is there."""
    named = {"harmonics and ARMA (statsmodels)": harmonics, "boosted trees (LightGBM)": trees}
    return {name: one for (name, one), module in zip(named.items(), MODULES, strict=True) if find_spec(module)}


def missing() -> list[str]:
    return [module for module in MODULES if not find_spec(module)]


def waves(count: int, season: int) -> Array:
    """Columns of one and of the season's harmonics, for so many cycles."""
    angles = 2.0 * np.pi * np.arange(count)[:, None] / season * np.arange(1, season * CYCLE // SHORTEST + 1)
    return np.hstack([np.ones((count, 1)), np.cos(angles), np.sin(angles)])


def harmonics(series: Series) -> Ahead:
    """Of square roots of rates, whose scatter is alike at every rate."""
    arima: Any = importlib.import_module("statsmodels.tsa.arima.model")
    roots = np.sqrt(series.rates)
    season = series.seasons[-1]
    period = waves(season, season)
    of = np.arange(series.margins) % season
    # normal equations by sums over each time of the season: the whole matrix is a gigabyte
    counts, sums = np.bincount(of, minlength=season), np.bincount(of, roots[: series.margins], season)
    weights = np.linalg.solve(period.T @ (counts[:, None] * period), period.T @ sums)
    usual = (period @ weights)[np.arange(len(roots)) % season]
    around = roots - usual
    some = slice(series.learned, series.margins)
    fitted = arima.ARIMA(around[some], order=(1, 0, 1), trend="n").fit()
    kept = float(fitted.arparams[0])
    # made at the end of a cycle for the next one
    following = np.append(fitted.apply(around).fittedvalues[1:], 0.0)
    return lambda lead: np.maximum(past(usual, -lead) + kept ** (lead - 1) * following, 0.0) ** 2


def trees(series: Series) -> Ahead:
    lightgbm: Any = importlib.import_module("lightgbm")
    level = np.maximum(trailing(series.rates, 5 * MINUTE), LEAST_RATE)
    usual = curve(series)
    options = {
        "objective": "l2", "num_leaves": LEAVES, "learning_rate": 0.05, "min_data_in_leaf": 200, "seed": 1,
        "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1,
    }  # fmt: skip

    def ahead(lead: int) -> Array:
        seen = features(series, level, usual, lead)
        rows = np.arange(series.learned, series.margins - lead, THINNED)
        # a ratio scatters less where the level is high
        data = lightgbm.Dataset(seen[rows], label=series.rates[rows + lead] / level[rows], weight=level[rows])
        model = lightgbm.train(options, data, num_boost_round=TREES)
        return np.asarray(np.maximum(model.predict(seen, num_threads=1) * level, 0.0))

    return ahead


def features(series: Series, level: Array, usual: Array, lead: int) -> Array:
    """What is known at the end of each cycle: rates by the level, how they went on a season before, the time."""
    times = np.arange(len(level), dtype=np.float64)
    columns = [trailing(series.rates, count) / level for count in (1, MINUTE, 15 * MINUTE, 60 * MINUTE)]
    for season in series.seasons:
        before = np.maximum(past(trailing(usual, 5 * MINUTE), season), LEAST_RATE)
        columns += [past(usual, season - lead) / before, past(usual, season - lead) / level, times % season]
    return np.column_stack([*columns, level])
