"""A carbon intensity that somebody knows and wrote down."""

from __future__ import annotations

from fallow.adapters.carbon.parameters import MOST_GRAMS, grams
from fallow.adapters.carbon.shapes import no_forecast
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.zones import INTENSITY_BOUNDS, Forecast, Intensity, IntensitySource, IntensityTier


class StaticCarbon:
    """Implements ports.CarbonSource for `gramsPerKWh`, with `low` and `high` where they are given."""

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        given = source.parameters
        best = grams(given.get("gramsPerKWh"), "static.gramsPerKWh")
        if isinstance(best, Missing):
            return best
        low = grams(given.get("low", best * INTENSITY_BOUNDS.low), "static.low")
        if isinstance(low, Missing):
            return low
        high = grams(given.get("high", min(best * INTENSITY_BOUNDS.high, MOST_GRAMS)), "static.high")
        if isinstance(high, Missing):
            return high
        if not low <= best <= high:
            return Missing(
                Reason.BAD_ANSWER, f"static: low {low:g} <= {best:g} <= high {high:g} does not hold; correct the bounds"
            )
        figure = Figure(GramsPerKWh(low), GramsPerKWh(best), GramsPerKWh(high))
        return Intensity(figure, at=now, source="static value", tier=IntensityTier.DECLARED)

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:  # noqa: ARG002 - the port's shape
        return no_forecast(source.kind)
