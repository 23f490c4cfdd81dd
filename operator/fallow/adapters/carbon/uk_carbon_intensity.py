"""National Grid ESO's Carbon Intensity API for Great Britain: half-hours, national or by region, with a forecast.

It counts the power plants' stacks only, and needs no key (CC-BY-4.0).
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import AliasChoices, Field

from fallow.adapters.carbon.dataset import water_at_source
from fallow.adapters.carbon.provider import Provider, Request
from fallow.adapters.carbon.shapes import PlausibleGrams, Shape, Time, forecast_of, instant, minute
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.zones import (
    FORECAST_BOUNDS,
    INTENSITY_BOUNDS,
    Forecast,
    Intensity,
    IntensitySource,
    IntensityTier,
)

URL = "https://api.carbonintensity.org.uk"
REGIONS = range(1, 18)


class _Grams(Shape):
    forecast: PlausibleGrams | None = None
    actual: PlausibleGrams | None = None


class _HalfHour(Shape):
    start: Time = Field(validation_alias=AliasChoices("from"))
    end: Time = Field(validation_alias=AliasChoices("to"))
    intensity: _Grams


class _National(Shape):
    data: list[_HalfHour]


class _Region(Shape):
    shortname: str = ""
    data: list[_HalfHour]


class _RegionNow(Shape):
    data: list[_Region] = Field(min_length=1)


class _RegionForecast(Shape):
    data: _Region


S = TypeVar("S", bound=Shape)


class UKCarbonIntensity:
    """Implements ports.CarbonSource, for `region` 1 to 17 where one is given; regions have no measured values."""

    def __init__(self, *, url: str = URL, timeout: float = 5.0) -> None:
        self._provider = Provider("UK Carbon Intensity", url, timeout=timeout)

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        region = _region(source)
        if isinstance(region, Missing):
            return region
        if region:
            there = await self._get(now, f"/regional/regionid/{region}", f"region {region}", _RegionNow)
            found = there if isinstance(there, Missing) else there.data[0].data
        else:
            national = await self._get(now, "/intensity", "the present", _National)
            found = national if isinstance(national, Missing) else national.data
        if isinstance(found, Missing):
            return found
        return _present(found, now, _name(region))

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:
        region = _region(source)
        if isinstance(region, Missing):
            return region
        ahead = f"/intensity/{minute(now)}/fw48h"
        if region:
            path = f"/regional{ahead}/regionid/{region}"
            there = await self._get(now, path, f"the forecast of region {region}", _RegionForecast)
            found = there if isinstance(there, Missing) else there.data.data
        else:
            national = await self._get(now, ahead, "the forecast", _National)
            found = national if isinstance(national, Missing) else national.data
        if isinstance(found, Missing):
            return found
        known = [half for half in found if half.intensity.forecast is not None]
        return forecast_of(
            ((instant(half.start), half.intensity.forecast or 0.0) for half in known),
            _name(region),
            until=max((instant(half.end) for half in known), default=None),
        )

    async def _get(self, now: Instant, path: str, question: str, model: type[S]) -> S | Missing:
        request = Request(path, question, headers={"Accept": "application/json"})
        return await self._provider.get(now, self._provider.account(), request, model)


def _region(source: IntensitySource) -> int | Missing:
    """0 for the whole country."""
    if source.parameters.get("factorType", "direct") != "direct":
        words = "the UK Carbon Intensity API counts the stacks only: set factorType: direct, or take another source"
        return Missing(Reason.NO_INTENSITY, words)
    region = source.parameters.get("region", 0)
    if region != 0 and region not in REGIONS:
        return Missing(Reason.BAD_ANSWER, f"UK Carbon Intensity has the regions 1 to 17; {region!r} is none of them")
    return int(region)


def _name(region: int) -> str:
    return f"UK Carbon Intensity, region {region}" if region else "UK Carbon Intensity"


def _present(halves: list[_HalfHour], now: Instant, name: str) -> Intensity | Missing:
    """Measured where it is, else as forecast for the half-hour that `now` lies in."""
    half = next((half for half in halves if instant(half.start) <= now < instant(half.end)), None)
    if half is None:
        return Missing(Reason.STALE_SERIES, f"{name}: no half-hour for {minute(now)} came back")
    measured, expected = half.intensity.actual, half.intensity.forecast
    best = measured if measured is not None else expected
    if best is None:
        return Missing(Reason.BAD_ANSWER, f"{name}: neither a measured nor an expected value for {minute(now)}")
    return Intensity(
        Figure.around(GramsPerKWh(best), INTENSITY_BOUNDS if measured is not None else FORECAST_BOUNDS),
        at=instant(half.start),
        source=name,
        water_at_source=water_at_source("GB"),
        tier=IntensityTier.LIVE if measured is not None else IntensityTier.FORECAST,
    )
