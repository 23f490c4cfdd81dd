"""Grid zones: where the electricity comes from, and what it carries with it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.policies import Selector
from fallow.domain.units import GramsPerKWh, Instant, LitresPerKWh, Seconds, Watts


class IntensityKind(StrEnum):
    """Average and marginal intensity answer different questions and are never mixed."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class IntensityTier(StrEnum):
    """How near a value is to a measurement of the present, nearest first."""

    LIVE = "Live"
    ESTIMATED = "Estimated"
    CACHED = "Cached"
    FORECAST = "Forecast"
    YEARLY = "Yearly"
    DECLARED = "Declared"


@dataclass(frozen=True, slots=True)
class Intensity:
    """Carbon intensity at an instant, with where it came from, and the water at the power plants where it is known.

    `instead_of` says why the source's live value is not here, where this one stands in for it.
    """

    grams: Figure[GramsPerKWh]
    at: Instant
    source: str
    kind: IntensityKind = IntensityKind.AVERAGE
    water_at_source: Figure[LitresPerKWh] | None = None
    tier: IntensityTier = IntensityTier.LIVE
    instead_of: Missing | None = None


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    start: Instant
    grams: GramsPerKWh


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expected intensities, soonest first; each holds until the next begins, the last until `until`.

    Raises ValueError where there is no point or their times do not rise.
    """

    points: tuple[ForecastPoint, ...]
    until: Instant
    source: str
    kind: IntensityKind = IntensityKind.AVERAGE
    issued: Instant | None = None

    def __post_init__(self) -> None:
        ends = (*(point.start for point in self.points[1:]), self.until)
        if not self.points or any(point.start >= end for point, end in zip(self.points, ends, strict=True)):
            raise ValueError("a forecast needs points whose times rise")

    def at(self, when: Instant) -> ForecastPoint | None:
        """The point that holds at an instant; None before the first and after the last."""
        if not self.points[0].start <= when < self.until:
            return None
        return self.points[bisect_right(self.points, when, key=lambda point: point.start) - 1]


@dataclass(frozen=True, slots=True)
class ForecastError:
    """How far forecasts of one lead were off: mean absolute errors over `samples` half-hours of the last days.

    `persistence` is the error of taking the same time of yesterday, over the same `compared` half-hours as
    `against`, the forecast's own error there; both are None until there are any.
    """

    lead: Seconds
    samples: int
    mean: GramsPerKWh
    compared: int = 0
    against: GramsPerKWh | None = None
    persistence: GramsPerKWh | None = None

    @property
    def beats_persistence(self) -> bool | None:
        """Whether the forecast errs less than yesterday's value; None while that is not known."""
        if self.compared < ENOUGH_SAMPLES or self.against is None or self.persistence is None:
            return None
        return self.against < self.persistence


def forecast_figure(grams: GramsPerKWh, lead: float, errors: Sequence[ForecastError]) -> Figure[GramsPerKWh]:
    """P2: within 1.5 times the mean error of forecasts of that lead (seconds), 25 % while that is not known."""
    known = [error for error in errors if error.samples >= ENOUGH_SAMPLES]
    fitting = next((error for error in known if lead <= error.lead), known[-1] if known else None)
    if fitting is None:
        return Figure.around(grams, FORECAST_BOUNDS)
    width = fitting.mean * FORECAST_WIDTH
    return Figure(GramsPerKWh(max((grams - width).value, 0.0)), grams, grams + width)


@dataclass(frozen=True, slots=True)
class IntensitySource:
    """Which adapter reads the intensity (`kind`, such as Static or WattTime) and its parameters."""

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def signal(self) -> IntensityKind:
        """What the source is declared to measure."""
        return IntensityKind(self.parameters.get("signal", IntensityKind.AVERAGE))


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A source that was preferred to the one in use, and why it is not."""

    source: str
    why: Missing


@dataclass(frozen=True, slots=True)
class Ratio:
    """A dimensionless factor with bounds (PUE)."""

    low: float
    best: float
    high: float


@dataclass(frozen=True, slots=True)
class Zone:
    """A GridZone as declared. `is_default` takes the nodes that no other zone selects.

    `fallbacks` stand in for `source`, in their order; `marginal` is shown beside it and never booked. `market` is the
    intensity by contracts and certificates, which stands beside the grid's own and never instead of it. `pue_query`
    names a series whose value goes before `pue`; empty: none. `price_per_gpu_hour` is of a GPU while it is held, by
    product.
    """

    name: str
    source: IntensitySource
    generation: int = 0
    nodes: Selector = field(default_factory=Selector)
    is_default: bool = False
    pue: Ratio = field(default_factory=lambda: Ratio(1.08, 1.2, 1.58))
    water_on_site: Figure[LitresPerKWh] | None = None
    water_at_source: Figure[LitresPerKWh] | None = None
    host_per_gpu: Figure[Watts] = field(default_factory=lambda: Figure(Watts(75), Watts(150), Watts(290)))
    price_per_kwh: float | None = None
    currency: str = ""
    price_per_gpu_hour: Mapping[str, float] = field(default_factory=dict)
    market: Figure[GramsPerKWh] | None = None
    fallbacks: tuple[IntensitySource, ...] = ()
    marginal: IntensitySource | None = None
    pue_query: str = ""


@dataclass(frozen=True, slots=True)
class ZoneReading:
    """A zone and what its sources said; what a zone does not declare a source for is None.

    `passed_over` are the sources before the one in use; `errors` tells how good earlier forecasts were.
    """

    zone: Zone
    intensity: Intensity | Missing
    live_pue: Ratio | Missing | None = None
    marginal: Intensity | Missing | None = None
    forecast: Forecast | Missing | None = None
    errors: tuple[ForecastError, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()

    @property
    def pue(self) -> Ratio:
        """As measured, else as declared; `live_pue` says why the measured one is not there."""
        return self.live_pue if isinstance(self.live_pue, Ratio) else self.zone.pue

    @property
    def water_at_source(self) -> Figure[LitresPerKWh] | None:
        """As declared, else as the intensity's source knows it."""
        if self.zone.water_at_source is not None or isinstance(self.intensity, Missing):
            return self.zone.water_at_source
        return self.intensity.water_at_source


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of time in which a zone's reading stayed the same; it ends where the next one begins."""

    since: Instant
    reading: ZoneReading


# sources disagree by 3-20 % on annual means for the same grid and year (docs/methodology.md, carbon intensity)
INTENSITY_BOUNDS = Bounds(0.9, 1.1)
# 1.5 x the mean error of the simplest forecast, yesterday's value: 15 % of the mean in DE, FR and Texas, rounded up
FORECAST_BOUNDS = Bounds(0.75, 1.25)
# most errors lie within 1.5 times their mean
FORECAST_WIDTH = 1.5
# half-hours, a dozen hours' worth: fewer say little about a forecaster
ENOUGH_SAMPLES = 24
