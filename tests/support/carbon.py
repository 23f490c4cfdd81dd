"""A carbon source in memory: answers what it was told, and counts how often it was asked."""

from __future__ import annotations

from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.zones import INTENSITY_BOUNDS, Forecast, Intensity, IntensitySource

NO_FORECAST = Missing(Reason.NO_FORECAST, "nothing is known of the future")


class InMemoryCarbonSource:
    """`grams` is the present intensity, or why there is none; `ahead` the forecast."""

    def __init__(self, grams: float | Missing = 300.0, ahead: Forecast | Missing = NO_FORECAST) -> None:
        self.grams = grams
        self.ahead = ahead
        self.asked = 0
        self.asked_ahead = 0

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        self.asked += 1
        if isinstance(self.grams, Missing):
            return self.grams
        if not source.parameters:
            return Missing(Reason.BAD_ANSWER, f"a {source.kind} source needs parameters")
        figure = Figure.around(GramsPerKWh(self.grams), INTENSITY_BOUNDS)
        return Intensity(figure, at=now, source="in memory", kind=source.signal)

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:  # noqa: ARG002 - the port's shape
        self.asked_ahead += 1
        return self.ahead
