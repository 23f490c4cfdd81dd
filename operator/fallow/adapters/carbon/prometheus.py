"""Series in Prometheus: a carbon intensity, such as grid-intensity-go's, and a facility's PUE."""

from __future__ import annotations

from fallow.adapters.carbon.parameters import grams, text
from fallow.adapters.carbon.series import PrometheusSeries
from fallow.adapters.carbon.shapes import no_forecast
from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.zones import INTENSITY_BOUNDS, Forecast, Intensity, IntensitySource, Ratio

# two meters of class 2 in ratio, and what is metered on the way between them
PUE_BOUNDS = Bounds(0.95, 1.05)
# as the GridZone's own limits; half-empty rooms reach 3
LEAST_PUE, MOST_PUE = 1.0, 10.0


class PrometheusCarbon:
    """Implements ports.CarbonSource for `query`; `signal`, where given, says average or marginal."""

    def __init__(self, series: PrometheusSeries) -> None:
        self._series = series

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        query = text(source.parameters, "query", source.kind)
        if isinstance(query, Missing):
            return query
        read = await self._series.read(query, now)
        if isinstance(read, Missing):
            return read
        best = grams(read[0], query)
        if isinstance(best, Missing):
            return best
        figure = Figure.around(GramsPerKWh(best), INTENSITY_BOUNDS)
        return Intensity(figure, at=read[1], source=f"Prometheus: {query}", kind=source.signal)

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:  # noqa: ARG002 - the port's shape
        return no_forecast(source.kind)


class PrometheusPue:
    """Implements ports.PueSource."""

    def __init__(self, series: PrometheusSeries) -> None:
        self._series = series

    async def pue(self, now: Instant, query: str) -> Ratio | Missing:
        read = await self._series.read(query, now)
        if isinstance(read, Missing):
            return read
        best = read[0]
        if not LEAST_PUE <= best <= MOST_PUE:
            words = f"{query} is {best:g}; a PUE lies between {LEAST_PUE:g} and {MOST_PUE:g}"
            return Missing(Reason.BAD_ANSWER, words)
        return Ratio(max(best * PUE_BOUNDS.low, LEAST_PUE), best, best * PUE_BOUNDS.high)
