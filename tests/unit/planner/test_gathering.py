"""What levers look at: the load of late, from a history of any length."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.units import Instant
from fallow.planner.context import Around
from fallow.planner.gathering import gathered
from tests.support.builders import CHAT, NOW, Scene, point
from tests.unit.planner.asking import estimated

SNAPSHOT = Scene().snapshot()
CONTEXT = gathered(SNAPSHOT, SNAPSHOT.cluster.services[CHAT], estimated(SNAPSHOT), Around())


@given(st.lists(st.integers(0, 900), max_size=60), st.sampled_from([0.0, 30.0, 60.0, 300.0]))
def test_late_points_are_those_of_the_last_seconds_their_first_included(ages: list[int], length: float) -> None:
    history = tuple(point(Instant(NOW - age)) for age in sorted(ages, reverse=True))

    assert replace(CONTEXT, history=history).lately(length) == tuple(one for one in history if NOW - one.at <= length)
