"""What a joule carries: intensity over time by zone, and what a facility adds; for outcomes and for controllers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fallow.twin.simulation.demand import Array

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class GridSeries:
    """`grams` of CO2e per kWh, each from its time (seconds since the start, ascending) until the next; the first one
    holds before its time, the last one after it. Water in litres per kWh; price by kWh, None where it is not known, and
    `gpu_hours` of a GPU while it is held, by product.

    `host`: W of the server beside each held GPU (docs/methodology.md, host energy).
    """

    times: Array
    grams: Array
    pue: float = 1.2
    water_on_site: float = 0.0
    water_at_source: float = 0.0
    price: float | None = None
    currency: str = ""
    host: float = 150.0
    gpu_hours: Mapping[str, float] = field(default_factory=dict)

    def at(self, time: float) -> float:
        index = int(np.searchsorted(self.times, time, side="right")) - 1
        return float(self.grams[max(index, 0)])


def constant(grams: float, *, pue: float = 1.2) -> GridSeries:
    return GridSeries(np.zeros(1), np.array([grams]), pue=pue)


Grid = Mapping[str, GridSeries]
