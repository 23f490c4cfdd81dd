"""How good forecasts were: errors by lead, against yesterday's value, and the bounds that follow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import (
    Forecast,
    ForecastError,
    ForecastPoint,
    Intensity,
    IntensityTier,
    forecast_figure,
)
from fallow.footprint.forecasting import DAY, LEADS, SLOT, Record, expected_now, slot
from tests.support.metered import NOON, later

DOWN = Missing(Reason.SOURCE_UNREACHABLE, "down")
HOUR, SIX = LEADS[0], LEADS[1]


def ahead(*grams: float, start: float = 0, step: float = 1800) -> Forecast:
    points = tuple(ForecastPoint(later(start + step * n), GramsPerKWh(value)) for n, value in enumerate(grams))
    return Forecast(points, later(start + step * len(grams)), "test")


def flat(grams: float) -> Forecast:
    return ahead(grams, start=-DAY, step=30 * DAY)


def measured(grams: float, seconds: float, tier: IntensityTier = IntensityTier.LIVE) -> Intensity:
    return Intensity(Figure.exact(GramsPerKWh(grams)), later(seconds), "test", tier=tier)


def watched(expected: list[float], actual: list[float]) -> Record:
    """One forecast and one measurement each half-hour; the forecast says the same of all times to come."""
    record = Record()
    for n, (said, was) in enumerate(zip(expected, actual, strict=True)):
        now = later(n * SLOT)
        record = record.noting(flat(said), now).measuring(measured(was, n * SLOT), now)
    return record


def of(record: Record, lead: Seconds) -> ForecastError:
    return next(error for error in record.errors() if error.lead == lead)


def test_an_error_is_the_difference_between_what_was_expected_an_hour_before_and_what_came() -> None:
    record = Record().noting(flat(200), NOON)
    record = record.noting(flat(999), later(3600)).measuring(measured(230, 3600), later(3700))
    assert of(record, HOUR) == ForecastError(HOUR, samples=1, mean=GramsPerKWh(30))
    assert [error.lead for error in record.errors()] == [HOUR]


def test_each_lead_has_its_own_errors() -> None:
    record = Record().noting(ahead(*range(100, 160)), NOON)
    for hours in (1, 6, 24):
        record = record.measuring(measured(100, hours * 3600), later(hours * 3600))
    assert [(error.lead / 3600, error.mean.value) for error in record.errors()] == [(1, 2), (6, 12), (24, 48)]


def test_a_half_hour_is_settled_once_and_by_what_was_said_first() -> None:
    record = Record().noting(flat(200), NOON).noting(flat(100), later(900))
    record = record.measuring(measured(210, 3600), later(3600)).measuring(measured(400, 3900), later(3900))
    assert of(record, HOUR) == ForecastError(HOUR, samples=1, mean=GramsPerKWh(10))


@pytest.mark.parametrize("tier", [tier for tier in IntensityTier if tier is not IntensityTier.LIVE])
def test_only_a_measured_value_settles_anything(tier: IntensityTier) -> None:
    record = Record().noting(flat(200), NOON).measuring(measured(230, 3600, tier), later(3600))
    assert record.errors() == ()


def test_without_forecast_or_value_the_record_stays_as_it_is() -> None:
    record = Record()
    assert record.noting(DOWN, NOON) is record
    assert record.measuring(DOWN, NOON) is record


def test_yesterday_s_value_is_the_forecaster_to_beat() -> None:
    """Two days: 200 and then 260; the forecast says 240 throughout."""
    record = watched([240.0] * 96, [200.0] * 48 + [260.0] * 48)
    error = of(record, HOUR)
    assert error.compared == 48
    assert (error.against, error.persistence) == (GramsPerKWh(20), GramsPerKWh(60))
    assert error.beats_persistence is True
    assert of(watched([100.0] * 96, [200.0] * 48 + [260.0] * 48), HOUR).beats_persistence is False


def test_too_few_half_hours_say_nothing_about_a_forecaster() -> None:
    record = watched([240.0] * 60, [200.0] * 60)
    assert of(record, HOUR).compared == 12
    assert of(record, HOUR).beats_persistence is None


def test_errors_are_of_the_last_week_and_what_is_kept_has_an_end() -> None:
    slots = 48 * 20
    record = watched([100.0] * (slots // 2) + [200.0] * (slots // 2), [200.0] * slots)
    assert of(record, HOUR).mean == GramsPerKWh(0)
    assert of(record, HOUR).samples <= 7 * 48 + 1
    assert len(record.measured) <= 49
    assert len(record.expected) <= 3 * 49


def test_a_source_that_never_measures_fills_no_memory() -> None:
    record = Record()
    for n in range(48 * 20):
        record = record.noting(flat(100), later(n * SLOT))
    assert len(record.expected) <= 3 * 50 * 2


LONG = ForecastError(DAY, samples=48, mean=GramsPerKWh(40))
SHORT = ForecastError(HOUR, samples=48, mean=GramsPerKWh(10))


@pytest.mark.parametrize(
    ("lead", "errors", "low", "high"),
    [
        (0, (), 150, 250),
        (0, (replace(SHORT, samples=23),), 150, 250),
        (3600, (SHORT, LONG), 185, 215),
        (3601, (SHORT, LONG), 140, 260),
        (9 * DAY, (SHORT, LONG), 140, 260),
        (DAY, (SHORT,), 185, 215),
    ],
    ids=["nothing known", "too little known", "its lead", "the next lead", "beyond all", "the only one known"],
)
def test_bounds_follow_from_the_errors_of_the_lead(
    lead: float, errors: tuple[ForecastError, ...], low: float, high: float
) -> None:
    figure = forecast_figure(GramsPerKWh(200), lead, errors)
    assert (figure.low.value, figure.best.value, figure.high.value) == (low, 200, high)


@given(
    grams=st.floats(0, 2000),
    lead=st.floats(0, 1e6),
    mean=st.floats(0, 2000),
    samples=st.integers(0, 100),
)
def test_bounds_always_enclose_the_value_and_never_fall_below_zero(
    grams: float, lead: float, mean: float, samples: int
) -> None:
    figure = forecast_figure(GramsPerKWh(grams), lead, (ForecastError(HOUR, samples, GramsPerKWh(mean)),))
    assert 0 <= figure.low.value <= grams <= figure.high.value


def test_the_forecast_for_now_says_what_it_stands_in_for() -> None:
    forecast = replace(ahead(200, 210), issued=later(-7200))
    answer = expected_now(forecast, (SHORT, LONG), later(1900), DOWN)
    assert answer is not None
    assert (answer.grams.best.value, answer.grams.low.value) == (210, 150)
    assert (answer.tier, answer.instead_of, answer.at) == (IntensityTier.FORECAST, DOWN, later(1800))
    assert expected_now(forecast, (), later(3600), DOWN) is None


@pytest.mark.parametrize(
    "points",
    [(), (NOON, NOON), (later(60), NOON), (later(7200),)],
    ids=["none", "twice the same", "backwards", "after the end"],
)
def test_a_forecast_without_rising_times_is_none(points: tuple[Instant, ...]) -> None:
    with pytest.raises(ValueError, match="times rise"):
        Forecast(tuple(ForecastPoint(start, GramsPerKWh(1)) for start in points), later(3600), "test")


def test_half_hours_begin_where_clocks_say() -> None:
    assert (slot(later(1799)), slot(later(1800))) == (NOON, later(1800))
