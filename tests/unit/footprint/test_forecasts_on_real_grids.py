"""Errors of forecasts on real hours: what the record says equals what the hours say."""

from __future__ import annotations

import csv
import os
from datetime import datetime
from itertools import islice
from pathlib import Path
from statistics import mean

import pytest

from fallow.domain.figures import Figure
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.zones import Forecast, ForecastPoint, Intensity
from fallow.footprint.forecasting import DAY, MEMORY, Record

DATA = Path(os.environ.get("FALLOW_DATA", Path(__file__).parents[3] / ".." / "shared" / "data")) / "carbon"
FILE = DATA / "eia_2022_hourly_avg_ci_jan-sep.csv"
HOUR, WEEK = 3600, 7 * DAY
DAYS = 21

pytestmark = pytest.mark.skipif(not FILE.exists(), reason=f"the hourly data of EIA are not at {FILE}")


def hours(area: str) -> dict[float, float]:
    with FILE.open(encoding="utf-8") as file:
        rows = islice(csv.DictReader(file), 24 * (DAYS + 7))
        return {datetime.fromisoformat(row["utc"]).timestamp(): float(row[area]) for row in rows}


@pytest.mark.parametrize("area", ["ERCO", "PJM", "SOCO"])
def test_last_week_s_hour_is_no_better_a_forecaster_than_yesterday_s(area: str) -> None:
    known = hours(area)
    record, now = Record(), 0.0
    for now, grams in islice(known.items(), 24 * 7, None):
        ahead = [ForecastPoint(Instant(now + n * HOUR), GramsPerKWh(known[now + n * HOUR - WEEK])) for n in range(25)]
        forecast = Forecast(tuple(ahead), Instant(now + 25 * HOUR), "the same hour of last week")
        measured = Intensity(Figure.exact(GramsPerKWh(grams)), Instant(now), "EIA")
        record = record.noting(forecast, Instant(now)).measuring(measured, Instant(now))
    error = record.errors()[-1]
    judged = [at for at in known if now - MEMORY <= at]
    assert error.mean.value == pytest.approx(mean(abs(known[at] - known[at - WEEK]) for at in judged))
    assert error.persistence is not None
    assert error.persistence.value == pytest.approx(mean(abs(known[at] - known[at - DAY]) for at in judged))
    assert (error.lead, error.beats_persistence) == (DAY, False)
