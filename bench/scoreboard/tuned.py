"""Autoscalers with the one number that their users set chosen with hindsight: what keeping the objectives costs them.

Each is run at every filling on the same requests; of those that kept the objectives the one of least energy is told.
Nobody who sets up an autoscaler knows that one: it is as good as theirs can be on this week.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from bench.scoreboard.table import rows_of
from bench.scoreboard.work import ATTAINMENT, Rows, assembled, bounds_by_service
from fallow.app.simulation.assembling import Assembled
from fallow.domain.workloads import ServiceKey
from fallow.twin.baselines.hpa import Hpa
from fallow.twin.baselines.static import Static
from fallow.twin.baselines.strong import Strong
from fallow.twin.simulation.demand import Array, Demand, Load, Spread
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.run import run
from fallow.twin.simulation.sight import Controller, Known
from fallow.twin.simulation.sizing import known_of

# Shares of what one measured replica carries within the objectives.
FILLINGS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

TUNED: Mapping[str, Callable[[Known, Array], Controller]] = {
    "static, best size": Static,
    "hpa, best target": Hpa,
    "strong, best headroom": lambda known, filled: Strong(known, 1.0 / filled - 1.0),
}


class Repeated:
    """The same requests to so many services each."""

    def __init__(self, demand: Demand, times: int) -> None:
        self._demand, self._times = demand, times
        self.seconds = demand.seconds
        self.services = tuple(
            ServiceKey(key.namespace, f"{key.name}-{number}") for number in range(times) for key in demand.services
        )
        spread = demand.spread
        self.spread = Spread(*(np.tile(one, times) for one in (spread.prompt_cv, spread.output_cv, spread.cached)))

    def block(self, start: int, stop: int) -> Load:
        load = self._demand.block(start, stop)
        return Load(start, *(np.tile(one, (self._times, 1)) for one in (load.arrivals, load.prompt, load.output)))


def tuned_rows(demand: Demand, rows: Rows) -> list[dict[str, Any]]:
    """A row for each of TUNED, trace and seed, with its `filled` share."""
    times = len(FILLINGS)
    one = assembled(Repeated(demand, times))
    bounds, every = bounds_by_service(one), Rows(rows.traces * times, rows.seeds * times)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
        runs = [pool.submit(_run, one, name) for name in TUNED]
        found = [rows_of(each.result(), every, bounds) for each in runs]
    return [row for each in found for row in best(each, len(rows.traces))]


def _run(one: Assembled, name: str) -> Any:
    known = known_of(one.setup, one.demand, one.seen)
    filled = np.repeat(FILLINGS, len(one.demand.services) // len(FILLINGS))
    return run(one.setup, one.demand, one.grid, TUNED[name](known, filled), Run(name, 0, one.began))


def best(rows: Sequence[dict[str, Any]], width: int) -> list[dict[str, Any]]:
    """Of each service the row of least energy that kept the objectives; of none such the one that came nearest."""
    found = []
    for service in range(width):
        mine = [row | {"filled": share} for row, share in zip(rows[service::width], FILLINGS, strict=True)]
        kept = [row for row in mine if row["attainment"] >= ATTAINMENT]
        if kept:
            found.append(min(kept, key=lambda row: row["energy_joules"]))
        else:
            found.append(max(mine, key=lambda row: row["attainment"]))
    return found
