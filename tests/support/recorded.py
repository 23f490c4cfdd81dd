"""A metric source with a memory, as Prometheus has one: what was scraped while it ran can be asked for later."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from fallow.domain.figures import Missing
from fallow.domain.readings import Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.ports import ReadScope

WINDOW = 120.0
DOWN = Missing(Reason.SOURCE_UNREACHABLE, "connection refused")


class RecordedSource:
    """Each scrape is one `Readings`. `reachable` is the way to it, `remembers` whether it keeps the past.

    `at_once` is how many times one question about the past may have.
    """

    def __init__(self) -> None:
        self.scrapes: list[Readings] = []
        self.reachable = True
        self.remembers = True
        self.at_once = 1000
        self.asked: list[Instant] = []

    @property
    def queries(self) -> int:
        return 1

    def scrape(self, readings: Readings) -> None:
        self.scrapes.append(readings)

    async def read(self, now: Instant, scope: ReadScope) -> Readings:  # noqa: ARG002
        return self._at(now) if self.reachable else Readings(at=now, gpu_fault=DOWN, engine_fault=DOWN)

    async def history(self, times: Sequence[Instant], scope: ReadScope) -> Sequence[Readings] | Missing:  # noqa: ARG002
        self.asked += times
        if not self.reachable:
            return DOWN
        if not self.remembers:
            return Missing(Reason.NO_HISTORY, "the present only")
        return [self._at(time) for time in times[: self.at_once]]

    async def close(self) -> None:
        """Nothing is open."""

    def _at(self, now: Instant) -> Readings:
        """The newest scrape of the window; its samples keep their own time."""
        place = bisect_right(self.scrapes, now, key=lambda one: one.at)
        newest = self.scrapes[place - 1] if place else None
        if newest is None or newest.at <= now - WINDOW:
            return Readings(at=now)
        return replace(newest, at=now)
