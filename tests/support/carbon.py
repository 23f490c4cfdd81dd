"""A carbon source in memory: answers what it was told, and counts how often it was asked."""

from __future__ import annotations

from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.zones import INTENSITY_BOUNDS, Intensity, IntensitySource


class InMemoryCarbonSource:
    """`grams` is the present intensity, or why there is none."""

    def __init__(self, grams: float | Missing = 300.0) -> None:
        self.grams = grams
        self.asked = 0

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        self.asked += 1
        if isinstance(self.grams, Missing):
            return self.grams
        if not source.parameters:
            return Missing(Reason.BAD_ANSWER, f"a {source.kind} source needs parameters")
        return Intensity(Figure.around(GramsPerKWh(self.grams), INTENSITY_BOUNDS), at=now, source="in memory")
