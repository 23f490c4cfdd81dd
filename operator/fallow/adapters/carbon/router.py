"""Sends each zone's question to the adapter of its kind, asks no more often than needed, and bridges short outages.

Questions run beside the cycle: one that takes longer than `patience` is answered with what was known before, and its
answer is there for a later cycle.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.zones import INTENSITY_BOUNDS, Forecast, Intensity, IntensitySource, IntensityTier, Ratio
from fallow.ports import CarbonSource, PueSource

log = logging.getLogger(__name__)

# a question a minute is plenty for what is near, and for what has just failed
REFRESH = Seconds(60)
# how long a last known value stands in for a source that fails
KEEP = Seconds(7200)
# how much of a cycle one slow source may take
PATIENCE = Seconds(1)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often a source is asked: no more often than its data change, nor than its owner wants to be asked."""

    intensity: Seconds = REFRESH
    forecast: Seconds = REFRESH


class _Line(Generic[T]):
    """One question to one source: the last answer and when it was asked for, the last good one, the one under way."""

    def __init__(self) -> None:
        self.asked: Instant | None = None
        self.answer: T | Missing = Missing(Reason.SOURCE_UNREACHABLE, "asked for the first time; no answer yet")
        self.good: T | None = None
        self.good_at = Instant(0)
        self.task: asyncio.Task[T | Missing] | None = None

    async def ask(
        self, now: Instant, every: Seconds, patience: Seconds, question: Callable[[], Awaitable[T | Missing]]
    ) -> None:
        if self.task is None and self._is_due(now, every):
            self.asked, self.task = now, asyncio.ensure_future(question())
        task = self.task
        if task is None:
            return
        await asyncio.wait({task}, timeout=patience)
        if task.done() and self.task is task:
            self.task = None
            self._take(task)

    def _is_due(self, now: Instant, every: Seconds) -> bool:
        pause = min(every, REFRESH) if isinstance(self.answer, Missing) else every
        return self.asked is None or not 0 <= now - self.asked < pause

    def _take(self, task: asyncio.Task[T | Missing]) -> None:
        error = task.exception()
        if error is not None:
            log.error("a source failed in a way that it should not", exc_info=error)
            self.answer = Missing(Reason.BAD_ANSWER, f"the adapter failed: {type(error).__name__}")
            return
        self.answer = task.result()
        if not isinstance(self.answer, Missing) and self.asked is not None:
            self.good, self.good_at = self.answer, self.asked

    def is_forgotten(self, now: Instant, keep: Seconds) -> bool:
        return self.task is None and self.asked is not None and now - self.asked > keep


class CarbonRouter:
    """Implements ports.CarbonSource. A value that stands in for a failed answer says so and has wider bounds."""

    def __init__(
        self,
        sources: Mapping[str, CarbonSource],
        *,
        cadences: Mapping[str, Cadence] | None = None,
        keep: Seconds = KEEP,
        patience: Seconds = PATIENCE,
    ) -> None:
        self._sources = sources
        self._cadences = cadences or {}
        self._keep = keep
        self._patience = patience
        self._present: dict[str, _Line[Intensity]] = {}
        self._ahead: dict[str, _Line[Forecast]] = {}

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        adapter = self._sources.get(source.kind)
        if adapter is None:
            return self._unknown(source)
        line = _line(self._present, _key(source), now, self._keep)
        every = self._cadences.get(source.kind, Cadence()).intensity
        await line.ask(now, every, self._patience, lambda: adapter.intensity(now, source))
        return self._bridged(now, line)

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:
        """While a source fails its last forecast stands, as long as it reaches beyond the present."""
        adapter = self._sources.get(source.kind)
        if adapter is None:
            return self._unknown(source)
        line = _line(self._ahead, _key(source), now, self._keep)
        every = self._cadences.get(source.kind, Cadence()).forecast
        await line.ask(now, every, self._patience, lambda: adapter.forecast(now, source))
        if isinstance(line.answer, Missing) and line.good is not None and now < line.good.until:
            return line.good
        return line.answer

    async def close(self) -> None:
        await _cancelled([line.task for line in self._present.values()])
        await _cancelled([line.task for line in self._ahead.values()])

    def _bridged(self, now: Instant, line: _Line[Intensity]) -> Intensity | Missing:
        answer, good = line.answer, line.good
        if isinstance(answer, Intensity) or good is None or now - line.good_at > self._keep:
            return answer
        return replace(
            good,
            grams=good.grams.spread(INTENSITY_BOUNDS.low, 1.0, INTENSITY_BOUNDS.high),
            source=f"last known, {answer.reason}: {good.source}",
            # what was only ever expected is not called a value that is known
            tier=good.tier if good.tier is IntensityTier.FORECAST else IntensityTier.CACHED,
            instead_of=answer,
        )

    def _unknown(self, source: IntensitySource) -> Missing:
        words = f"no source of kind {source.kind!r}; there are {', '.join(sorted(self._sources))}"
        return Missing(Reason.NO_INTENSITY, words)


class PueRouter:
    """Implements ports.PueSource: the same pace and patience for a facility's meter, without a bridge."""

    def __init__(self, source: PueSource, *, patience: Seconds = PATIENCE) -> None:
        self._source = source
        self._patience = patience
        self._lines: dict[str, _Line[Ratio]] = {}

    async def pue(self, now: Instant, query: str) -> Ratio | Missing:
        line = _line(self._lines, query, now, KEEP)
        await line.ask(now, REFRESH, self._patience, lambda: self._source.pue(now, query))
        return line.answer

    async def close(self) -> None:
        await _cancelled([line.task for line in self._lines.values()])


def _key(source: IntensitySource) -> str:
    return json.dumps([source.kind, dict(source.parameters)], sort_keys=True, default=str)


def _line(lines: dict[str, _Line[T]], key: str, now: Instant, keep: Seconds) -> _Line[T]:
    """The line of a question; those that nobody asks any more are forgotten, since zones are edited and deleted."""
    for old in [name for name, line in lines.items() if name != key and line.is_forgotten(now, keep)]:
        del lines[old]
    return lines.setdefault(key, _Line())


async def _cancelled(tasks: list[asyncio.Task[T] | None]) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
