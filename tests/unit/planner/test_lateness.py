"""How careful crests are, learned from late requests: the share that may be late is met, whatever the arrivals are."""

from dataclasses import replace
from math import inf, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.lateness import Lateness
from fallow.domain.readings import EngineReading, Histogram
from fallow.domain.snapshots import DemandPoint, Flow
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives
from fallow.planner.lateness import LEAST, MOST, SLOWLY, late, learned
from tests.support import builders

AIM = 0.004
CYCLE = 15.0
BOTH = Objectives(Seconds(1), Seconds(0.025))
BOUNDS = (0.025, 0.5, 1.0, 2.0, inf)


def engine(ttft: Histogram | None, itl: Histogram | None = None) -> EngineReading:
    return builders.engine(ttft=ttft, itl=itl)


def counted(*each: float) -> Histogram:
    total = 0.0
    return Histogram(BOUNDS, tuple(total := total + count for count in each))


NONE = counted(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("before", "now", "objectives", "expected"),
    [
        (engine(NONE), engine(counted(5, 5, 5, 3, 1)), BOTH, 4),
        (engine(counted(5, 5, 5, 3, 1)), engine(counted(6, 5, 9, 5, 1)), BOTH, 2),
        (engine(NONE), engine(counted(0, 0, 8, 0, 0)), Objectives(Seconds(0.75)), 4),
        (engine(NONE), engine(counted(0, 0, 0, 0, 2)), Objectives(Seconds(3)), 2),
        (engine(NONE), engine(counted(0.5, 0, 0, 0, 0)), Objectives(Seconds(0.0125)), 0.25),
        (engine(NONE, NONE), engine(counted(9, 0, 0, 1, 0), counted(7, 3, 0, 0, 0)), BOTH, 4),
        (engine(None), engine(counted(0, 0, 0, 0, 2)), BOTH, 2),
        (engine(None), engine(None), BOTH, None),
        (engine(NONE), engine(counted(0, 0, 0, 0, 2)), Objectives(), None),
        (engine(NONE), engine(counted(0, 0, 0, 0, 2)), Objectives(None, Seconds(0.025)), None),
    ],
    ids=[
        "above the bound",
        "since before",
        "straight within a bucket",
        "beyond the last bound",
        "within the first",
        "each objective that is missed",
        "a new engine",
        "no histogram",
        "no objective",
        "no histogram of the objective",
    ],
)
def test_late_requests_are_read_off_the_histograms(
    before: EngineReading, now: EngineReading, objectives: Objectives, expected: float | None
) -> None:
    assert late(before, now, objectives) == (None if expected is None else pytest.approx(expected))


def point(rate: float, missed: float | None) -> DemandPoint:
    """`rate` answers per second, of which a share `missed` is late."""
    late_ones = None if missed is None else rate * missed
    return builders.point(flow=Flow(rate, rate, rate, rate, rate), late=late_ones)


def after(cycles: int, rate: float, missed: float, began: Lateness | None = None) -> Lateness:
    found = began or Lateness()
    for _ in range(cycles):
        found = learned(found, point(rate, missed), AIM, CYCLE)
    return found


def test_with_nobody_late_care_falls_e_times_in_the_time_that_is_said() -> None:
    assert after(int(SLOWLY / CYCLE), 5, 0.0).lenience == pytest.approx(1.0)


def test_as_many_late_as_is_aimed_at_changes_nothing() -> None:
    assert after(1000, 5, AIM).lenience == pytest.approx(0.0, abs=1e-9)


def test_a_cycle_in_which_many_are_late_undoes_as_much_as_they_weigh() -> None:
    aimed = AIM * CYCLE / SLOWLY
    assert after(1, 5, 0.4).lenience == pytest.approx((aimed - 0.4 * CYCLE / SLOWLY) / AIM)


def test_a_quiet_night_says_little_about_the_day() -> None:
    day = after(1, 50, AIM)
    night = after(int(SLOWLY / CYCLE), 1, 0.0, day)
    assert 0 < night.lenience < 0.03


def test_the_highest_rate_is_forgotten_over_days() -> None:
    busy = after(1, 50, 0.0)
    assert after(4 * 5760, 1, AIM, busy).most == pytest.approx(50 / 7.39, rel=0.01)


def test_where_something_else_decides_care_is_no_less_than_when_crests_last_did() -> None:
    now = Lateness(-1.0, 5.0)
    for missed in [0.0, *[0.002] * 400, 0.2, *[0.0] * 400, 0.0]:
        now = learned(now, point(5, missed), AIM, CYCLE, decides=False)
        assert now.lenience <= -1.0
    assert now.lenience == pytest.approx(-1.0)
    assert learned(now, point(5, 0.0), AIM, CYCLE).lenience > -1.0


def test_where_something_else_decides_few_late_requests_are_to_nobodys_credit() -> None:
    before = Lateness(2.0, 5.0)
    assert learned(before, point(5, 0.0), AIM, CYCLE, decides=False).lenience == 2.0
    assert learned(before, point(5, 0.5), AIM, CYCLE, decides=False).lenience < 2.0


@pytest.mark.parametrize("missed", [0.0, 1.0])
def test_care_stays_within_its_bounds(missed: float) -> None:
    assert LEAST <= after(20_000, 5, missed).lenience <= MOST


@given(st.floats(0, 1e4), st.floats(0, 1) | st.none(), st.floats(-2, 7))
def test_nothing_is_learned_from_nothing(rate: float, missed: float | None, lenience: float) -> None:
    before = Lateness(lenience, 3.0)
    assert learned(before, replace(point(rate, missed), flow=None), AIM, CYCLE) == before
    assert learned(before, point(rate, None), AIM, CYCLE) == before
    assert learned(before, point(rate, missed), 0.0, CYCLE) == before


@settings(max_examples=20)
@given(st.lists(st.floats(0, 20), min_size=1, max_size=30), st.floats(1, 10))
def test_as_many_are_late_as_is_aimed_at_however_they_come(bursts: list[float], over: float) -> None:
    """A service that misses in proportion to the share: after some days the mean of what it missed is the aim."""
    state, missed, answered = Lateness(), 0.0, 0.0
    first = AIM / over / 8
    for number in range(8 * 480):
        burst = bursts[number % len(bursts)] + 0.1
        share = min(first * 2.718281828**state.lenience * burst / (sum(bursts) / len(bursts) + 0.1), 1.0)
        state = learned(state, point(10, share), AIM, 180.0)
        if number >= 480:
            missed, answered = missed + share, answered + 1
    assert missed / answered == pytest.approx(AIM, rel=0.05) or state.lenience in (LEAST, MOST)
    assert log(1 / 1000) == LEAST
