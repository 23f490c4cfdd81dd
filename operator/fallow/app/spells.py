"""Remembers what was read of each zone, so that energy that is booked late is priced by its own time."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fallow.domain.figures import Missing
from fallow.domain.units import Instant
from fallow.domain.zones import Spell, ZoneReading

# a week of values every five minutes, the fastest cadence of the providers
KEPT = 2016


class Spells:
    """Lives as long as the process: after a restart the time before it is priced by the first value, more widely."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[Spell]] = {}
        self._shown: dict[str, tuple[Spell, ...]] = {}

    def note(self, now: Instant, zones: Mapping[str, ZoneReading]) -> Mapping[str, tuple[Spell, ...]]:
        """Take in what was read now; a new spell begins where anything changed that energy is priced by."""
        for name in [name for name in self._kept if name not in zones]:
            del self._kept[name], self._shown[name]
        for name, reading in zones.items():
            kept = self._kept.setdefault(name, deque(maxlen=KEPT))
            while kept and kept[-1].since > now:  # noted before the clock was put back
                kept.pop()
            if not kept or _priced_by(kept[-1].reading) != _priced_by(reading):
                # what nothing is priced by is not kept: a week of forecasts would fill tens of megabytes
                kept.append(Spell(now, replace(reading, forecast=None, marginal=None, errors=(), passed_over=())))
                self._shown[name] = tuple(kept)
        return dict(self._shown)


def _priced_by(reading: ZoneReading) -> tuple[Any, ...]:
    """All of a reading but its forecast, its marginal value and the times of its samples."""
    intensity = reading.intensity
    grams = None if isinstance(intensity, Missing) else (intensity.grams, intensity.kind)
    return reading.zone, reading.pue, reading.water_at_source, grams
