"""Yearly means by zone, shipped with the package: the answer where nobody has a live source.

A mean says nothing about the hour, so its bounds are wider than a live value's and nothing can be shifted by it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from fallow.adapters.carbon.parameters import text
from fallow.adapters.carbon.shapes import no_forecast
from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant, LitresPerKWh
from fallow.domain.zones import Forecast, Intensity, IntensitySource, IntensityTier

# sources differ by 3 to 20 % on the same grid and year, and grids change from year to year
YEARLY_BOUNDS = Bounds(0.8, 1.2)
# country values of one study, by the mix of plants; cooling differs from plant to plant by more than half
WATER_BOUNDS = Bounds(0.5, 1.5)


@dataclass(frozen=True, slots=True)
class YearlyMean:
    zone: str
    grams: GramsPerKWh
    year: int
    source: str
    litres: LitresPerKWh | None


@cache
def yearly_means() -> dict[str, YearlyMean]:
    content = files("fallow.adapters.carbon").joinpath("yearly.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in content.splitlines() if not line.startswith("#"))
    return {
        row["zone"]: YearlyMean(
            zone=row["zone"],
            grams=GramsPerKWh(float(row["grams_per_kwh"])),
            year=int(row["year"]),
            source=row["source"],
            litres=LitresPerKWh(float(row["litres_per_kwh"])) if row["litres_per_kwh"] else None,
        )
        for row in rows
    }


def water_at_source(zone: str) -> Figure[LitresPerKWh] | None:
    """Water consumed at the zone's power plants, where the dataset knows it."""
    mean = yearly_means().get(zone)
    return Figure.around(mean.litres, WATER_BOUNDS) if mean and mean.litres else None


class DatasetCarbon:
    """Implements ports.CarbonSource for `zone`."""

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        zone = text(source.parameters, "zone", source.kind)
        if isinstance(zone, Missing):
            return zone
        if source.parameters.get("factorType") == "direct":
            return Missing(
                Reason.NO_INTENSITY,
                "the dataset holds life-cycle factors only; set factorType: lifecycle, or another source",
            )
        mean = yearly_means().get(zone)
        if mean is None:
            return Missing(Reason.NO_INTENSITY, f"the dataset has no zone {zone}; {_nearest(zone)}")
        return Intensity(
            Figure.around(mean.grams, YEARLY_BOUNDS),
            at=now,
            source=f"{mean.source} {mean.zone}, mean of {mean.year}",
            water_at_source=water_at_source(zone),
            tier=IntensityTier.YEARLY,
        )

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:  # noqa: ARG002 - the port's shape
        return no_forecast(source.kind)


def _nearest(zone: str) -> str:
    known = sorted(yearly_means())
    country = zone.split("-", maxsplit=1)[0]
    near = [code for code in known if code == country or code.startswith(f"{country}-")]
    near = near or get_close_matches(zone, known, n=5, cutoff=0.0)
    return f"it has {', '.join(near)}"
