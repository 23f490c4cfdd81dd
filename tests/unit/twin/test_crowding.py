"""A cache that fills up: nobody works without room, and nothing is computed again while there is some."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.twin.simulation.crowding import OLDEST, Crowd, Room, ageing_of
from fallow.twin.simulation.demand import Array

LIMIT = 458_000.0


def one(value: float) -> Array:
    return np.array([value])


def crowd(*, prompt: float = 1000.0, age: float = 2000.0, replicas: float = 1.0, leaving: float = 1.1) -> Crowd:
    room = Room(one(replicas), one(replicas * LIMIT), one(prompt), one(1.8), one(leaving))
    return Crowd(room, one(prompt), one(age))


def test_with_room_all_work_and_as_many_come_in_as_fit() -> None:
    found = crowd().press(one(50.0), one(0.0), one(0.0), one(0.0), one(0.0))

    assert found.working[0] == 1.0
    assert found.again[0] == 0.0
    # 50 hold 150,000, and the first of a queue finds 900 free
    assert found.entering[0] == pytest.approx((LIMIT - 900 - 150_000) / 1000)


def test_in_a_full_cache_with_a_queue_each_token_pushes_one_out() -> None:
    found = crowd().press(one(LIMIT / 3000), one(0.0), one(1.0), one(3000.0), one(100.0))

    assert found.again[0] * 1000.0 == pytest.approx(3000.0)


def test_nothing_is_computed_again_while_nobody_waits_and_all_have_room() -> None:
    found = crowd().press(one(LIMIT / 3000), one(0.0), one(1.0), one(3000.0), one(0.0))

    assert found.again[0] == 0.0


@given(
    decoding=st.floats(1.0, 2000.0),
    prompt=st.floats(1.0, 30_000.0),
    age=st.floats(0.0, 20_000.0),
    replicas=st.integers(1, 16),
    waiting=st.floats(0.0, 1e5),
)
def test_who_works_fits_into_the_cache(
    decoding: float, prompt: float, age: float, replicas: int, waiting: float
) -> None:
    one_crowd = crowd(prompt=prompt, age=age, replicas=float(replicas))
    found = one_crowd.press(one(decoding), one(0.0), one(decoding / 100), one(decoding * 30), one(waiting))

    assert 0.0 < found.working[0] <= 1.0
    assert found.entering[0] >= 0.0
    # the youngest of a share x that stand aside hold x times the mean age
    aside = decoding * (1.0 - float(found.working[0]))
    held = decoding * (prompt + age) - aside * (prompt + age * aside / decoding)
    assert held <= replicas * LIMIT * (1 + 1e-6) or found.working[0] == pytest.approx(0.01)


def test_answers_in_work_come_to_be_as_long_as_they_are_found() -> None:
    cv, output, batch = 0.9, 400.0, 100.0
    followed = crowd(age=0.0, leaving=2 / (1 + cv**2))
    for _ in range(2000):
        followed.follow(one(batch), one(0.01), one(batch * 0.01), one(output))

    assert followed.ages[0] == pytest.approx(output * (1 + cv**2) / 2, rel=1e-3)


@given(
    mixing=st.floats(0.0, 1.0),
    gone=st.floats(0.0, 1.0),
    cv=st.floats(0.0, 4.0),
    age=st.floats(0.0, 1.0),
    seconds=st.integers(1, 50),
)
def test_whoever_comes_and_goes_nobody_grows_old_without_end(
    mixing: float, gone: float, cv: float, age: float, seconds: int
) -> None:
    leaving = 2 / (1 + cv**2)
    ages = one(age * 500 / leaving)
    for _ in range(seconds):
        share, becoming = ageing_of(one(mixing), one(gone), one(500.0), one(leaving))
        ages += share * (becoming - ages)

    assert 0.0 <= ages[0] <= OLDEST * 500 / leaving * (1 + 1e-9)
