"""GPUs used in turns: how their time is shared out by the second, and what is drawn without work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.twin.simulation.turns import Engine, Shared, Turns, turns_of

shares = st.floats(0.0, 1.0)
# engines of up to four columns on one GPU
holders = st.lists(st.integers(0, 3), min_size=1, max_size=9)


def turns(*gpus: list[int]) -> Turns:
    found = turns_of([[Engine(column, 50.0) for column in columns] for columns in gpus])
    assert found is not None
    return found


@given(holders, st.lists(shares, min_size=4, max_size=4))
def test_what_the_engines_have_of_a_gpu_is_the_time_in_which_any_has_work(
    columns: list[int], busy: list[float]
) -> None:
    one = turns(columns)
    known = np.array(busy)[one.columns]
    engines = one.held[0]
    used = float((engines * known * one.paces(known)).sum())
    assert used == pytest.approx(1.0 - float(np.prod((1.0 - known) ** engines)), abs=1e-9)


@given(holders, st.lists(shares, min_size=4, max_size=4), shares)
def test_who_has_more_to_do_makes_nobody_quicker(columns: list[int], busy: list[float], more: float) -> None:
    one = turns(columns)
    known = np.array(busy)[one.columns]
    busier = known.copy()
    busier[0] = max(busier[0], more)
    assert (one.paces(busier) <= one.paces(known) + 1e-12).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_of_those_who_always_have_work_each_has_as_much(count: int) -> None:
    one = turns(list(range(count)))
    assert one.paces(np.ones(count)) == pytest.approx(1.0 / count)
    assert one.paces(np.zeros(count)) == pytest.approx(1.0)


def test_replicas_with_and_without_others_on_their_gpu_are_taken_in_the_mean() -> None:
    one = turns([0, 1], [0], [0])
    assert one.paces(np.array([0.7, 1.0])) == pytest.approx([(0.5 + 1.0 + 1.0) / 3, 1.0 - 0.7 / 2])


def test_nobody_shares_where_no_engine_is() -> None:
    assert turns_of([[], []]) is None


def luck(busy: float, life: float) -> tuple[float, float]:
    """Of an engine beside another, in times as long as alone."""
    one = Shared.begun(turns([0, 1]), 1, 2)
    one.busy[:] = busy
    one.pace[:] = one.turns.paces(one.busy[0])
    short, long = one.luck(np.full((1, 2), life), np.ones((1, 2)))
    return float(short[0, 0] / one.pace[0, 0]), float(long[0, 0] / one.pace[0, 0])


@given(shares, st.floats(1e-3, 1e3))
def test_no_answer_is_quicker_than_alone_nor_two_together_slower_than_in_company(busy: float, life: float) -> None:
    short, long = luck(busy, life)
    assert 1.0 - 1e-9 <= short <= long
    assert (short + long) / 2 <= 1.0 + busy + 1e-9


def test_a_short_answer_finds_company_or_none_and_a_long_one_the_mean() -> None:
    assert luck(0.5, 1e-6) == pytest.approx((1.0, 2.0), rel=1e-3)
    assert luck(0.5, 1e6) == pytest.approx((1 / 0.75, 1 / 0.75), rel=1e-2)
    assert luck(0.0, 1.0) == pytest.approx((1.0, 1.0))
