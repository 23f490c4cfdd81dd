"""What a forecast is worth: how far earlier ones were off, and the bounds that follow for the value now.

Every half-hour the forecasts for one, six and twenty-four hours ahead are noted; when a measured value for that
half-hour comes, the difference is an error. The same time of yesterday is the forecaster that everybody has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from fallow.domain.figures import Missing
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import Forecast, ForecastError, Intensity, IntensityTier, forecast_figure

SLOT = Seconds(1800)
DAY = Seconds(86_400)
LEADS = (Seconds(3600), Seconds(6 * 3600), DAY)
# errors of a week, which holds every weekday once
MEMORY = Seconds(7 * DAY)


@dataclass(frozen=True, slots=True)
class Miss:
    """One half-hour: how far the forecast was off, and yesterday's value, where it is known."""

    at: Instant
    forecast: float
    persistence: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """What was expected of half-hours to come, what was measured, and the errors, by lead. Starts empty."""

    expected: Mapping[tuple[Seconds, Instant], float] = field(default_factory=lambda: MappingProxyType({}))
    measured: Mapping[Instant, float] = field(default_factory=lambda: MappingProxyType({}))
    misses: Mapping[Seconds, tuple[Miss, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def noting(self, forecast: Forecast | Missing, now: Instant) -> Record:
        """The first forecast of each half-hour for each lead counts."""
        if isinstance(forecast, Missing):
            return self
        fresh = {}
        for lead in LEADS:
            key = (lead, slot(Instant(now + lead)))
            point = forecast.at(key[1])
            if key not in self.expected and point is not None:
                fresh[key] = point.grams.value
        if not fresh:
            return self
        kept = {key: grams for key, grams in self.expected.items() if now - key[1] <= DAY}
        return replace(self, expected=kept | fresh)

    def measuring(self, intensity: Intensity | Missing, now: Instant) -> Record:
        """A measured value settles its half-hour, once; estimates and stand-ins settle nothing."""
        if isinstance(intensity, Missing) or intensity.tier is not IntensityTier.LIVE:
            return self
        at, value = slot(intensity.at), intensity.grams.best.value
        if at in self.measured:
            return self
        yesterday = self.measured.get(Instant(at - DAY))
        persistence = None if yesterday is None else abs(value - yesterday)
        misses = dict(self.misses)
        for lead in LEADS:
            expected = self.expected.get((lead, at))
            if expected is not None:
                young = tuple(miss for miss in misses.get(lead, ()) if now - miss.at <= MEMORY)
                misses[lead] = (*young, Miss(at, abs(value - expected), persistence))
        return Record(
            expected={key: grams for key, grams in self.expected.items() if key[1] > at},
            measured={when: grams for when, grams in {**self.measured, at: value}.items() if at - when <= DAY},
            misses=misses,
        )

    def errors(self) -> tuple[ForecastError, ...]:
        """P3: mean absolute errors, by lead, of the leads for which there are any."""
        return tuple(_error(lead, self.misses[lead]) for lead in LEADS if self.misses.get(lead))


def slot(when: Instant) -> Instant:
    """The start of the half-hour (UTC) that an instant lies in."""
    return Instant(when // SLOT * SLOT)


def expected_now(
    forecast: Forecast, errors: tuple[ForecastError, ...], now: Instant, instead_of: Missing
) -> Intensity | None:
    """What a forecast says of now, in the place of a value that is not there; None where it does not reach."""
    point = forecast.at(now)
    if point is None:
        return None
    lead = now - forecast.issued if forecast.issued is not None else 0.0
    return Intensity(
        forecast_figure(point.grams, lead, errors),
        at=point.start,
        source=f"forecast of {forecast.source}",
        kind=forecast.kind,
        tier=IntensityTier.FORECAST,
        instead_of=instead_of,
    )


def _error(lead: Seconds, misses: tuple[Miss, ...]) -> ForecastError:
    pairs = [(miss.forecast, miss.persistence) for miss in misses if miss.persistence is not None]
    return ForecastError(
        lead=lead,
        samples=len(misses),
        mean=_mean([miss.forecast for miss in misses]),
        compared=len(pairs),
        against=_mean([forecast for forecast, _ in pairs]) if pairs else None,
        persistence=_mean([persistence for _, persistence in pairs]) if pairs else None,
    )


def _mean(values: list[float]) -> GramsPerKWh:
    return GramsPerKWh(sum(values) / len(values))
