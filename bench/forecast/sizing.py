"""What errors of a forecast come to: how far off it is, and replicas that a simple rule runs by it.

The rule asks for enough replicas for an upper quantile of the cycle in which those asked for now will serve, at once,
and lets them go when fewer were enough for five minutes. That time is at least that of a start, so that what is ahead
takes nothing away that is needed until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from bench.forecast.traffic import CYCLE
from fallow.twin.simulation.demand import Array

DOWN = 300
# Requests per second that a forecast counts for at least where scatter is reckoned from it.
LEAST_RATE = 0.05
# Share of the requests that Fallow lets be late of the 1 % that an attainment of 0.99 allows (docs/methodology.md).
SHORT = 0.004
# Margins are looked for up to this, in roots of requests per second, by halving.
MOST_MARGIN, HALVINGS = 1000.0, 30


def lead_of(horizon: int) -> int:
    """Cycles from the one at whose end replicas are asked for to the first in which they serve."""
    return horizon // CYCLE + 1


def scores(actual: Array, forecast: Array) -> Array:
    """Errors in units that are alike at every rate: counts vary by a multiple of their mean."""
    return np.asarray((actual - forecast) / np.sqrt(np.maximum(forecast, LEAST_RATE)))


def upper(forecast: Array, margin: float) -> Array:
    """The forecast with a margin that is a quantile of scores: split conformal prediction (Vovk et al., Algorithmic
    Learning in a Random World, 2005).
    """
    return np.asarray(np.maximum(forecast + margin * np.sqrt(np.maximum(forecast, LEAST_RATE)), 0.0))


def absolute(actual: Array, forecast: Array) -> float:
    """Mean absolute error over the mean rate."""
    return float(np.abs(actual - forecast).mean() / actual.mean())


def pinball(actual: Array, quantile: Array, share: float) -> float:
    """Mean quantile loss over the mean rate (Koenker and Bassett, Econometrica 46, 1978)."""
    errors = actual - quantile
    return float(np.maximum(share * errors, (share - 1.0) * errors).mean() / actual.mean())


@dataclass(frozen=True, slots=True)
class Run:
    """`hours` of replicas asked for, loading ones included; shares (0..1) of the `time` that is short of ready ones and
    of the `requests` that come then.
    """

    hours: float
    time: float
    requests: float


def ran(rates: Array, needs: Array, lead: int, each: float) -> Run:
    """`needs`: requests per second to provide for in the cycle `lead` after each; a replica carries `each`. Those asked
    for at the beginning are taken as ready.
    """
    needed = np.maximum(np.ceil(needs / each - 1e-9), 1.0)
    # what is asked for at the end of a cycle counts from the next one on
    asked = latest(np.concatenate([needed[:1], needed[:-1]]), DOWN // CYCLE + 1, most=True)
    ready = latest(asked, lead, most=False)
    short = rates > ready * each + 1e-9
    return Run(
        hours=float(asked.sum()) * CYCLE / 3600.0,
        time=float(short.mean()),
        requests=float(rates[short].sum() / rates.sum()),
    )


def latest(values: Array, cycles: int, *, most: bool) -> Array:
    """The highest, or the lowest, of so many values up to each."""
    chosen = maximum_filter1d if most else minimum_filter1d
    # with this origin a window ends with the value itself
    return np.asarray(chosen(values, cycles, origin=(cycles - 1) // 2, mode="nearest"))


def fitting(rates: Array, forecast: Array, lead: int, each: float, short: float = SHORT) -> Run:
    """With the least margin at which no more than that share of the requests comes while replicas are short: known
    with hindsight only, but for all alike, so that hours can be compared.
    """
    low, high = -MOST_MARGIN, MOST_MARGIN
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        if ran(rates, upper(forecast, middle), lead, each).requests <= short:
            high = middle
        else:
            low = middle
    return ran(rates, upper(forecast, high), lead, each)


def quantiles(actual: Array, forecast: Array, shares: Sequence[float]) -> list[float]:
    """Margins of which such shares of the scores are no higher."""
    return [float(one) for one in np.quantile(scores(actual, forecast), shares)]
