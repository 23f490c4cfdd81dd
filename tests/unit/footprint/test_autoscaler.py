"""The reference autoscaler against what Kubernetes documents of its own."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.counterfactual import BaselineKind, BaselineRule, Counterfactual, Terms
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.footprint.autoscaler import asked_for, followed

UNREAD = Missing(Reason.NO_SERIES)


def follower(running: int, *, minimum: int = 0, maximum: int = 100, kind: BaselineKind = BaselineKind.AUTOSCALER,
             replicas: int | None = None) -> Counterfactual:  # fmt: skip
    terms = Terms(BaselineRule(kind, replicas), "bf16", minimum, maximum, target=10.0)
    return Counterfactual(terms, 1, Instant(0), running)


def course(one: Counterfactual, loads: Sequence[float | Missing], every: float = 15.0) -> list[int]:
    found = []
    for index, load in enumerate(loads):
        one = followed(one, load, Instant(every * (index + 1)))
        found.append(one.running)
    return found


@pytest.mark.parametrize(
    ("running", "load", "asked"),
    [(2, 20, 2), (2, 21.9, 2), (2, 22.1, 3), (2, 18.1, 2), (2, 17.9, 2), (3, 20, 2), (1, 55, 6), (4, 0, 0), (0, 5, 1)],
    ids=str,
)
def test_replicas_follow_the_ratio_outside_a_tenth_of_tolerance(running: int, load: float, asked: int) -> None:
    assert asked_for(running, load, 10.0) == asked


def test_up_at_once_but_no_faster_than_four_pods_or_twofold_in_15_s() -> None:
    assert course(follower(1), [1000.0] * 5) == [5, 10, 20, 40, 80]


def test_down_only_when_five_minutes_asked_for_less() -> None:
    loads = [50.0] * 2 + [10.0] * 25
    counts = course(follower(5), loads)
    assert counts[:21] == [5] * 21
    assert counts[-1] == 1


def test_a_peak_within_five_minutes_holds_replicas() -> None:
    loads = [50.0] + [10.0] * 15 + [30.0] + [10.0] * 18
    counts = course(follower(5), loads)
    assert counts[-2:] == [3, 3]


def test_never_below_one_and_within_the_limits() -> None:
    assert course(follower(3), [0.0] * 25)[-1] == 1
    assert course(follower(3, minimum=2), [0.0] * 25)[-1] == 2
    assert course(follower(3, maximum=4), [1000.0] * 3)[-1] == 4


def test_a_metric_that_cannot_be_read_changes_nothing() -> None:
    assert course(follower(3), [UNREAD] * 40) == [3] * 40


def test_a_fixed_baseline_does_not_follow_demand() -> None:
    assert course(follower(1, kind=BaselineKind.STATIC, replicas=6), [0.0, 500.0, UNREAD]) == [6, 6, 6]


@given(st.lists(st.floats(0, 2000), min_size=1, max_size=60), st.integers(0, 5), st.integers(1, 40))
def test_whatever_the_load_it_stays_between_its_limits(loads: list[float], low: int, high: int) -> None:
    counts = course(follower(3, minimum=low, maximum=high), list(loads))
    assert all(max(low, 1) <= count <= max(high, low, 1) for count in counts)
