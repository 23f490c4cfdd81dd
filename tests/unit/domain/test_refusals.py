"""What the API server refuses is tried again later and later, and never later than half an hour."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.refusals import Refusal
from fallow.domain.units import Instant

AT = Instant(1_772_323_200.0)


def in_a_row(times: int) -> Refusal:
    return reduce(lambda one, _: one.again(AT), range(times - 1), Refusal(AT))


def test_each_time_it_waits_twice_as_long_up_to_half_an_hour() -> None:
    assert [in_a_row(times).pause / 60 for times in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


@given(times=st.integers(1, 10_000), since=st.integers(-(10**6), 10**6))
def test_whenever_it_began_it_is_tried_within_half_an_hour(times: int, since: int) -> None:
    """Where the clock was put back it is tried at once."""
    refusal = Refusal(AT, times)
    assert refusal.stands(Instant(AT + since)) is (0 <= since < refusal.pause)
    assert 60 <= refusal.pause <= 1800
