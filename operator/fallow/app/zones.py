"""Reads every grid zone once a cycle: its intensity or what stands in for it, its forecast, its PUE.

Preferred first: the source's live value, its last known one, its forecast for now; then each fallback in the same
way. Bounds widen with each step, and an average is never replaced by a marginal value nor the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.domain.zones import (
    Forecast,
    ForecastError,
    Intensity,
    IntensitySource,
    IntensityTier,
    PassedOver,
    Ratio,
    Zone,
    ZoneReading,
)
from fallow.footprint.forecasting import Record, expected_now
from fallow.ports import CarbonSource, PueSource

# A year's mean in the place of an hour: in the eight areas of EIA's hourly data of 2022 nine hours in ten lie between
# 0.6 and 1.5 of the mean in six of them; the source's own 0.8 to 1.2 are widened to that.
HOUR_FROM_YEAR = (0.75, 1.25)
_STANDING = frozenset({IntensityTier.YEARLY, IntensityTier.DECLARED})


@dataclass(frozen=True, slots=True)
class _History:
    """The record of one zone's forecasts; another source begins another one."""

    source: IntensitySource
    record: Record


class Zones:
    """Keeps the record of forecasts while the process lives; after a restart it begins anew, as its count shows."""

    def __init__(self, carbon: CarbonSource, pue: PueSource | None = None) -> None:
        self._carbon = carbon
        self._pue = pue
        self._histories: dict[str, _History] = {}

    async def read(self, now: Instant, zones: Sequence[Zone]) -> dict[str, ZoneReading]:
        readings = await asyncio.gather(*(self._read(now, zone) for zone in zones))
        self._histories = {zone.name: self._histories[zone.name] for zone in zones}
        return {zone.name: reading for zone, reading in zip(zones, readings, strict=True)}

    async def _read(self, now: Instant, zone: Zone) -> ZoneReading:
        first, forecast, marginal, pue = await asyncio.gather(
            self._carbon.intensity(now, zone.source),
            self._carbon.forecast(now, zone.source),
            self._marginal(now, zone),
            self._live_pue(now, zone),
        )
        record = self._record(zone).noting(forecast, now).measuring(first, now)
        self._histories[zone.name] = _History(zone.source, record)
        errors = record.errors()
        chosen, passed = await self._chosen(now, zone, _best_of(zone.source, first, forecast, errors, now))
        return ZoneReading(
            zone=zone,
            intensity=chosen,
            live_pue=pue,
            marginal=marginal,
            forecast=None if isinstance(forecast, Missing) and forecast.reason is Reason.NO_FORECAST else forecast,
            errors=errors,
            passed_over=passed,
        )

    async def _chosen(
        self, now: Instant, zone: Zone, first: Intensity | Missing
    ) -> tuple[Intensity | Missing, tuple[PassedOver, ...]]:
        """The first source that has a value, and why those before it are not in use."""
        passed: list[PassedOver] = []
        for source in (zone.source, *zone.fallbacks):
            stands_in = source is not zone.source
            answer = await self._carbon.intensity(now, source) if stands_in else first
            if isinstance(answer, Intensity) and answer.kind is not zone.source.signal:
                words = f"{answer.source} is {answer.kind} and cannot stand in for an {zone.source.signal} intensity"
                answer = Missing(Reason.WRONG_SIGNAL, words)
            if isinstance(answer, Missing):
                passed.append(PassedOver(source.kind, answer))
                continue
            if answer.instead_of is not None:
                passed.append(PassedOver(source.kind, answer.instead_of))
            if stands_in and answer.tier in _STANDING:
                low, high = HOUR_FROM_YEAR
                answer = replace(answer, grams=answer.grams.spread(low, 1.0, high), instead_of=passed[0].why)
            return answer, tuple(passed)
        return passed[0].why, tuple(passed)

    async def _marginal(self, now: Instant, zone: Zone) -> Intensity | Missing | None:
        return None if zone.marginal is None else await self._carbon.intensity(now, zone.marginal)

    async def _live_pue(self, now: Instant, zone: Zone) -> Ratio | Missing | None:
        if not zone.pue_query:
            return None
        if self._pue is None:
            return Missing(Reason.NO_SERIES, "a PUE from a series needs a Prometheus")
        return await self._pue.pue(now, zone.pue_query)

    def _record(self, zone: Zone) -> Record:
        known = self._histories.get(zone.name)
        return known.record if known is not None and known.source == zone.source else Record()


def _best_of(
    source: IntensitySource,
    present: Intensity | Missing,
    forecast: Forecast | Missing,
    errors: tuple[ForecastError, ...],
    now: Instant,
) -> Intensity | Missing:
    """The source's value, else its forecast for now, which is better than what it expected of an earlier time too."""
    failed = present if isinstance(present, Missing) else present.instead_of
    measured = isinstance(present, Intensity) and present.tier is not IntensityTier.FORECAST
    if failed is None or measured or isinstance(forecast, Missing) or forecast.kind is not source.signal:
        return present
    return expected_now(forecast, errors, now, failed) or present
