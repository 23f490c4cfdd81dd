"""How many late requests are aimed at: more of what an objective allows the more it takes to have fewer."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.arrivals import Arrivals
from fallow.domain.habits import NO_HABITS, Habits
from fallow.domain.lateness import Lateness
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives
from fallow.planner.aim import LEAST, MOST, WEIGHT, aimed
from fallow.planner.arrivals import crest, share_missed
from tests.unit.planner.test_crests import like

OBJECTIVES = Objectives(Seconds(1), Seconds(0.01))
ALLOWED = 1.0 - OBJECTIVES.attainment


def test_little_late_is_aimed_at_where_requests_come_evenly_and_more_where_in_bursts() -> None:
    assert aimed(OBJECTIVES, Habits(like(1.0, rate=400.0))) == LEAST
    assert aimed(OBJECTIVES, Habits(like(13.0, rate=20.0))) == MOST


@pytest.mark.parametrize(
    ("objectives", "habits"),
    [
        (OBJECTIVES, NO_HABITS),
        (OBJECTIVES, Habits(replace(like(13.0), answered=5.0))),
        (replace(OBJECTIVES, attainment=1.0), Habits(like(13.0))),
    ],
    ids=["nothing came", "too little came", "nobody may be late"],
)
def test_least_is_aimed_at_while_nothing_is_known(objectives: Objectives, habits: Habits) -> None:
    assert aimed(objectives, habits) == LEAST


@given(st.floats(1, 200), st.floats(0.5, 500), st.floats(-7, 7), st.floats(0.5, 0.9999))
def test_what_is_aimed_at_is_within_what_the_objective_allows(
    dispersion: float, rate: float, lenience: float, attainment: float
) -> None:
    habits = Habits(like(dispersion, rate=rate), Lateness(lenience))
    assert LEAST <= aimed(replace(OBJECTIVES, attainment=attainment), habits) <= MOST < 1


@pytest.mark.parametrize("times", [0.5, 0.7, 1.4, 2.0])
def test_at_the_aim_replicas_and_what_late_requests_weigh_are_least_together(times: float) -> None:
    """Replicas of the aim are 1; those who are late are in proportion to the crests that go beyond."""
    arrivals = between()
    aim, missed = aimed(OBJECTIVES, Habits(arrivals)) * ALLOWED, share_missed(OBJECTIVES, Lateness())
    rate = arrivals.requests / arrivals.seconds

    def together(share: float) -> float:
        here, there = (crest(rate, DISPERSION, 1.0, missed * one) for one in (1.0, share))
        return there / here + WEIGHT * aim * share

    assert together(1.0) < together(times)


DISPERSION = 1.6


def between() -> Arrivals:
    """Requests of which neither the least nor the most is aimed at."""
    found = like(DISPERSION, rate=55.0)
    assert LEAST < aimed(OBJECTIVES, Habits(found)) < MOST
    return found
