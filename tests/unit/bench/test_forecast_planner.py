"""The rates that stand in for those of the planner's crests: over five minutes, and those of a start ahead."""

from __future__ import annotations

import numpy as np

from bench.forecast.planner import AHEAD, looks
from bench.forecast.traffic import Straight
from bench.scoreboard.work import MONDAY
from fallow.domain.snapshots import DemandPoint, Flow
from fallow.domain.units import Instant
from tests.support.builders import point

# Rises by one request per second a minute.
RATE = Straight(np.arange(60.0), 60.0)
MINUTE, LONG, KNOWN = looks(RATE).values()


def points(*came: float) -> list[DemandPoint]:
    """Cycles from ten minutes after the beginning on."""
    return [
        point(Instant(MONDAY + 600.0 + 15.0 * number), flow=Flow(one, one, one, 0.0, 0.0))
        for number, one in enumerate(came)
    ]


def test_the_planner_s_own_rates_are_those_of_a_minute() -> None:
    assert MINUTE(points(*[0.0] * 20, 4.0), 30.0)[-1][1] == 1.0


def test_longer_rates_are_those_of_five_minutes() -> None:
    assert LONG(points(*[0.0] * 30, 4.0), 30.0)[-1][1] == 0.2


def test_known_rates_are_those_of_a_start_later_whatever_came() -> None:
    found = KNOWN(points(7.0, 0.0), 30.0)
    begins = MONDAY + 600.0 + AHEAD

    assert [at for at, _ in found] == [MONDAY + 600.0, MONDAY + 615.0]
    assert [rate for _, rate in found] == RATE.at(np.array([begins, begins + 15.0]) - MONDAY).tolist()


def test_of_requests_that_nobody_counted_nothing_is_known() -> None:
    assert KNOWN([point(MONDAY)], 30.0) == []
