"""Grid zones: where the electricity comes from, and what it carries with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.policies import Selector
from fallow.domain.units import GramsPerKWh, Instant, LitresPerKWh, Watts


class IntensityKind(StrEnum):
    """Average and marginal intensity answer different questions and are never mixed."""

    AVERAGE = "average"
    MARGINAL = "marginal"


@dataclass(frozen=True, slots=True)
class Intensity:
    """Carbon intensity at an instant, with where it came from, and the water at the power plants where it is known."""

    grams: Figure[GramsPerKWh]
    at: Instant
    source: str
    kind: IntensityKind = IntensityKind.AVERAGE
    water_at_source: Figure[LitresPerKWh] | None = None


@dataclass(frozen=True, slots=True)
class IntensitySource:
    """Which adapter reads the intensity (`kind`: Static, Dataset, Prometheus, ConfigMap) and its parameters."""

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A dimensionless factor with bounds (PUE)."""

    low: float
    best: float
    high: float


@dataclass(frozen=True, slots=True)
class Zone:
    """A GridZone as declared. `is_default` takes the nodes that no other zone selects.

    `market` is the intensity by contracts and certificates, which stands beside the grid's own and never instead of it.
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
    market: Figure[GramsPerKWh] | None = None


@dataclass(frozen=True, slots=True)
class ZoneReading:
    """A zone and what its sources said. `live_pue` is None where the zone declares no series for it."""

    zone: Zone
    intensity: Intensity | Missing
    live_pue: Ratio | Missing | None = None

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


# sources disagree by 3-20 % on annual means for the same grid and year (docs/methodology.md, carbon intensity)
INTENSITY_BOUNDS = Bounds(0.9, 1.1)
