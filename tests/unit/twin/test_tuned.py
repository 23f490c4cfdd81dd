"""Autoscalers at every setting: the same requests each, and of the settings that keep the objectives the least."""

from __future__ import annotations

import numpy as np

from bench.scoreboard.tuned import FILLINGS, Repeated, best
from bench.scoreboard.work import weeks


def test_every_repetition_has_the_same_requests() -> None:
    demand, _ = weeks((1,), 0.01)
    thrice = Repeated(demand, 3)
    once, load = demand.block(0, 600), thrice.block(0, 600)

    assert len(set(thrice.services)) == 3 * len(demand.services)
    assert all((part == once.arrivals).all() for part in np.split(load.arrivals, 3))
    assert all((part == once.output).all() for part in np.split(load.output, 3))


def row(energy: float, attainment: float) -> dict[str, float]:
    return {"energy_joules": energy, "attainment": attainment}


def test_of_those_that_keep_the_objectives_the_one_of_least_energy_is_told() -> None:
    """Two services beside each other; nothing keeps those of the second."""
    keeps = [row(100.0 - place, 0.995 if place < 5 else 0.95) for place in range(len(FILLINGS))]
    misses = [row(100.0 - place, 0.98 - place / 100) for place in range(len(FILLINGS))]
    rows = [one for pair in zip(keeps, misses, strict=True) for one in pair]
    first, second = best(rows, 2)

    assert (first["filled"], first["energy_joules"]) == (FILLINGS[4], 96.0)
    assert (second["filled"], second["attainment"]) == (FILLINGS[0], 0.98)
