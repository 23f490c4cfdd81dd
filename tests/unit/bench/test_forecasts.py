"""Forecasts of the rate of requests: what each says where the answer is plain, and that none knows what comes later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.forecast.libraries import features, waves
from bench.forecast.predictors import MINUTE, Predictor, curve, known, past, predictors, trailing
from bench.forecast.traffic import SERVEGEN, Series, Straight, column, named, servegen
from fallow.twin.demand.weeks import WEEK
from fallow.twin.simulation.demand import Array

DAY_CYCLES, WEEK_CYCLES = 480, 1920
SEASONAL = ("a day before", "level, by the day before", "a week before", "level, by the week before")


def series(rates: Array) -> Series:
    """Four short weeks of four short days."""
    return Series(
        name="made up",
        seed=1,
        rates=rates,
        expected=rates,
        each=1.0,
        seasons=(DAY_CYCLES, WEEK_CYCLES),
        learned=WEEK_CYCLES,
        margins=2 * WEEK_CYCLES,
        judged=3 * WEEK_CYCLES,
    )


def flat(rate: float = 5.0) -> Series:
    return series(np.full(4 * WEEK_CYCLES, rate))


def uneven() -> Series:
    waved = 5.0 + 3.0 * np.sin(np.arange(4 * WEEK_CYCLES) * 2 * np.pi / WEEK_CYCLES)
    return series(np.random.default_rng(1).poisson(waved * 15) / 15)


ALL = predictors(flat())


@pytest.mark.parametrize("predictor", ALL.values(), ids=ALL)
def test_a_rate_that_never_changes_is_what_all_forecast(predictor: Predictor) -> None:
    ahead = predictor(flat())(9)

    assert ahead[WEEK_CYCLES:] == pytest.approx(5.0)


@pytest.mark.parametrize("lead", [3, 21])
@pytest.mark.parametrize("predictor", ALL.values(), ids=ALL)
def test_no_predictor_knows_what_comes_later(predictor: Predictor, lead: int) -> None:
    one, now = uneven(), 3 * WEEK_CYCLES + 100
    later = one.rates.copy()
    later[now + 1 :] *= 7.0

    before, after = (predictor(some)(lead)[: now + 1] for some in (one, replace(one, rates=later)))

    assert after == pytest.approx(before)


def test_the_bound_is_the_expected_rate_of_the_cycle_ahead() -> None:
    one = series(np.arange(4 * WEEK_CYCLES, dtype=np.float64))

    assert known(one)(5)[:3].tolist() == [5.0, 6.0, 7.0]


def test_a_straight_rise_is_followed_by_level_and_trend() -> None:
    rises = series(1.0 + 0.01 * np.arange(4 * WEEK_CYCLES, dtype=np.float64))
    ahead = ALL["level and trend (Holt)"](rises)(9)
    judged = slice(rises.judged, -9)

    assert ahead[judged] == pytest.approx(rises.rates[judged.start + 9 :], rel=1e-3)


@pytest.mark.parametrize("name", SEASONAL)
def test_what_comes_again_is_forecast_by_the_season_before(name: str) -> None:
    long = DAY_CYCLES if "day" in name else WEEK_CYCLES
    again = series(5.0 + np.sin(np.arange(4 * WEEK_CYCLES) * 2 * np.pi / long))
    ahead = ALL[name](again)(9)[again.judged : -9]

    # half an hour is averaged, which flattens a day of two hours by a tenth
    assert ahead == pytest.approx(again.rates[again.judged + 9 :], abs=0.12)


def test_a_week_of_twice_the_requests_is_known_by_its_level_alone() -> None:
    usual = 5.0 + np.sin(np.arange(WEEK_CYCLES) * 2 * np.pi / WEEK_CYCLES)
    grown = series(np.concatenate([usual, usual, usual, 2.0 * usual]))
    middle = slice(grown.judged + 240, -240)
    level, plain = (ALL[name](grown)(9)[middle] for name in ("level, by the week before", "a week before"))
    ahead = past(grown.rates, -9)[middle]

    assert level == pytest.approx(ahead, rel=0.02)
    assert plain == pytest.approx(ahead / 2.0, rel=0.02)


def test_a_season_that_falls_takes_nothing_from_the_last_minute() -> None:
    one = uneven()
    minute = trailing(one.rates, MINUTE)
    raised = ALL["last minute, raised by the week before"](one)(9)

    assert (raised >= minute).all()
    assert (raised[one.judged :] > minute[one.judged :]).any()


def test_means_are_those_of_the_cycles_up_to_each() -> None:
    assert trailing(np.array([4.0, 2.0, 6.0, 1.0]), 2).tolist() == [4.0, 3.0, 4.0, 3.5]


def test_the_highest_is_that_of_the_cycles_up_to_each() -> None:
    one = flat(1.0)
    one.rates[100] = 9.0
    found = ALL["highest of the last 2 min"](one)(3)

    assert np.flatnonzero(found == 9.0).tolist() == list(range(100, 108))


def test_without_a_weekly_season_nothing_is_forecast_by_weeks() -> None:
    days = replace(flat(), seasons=(DAY_CYCLES,))

    assert [name for name in predictors(days) if "week" in name] == []
    assert "a day before" in predictors(days)


def test_what_trees_are_shown_was_known_by_then() -> None:
    one, now = uneven(), 3 * WEEK_CYCLES
    later = replace(one, rates=np.concatenate([one.rates[: now + 1], one.rates[now + 1 :] * 7.0]))
    before, after = (features(some, trailing(some.rates, 20), curve(some), 9)[: now + 1] for some in (one, later))

    assert after == pytest.approx(before)


def test_waves_are_those_of_the_season_down_to_two_hours() -> None:
    found = waves(5760, 5760)

    assert found.shape == (5760, 1 + 2 * 12)
    assert found.T @ found == pytest.approx(np.diag([5760.0] + [2880.0] * 24), abs=1e-6)


def test_a_recorded_rate_is_straight_between_the_middles_of_its_means() -> None:
    rate = Straight(np.array([2.0, 4.0]), 600.0)

    assert rate.at(np.array([0.0, 300.0, 600.0, 900.0, 5000.0])).tolist() == [2.0, 2.0, 3.0, 4.0, 4.0]


def test_named_weeks_come_one_after_another_and_scatter_around_their_rate() -> None:
    source = next(iter(named(4)))
    one, large = source.drawn(1, 1.0), replace(source, seasons=(6 * 3600,)).drawn(1, 10.0)
    week = WEEK // 15

    assert len(one.rates) == 4 * week
    assert (one.learned, one.margins, one.judged) == (week, 2 * week, 3 * week)
    assert one.expected[:week] == pytest.approx(one.expected[-week:])
    assert one.rates.mean() == pytest.approx(one.expected.mean(), rel=0.01)
    assert not np.array_equal(one.rates[:week], one.rates[week : 2 * week])
    assert one.expected.max() / one.each == pytest.approx(12.0)
    assert large.expected.max() / large.each == pytest.approx(120.0)


def test_the_same_seed_gives_the_same_requests_and_another_others() -> None:
    source = replace(next(iter(named(4))), seasons=(6 * 3600,))
    first, again, other = (source.drawn(seed, 1.0).rates for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_records_are_read_by_workload_and_by_column(tmp_path: Path) -> None:
    path = tmp_path / SERVEGEN
    path.write_text("workload,t_s,rate_rps\nlanguage/a,0,1.5\nlanguage/b,0,7\nlanguage/a,600,2.5\n", encoding="utf-8")
    hourly = tmp_path / "load.csv"
    hourly.write_text("hour,x,y\n0,0.1,0.2\n1,0.3,\n", encoding="utf-8")

    assert {name: rates.tolist() for name, rates in servegen(path).items()} == {"a": [1.5, 2.5], "b": [7.0]}
    assert column(hourly, "y").tolist() == [0.2]
