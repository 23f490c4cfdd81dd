"""What errors of forecasts come to: margins, losses, and the replicas that a simple rule runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.forecast import sizing
from bench.forecast.sizing import Run, absolute, fitting, lead_of, pinball, quantiles, ran, upper

RATES = np.random.default_rng(3).poisson(4.0 * 15, 2000) / 15


def test_a_margin_is_exceeded_by_the_share_that_it_is_for() -> None:
    rates, forecast = np.linspace(1.0, 7.0, 2001), np.full(2001, 4.0)
    margins = quantiles(rates, forecast, (0.5, 0.95, 0.99))

    above = [float((upper(forecast, margin) + 1e-9 < rates).mean()) for margin in margins]

    assert above == pytest.approx([0.5, 0.05, 0.01], abs=0.001)
    assert margins == sorted(margins)


def test_the_margin_grows_with_the_root_of_the_rate() -> None:
    assert upper(np.array([1.0, 4.0, 100.0]), 2.0).tolist() == [3.0, 8.0, 120.0]


def test_the_error_is_a_part_of_the_mean_rate() -> None:
    assert absolute(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == pytest.approx(0.5)


@pytest.mark.parametrize(("actual", "loss"), [(3.0, 0.95 * 1.0 / 3.0), (1.0, 0.05 * 1.0), (2.0, 0.0)])
def test_too_low_a_quantile_costs_its_share_and_too_high_a_one_the_rest(actual: float, loss: float) -> None:
    assert pinball(np.array([actual]), np.array([2.0]), 0.95) == pytest.approx(loss)


def test_the_loss_is_least_at_the_quantile() -> None:
    candidates = np.linspace(RATES.min(), RATES.max(), 200)
    losses = [pinball(RATES, np.full(len(RATES), one), 0.95) for one in candidates]

    assert candidates[int(np.argmin(losses))] == pytest.approx(np.quantile(RATES, 0.95), abs=0.05)


@pytest.mark.parametrize(("horizon", "lead"), [(30, 3), (60, 5), (300, 21)])
def test_replicas_serve_from_the_cycle_after_their_start(horizon: int, lead: int) -> None:
    assert lead_of(horizon) == lead


def test_what_is_asked_for_at_once_is_ready_after_its_start() -> None:
    """Two replicas are needed from cycle 50 on, seen at its end; a start of 30 s takes two cycles more."""
    rates = np.where(np.arange(200) >= 50, 2.0, 1.0)
    found = ran(rates, rates, lead_of(30), 1.0)

    assert found.time == pytest.approx(3 / 200)
    assert found.requests == pytest.approx(6.0 / rates.sum())
    assert found.hours == pytest.approx((51 + 149 * 2) * 15 / 3600)


def test_what_is_foreseen_is_there_in_time_and_loading_counts() -> None:
    rates = np.where(np.arange(200) >= 50, 2.0, 1.0)
    lead = lead_of(300)
    needs = np.append(rates[lead:], np.full(lead, 2.0))
    found = ran(rates, needs, lead, 1.0)

    assert (found.time, found.requests) == (0.0, 0.0)
    assert found.hours == pytest.approx((200 + 150 + lead - 1) * 15 / 3600)


@pytest.mark.parametrize("horizon", [30, 300])
def test_a_fall_that_is_foreseen_takes_nothing_away_before_it_comes(horizon: int) -> None:
    rates = np.where(np.arange(200) < 100, 3.0, 1.0)
    lead = lead_of(horizon)
    found = ran(rates, np.append(rates[lead:], np.ones(lead)), lead, 1.0)

    assert found.time == 0.0


def test_replicas_go_after_five_minutes() -> None:
    rates = np.where(np.arange(200) < 100, 3.0, 1.0)
    found = ran(rates, rates, lead_of(30), 1.0)

    assert found.hours == pytest.approx((200 + 2 * (100 + 300 // 15 + 1)) * 15 / 3600)


def test_no_service_is_without_a_replica() -> None:
    assert ran(np.zeros(240) + 0.001, np.zeros(240), 3, 1.0) == Run(1.0, 0.0, 0.0)


@given(st.lists(st.floats(-2.0, 6.0), min_size=2, max_size=2, unique=True), st.sampled_from((3, 9, 21)))
def test_a_larger_margin_runs_no_fewer_replicas_and_is_short_no_more(margins: list[float], lead: int) -> None:
    forecast = np.full(len(RATES), 4.0)
    small, large = (ran(RATES, upper(forecast, margin), lead, 0.7) for margin in sorted(margins))

    assert large.hours >= small.hours
    assert large.time <= small.time
    assert large.requests <= small.requests


def test_the_least_margin_that_fits_is_found() -> None:
    forecast = sizing.latest(RATES, 4, most=True)
    found = fitting(RATES, forecast, 3, 0.2, short=0.01)
    margin = next(
        one for one in np.linspace(-2.0, 2.0, 4001)
        if ran(RATES, upper(forecast, one), 3, 0.2).requests <= 0.01
    )  # fmt: skip

    assert 0.0 < found.requests <= 0.01
    assert found.hours == pytest.approx(ran(RATES, upper(forecast, margin), 3, 0.2).hours, rel=2e-3)
