"""How requests come: their lengths, their bursts and the crests that they meet, whatever a cycle's length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.arrivals import FEWEST, Arrivals
from fallow.domain.snapshots import DemandPoint, Flow
from fallow.planner.arrivals import GAP, MEMORY, anew, crest, noted
from tests.support.builders import CYCLE, point

DAY = 86_400


def flowing(rate: float | None, prompt: float = 500, output: float = 100, **more: Any) -> DemandPoint:
    """So many requests per second that come, begin and are answered; None: not known."""
    flow = None if rate is None else Flow(rate, rate, rate, rate * prompt, rate * output)
    return point(flow=flow, **more)


def came(counts: Iterable[float | None], *, every: float = CYCLE, prompt: float = 500, output: float = 100) -> Arrivals:
    """One cycle for each count of requests."""
    found = Arrivals()
    for count in counts:
        rate = None if count is None else count / every
        found = noted(found, flowing(rate, prompt, output), every)
    return found


def dispersion(found: Arrivals, seconds: float) -> float:
    return found.dispersions((seconds,))[0]


def bursts(mean: float, over_mean: float, cycles: int, *, seconds: int = 15, seed: int = 1) -> list[float]:
    """Counts of cycles whose seconds are gamma-Poisson, each on its own, with this variance over their mean."""
    random = np.random.default_rng(seed)
    size = cycles * seconds
    if over_mean == 1:
        each = random.poisson(mean, size)
    else:
        each = random.negative_binomial(mean / (over_mean - 1), 1 / over_mean, size)
    return [float(total) for total in each.reshape(cycles, seconds).sum(axis=1)]


def test_what_tells_how_long_steps_take_is_forgotten_when_others_serve_and_lengths_are_not() -> None:
    before = anew(came([30, 60, 10]))
    assert (before.computed, before.made, before.working, before.replicas) == (0, 0, 0, 0)
    assert before.tokens == pytest.approx((500, 100))
    now = noted(before, flowing(2, ready=3), CYCLE)
    assert (now.computed, now.made, now.replicas) == pytest.approx((15_000, 3_000, 45))


def test_tokens_are_those_of_a_request() -> None:
    assert came([30, 60, 10]).tokens == pytest.approx((500, 100))


def test_a_backlog_makes_no_request_longer() -> None:
    """Of 300 that had waited prompts are computed and answers begun, while few come."""
    found = noted(Arrivals(), point(flow=Flow(1.0, 21.0, 10.5, 21.0 * 500, 10.5 * 100)), CYCLE)

    assert found.tokens == pytest.approx((500, 100))
    assert found.requests == CYCLE


@pytest.mark.parametrize("counts", [[], [None, None], [0, 0, 0]], ids=["nothing seen", "not known", "none came"])
def test_without_requests_there_are_no_tokens(counts: list[float | None]) -> None:
    found = came(counts)

    assert found.tokens is None
    assert dispersion(found, 1.0) == 1.0


@pytest.mark.parametrize("over_mean", [1, 4, 13])
def test_bursts_within_a_second_are_told_from_cycles_of_any_length(over_mean: int) -> None:
    for seconds in (5, 15, 60):
        found = came(bursts(20, over_mean, DAY // seconds, seconds=seconds), every=seconds)
        assert dispersion(found, 1.0) == pytest.approx(over_mean, rel=0.5)


def test_a_daily_swing_is_no_burst() -> None:
    hours = np.arange(0, DAY, 15) / 3600
    random = np.random.default_rng(2)
    counts = random.poisson(300 * (1 + 0.8 * np.sin(2 * np.pi * hours / 24)))

    assert dispersion(came([float(count) for count in counts]), 15) < 1.4


def test_minutes_that_differ_are_more_uneven_the_longer_one_looks() -> None:
    random = np.random.default_rng(3)
    counts = random.poisson(np.repeat(random.gamma(20, 15, DAY // 60), 4))
    found = came([float(count) for count in counts])

    assert 1.0 <= dispersion(found, 1.0) < dispersion(found, 15.0) < dispersion(found, 60.0)


def test_what_was_long_ago_is_forgotten() -> None:
    before = came([300.0] * 100)
    after = before
    for _ in range(int(5 * MEMORY / CYCLE)):
        after = noted(after, flowing(1.0, 2000, 50), CYCLE)

    assert after.requests / after.seconds == pytest.approx(1.0, rel=0.2)
    assert after.tokens == pytest.approx((2000, 50), rel=0.2)


def test_of_a_few_cycles_nothing_is_said_about_bursts() -> None:
    assert dispersion(came([0.0, 300.0] * (FEWEST // 2 - 1)), 1.0) == 1.0
    assert dispersion(came([0.0, 300.0] * FEWEST), 1.0) > 10


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        (flowing(None), CYCLE),
        (flowing(0.0, ready=0), CYCLE),
        (flowing(900.0), GAP + 1),
        (flowing(900.0), 0),
    ],
    ids=["not known", "no replica", "nobody looked", "no time passed"],
)
def test_a_cycle_that_tells_nothing_is_left_out_and_parts_its_neighbours(seen: DemandPoint, seconds: float) -> None:
    steady = came([300.0] * 40)
    parted = noted(steady, seen, seconds)
    after = parted
    for rate in (90.0, 20.0, 20.0):
        after = noted(after, flowing(rate), CYCLE)

    assert (parted.seconds, parted.requests) == (steady.seconds, steady.requests)
    assert dispersion(after, CYCLE) == 1.0


def test_a_load_that_rises_for_good_is_no_burst_and_one_that_falls_back_is() -> None:
    quiet, busy = [2.0] * 100, [600.0] * 40

    assert dispersion(came([*quiet, *busy]), 1.0) == 1.0
    assert dispersion(came([*quiet, 300.0, *busy]), 1.0) == 1.0
    assert dispersion(came([*quiet, *busy[:1], *quiet]), 1.0) > 100


@given(
    st.floats(0.01, 1000), st.floats(1, 100), st.floats(1, 60), st.floats(1e-4, 0.1), st.floats(1, 3), st.floats(1, 3)
)
def test_crests_are_above_the_mean_and_grow_with_rate_bursts_and_care(
    rate: float, dispersion: float, seconds: float, missed: float, more: float, care: float
) -> None:
    height = crest(rate, dispersion, seconds, missed)

    assert height >= rate
    assert crest(rate * more, dispersion, seconds, missed) >= height - 1e-9
    assert crest(rate, dispersion * more, seconds, missed) >= height - 1e-9
    assert crest(rate, dispersion, seconds, missed / care) >= height - 1e-9


@pytest.mark.parametrize("rate", [5e-324, 1e-17, 1e-9])
def test_a_rate_that_is_all_but_nothing_has_crests_of_all_but_nothing(rate: float) -> None:
    assert crest(rate, 1.0, 1.0, 0.0006) == pytest.approx(rate)


@pytest.mark.parametrize("missed", [0.01, 0.001])
@pytest.mark.parametrize("rate", [2, 10, 60])
@pytest.mark.parametrize("over_mean", [1.5, 4, 13])
def test_as_many_requests_as_said_meet_a_higher_crest(rate: float, over_mean: float, missed: float) -> None:
    """Of gamma-Poisson seconds, requests counted, not seconds."""
    counts = np.random.default_rng(4).negative_binomial(rate / (over_mean - 1), 1 / over_mean, 500_000)
    above = counts[counts > crest(rate, over_mean, 1.0, missed)].sum() / counts.sum()

    assert missed / 3 <= above <= 3 * missed


def test_nothing_comes_and_nothing_is_met() -> None:
    assert crest(0.0, 5.0, 1.0, 0.01) == 0.0
