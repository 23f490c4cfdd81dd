"""Parts of providers' answers that several of them share: times, plausible intensities, forecasts from points."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from fallow.adapters.carbon.parameters import MOST_GRAMS
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import Forecast, ForecastPoint, IntensityKind

HOUR = Seconds(3600)
# a number as JSON knows it; text and booleans are somebody's mistake
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
PlausibleGrams = Annotated[Number, Field(ge=0, le=MOST_GRAMS)]
# beyond these a time is a mistake, and some of what it is added to is no time any more
YEARS = range(2000, 2200)


def _in_our_days(time: datetime) -> datetime:
    if time.year not in YEARS:
        raise ValueError(f"a time of the year {time.year}")
    return time


Time = Annotated[AwareDatetime, AfterValidator(_in_our_days)]


class Shape(BaseModel):
    """A provider's object: what is not named here is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def instant(time: datetime) -> Instant:
    return Instant(time.timestamp())


def minute(now: Instant) -> str:
    """A time as the British API writes it: `YYYY-MM-DDTHH:MMZ`."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%MZ")


def forecast_of(
    points: Iterable[tuple[Instant, float]],
    source: str,
    *,
    kind: IntensityKind = IntensityKind.AVERAGE,
    issued: Instant | None = None,
    until: Instant | None = None,
) -> Forecast | Missing:
    """Points in any order; one that comes twice counts as it came last. The last one lasts as long as most do."""
    ordered = sorted(dict(points).items())
    if not ordered:
        return Missing(Reason.BAD_ANSWER, f"{source}: the forecast is empty")
    if until is None:
        steps = [after[0] - before[0] for before, after in pairwise(ordered)]
        until = Instant(ordered[-1][0] + (median(steps) if steps else HOUR))
    found = tuple(ForecastPoint(start, GramsPerKWh(grams)) for start, grams in ordered if start < until)
    return Forecast(found, until, source, kind, issued) if found else Missing(Reason.BAD_ANSWER, f"{source}: no point")


def no_forecast(kind: str) -> Missing:
    return Missing(Reason.NO_FORECAST, f"a {kind} source gives no forecast")
