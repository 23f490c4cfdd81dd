"""The Prometheus of the run: scrapes while it is up, answers while it can be reached, and remembers what it saw."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from fallow.domain.figures import Missing
from fallow.domain.readings import Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.ports import ReadScope

OUTAGE = Missing(Reason.SOURCE_UNREACHABLE, "Prometheus does not answer")
# An older sample is stale.
LOOKBACK = Seconds(60)


class Prometheus:
    """A `MetricSource`. While it is `down` nothing is scraped; while it is `mute` nobody can ask."""

    def __init__(self, scrape: Callable[[], Readings]) -> None:
        self._scrape = scrape
        self._kept: list[Readings] = []
        self.down_until = 0.0
        self.mute_until = 0.0
        self.queries = 0

    def scrape(self, now: Instant) -> None:
        if now >= self.down_until:
            self._kept.append(self._scrape())

    async def read(self, now: Instant, _: ReadScope) -> Readings:
        if now < max(self.down_until, self.mute_until):
            return Readings(at=now, engine_fault=OUTAGE, gpu_fault=OUTAGE, host_fault=OUTAGE)
        return self._at(now)

    async def history(self, times: Sequence[Instant], _: ReadScope) -> Sequence[Readings] | Missing:
        return [self._at(at) for at in times]

    async def close(self) -> None:
        return None

    def _at(self, at: Instant) -> Readings:
        place = bisect_right(self._kept, at, key=lambda readings: readings.at)
        if place == 0 or at - self._kept[place - 1].at > LOOKBACK:
            return Readings(at=at)
        return self._kept[place - 1]
