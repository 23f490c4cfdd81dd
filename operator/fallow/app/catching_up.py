"""After a time without readings: asks the source for what was missed, some of it in each cycle, oldest first.

Until that is booked the present is not, since marks only move forward. What the source does not give is left to the
counters, whose next difference covers the time.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from fallow.app.past import Past
from fallow.app.scope import scope_of
from fallow.domain.figures import Missing
from fallow.domain.ledger import Filling, Gap, Ledger
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.footprint.bookkeeping import book
from fallow.ports import MetricSource

log = logging.getLogger(__name__)

# steps of one outage: one in 30 s of two hours, one in six minutes of a day
TIMES_AT_MOST = 240
# and of one cycle
TIMES_AT_ONCE = 20
# a shorter step shows nothing more: exporters refresh every 30 s
SHORTEST_STEP = Seconds(30)
# how far back is asked for; Prometheus keeps 15 days unless told otherwise
REACH = Seconds(7 * 86_400)
# a source that cannot tell of the past in so many cycles is not waited for any longer
TRIES = 5
# gaps that are remembered, for reports
KEPT_GAPS = 64


class CatchUp:
    """`gap` is the age of the newest booking from which on something was missed: the source's window."""

    def __init__(self, source: MetricSource, gap: Seconds) -> None:
        self._source = source
        self._gap = gap
        self._outage: _Outage | None = None
        self._known_until = Instant(0)

    async def book(self, ledger: Ledger, present: Snapshot) -> tuple[Ledger, bool]:
        """The ledger with more of what was missed, and whether nothing is missed any longer."""
        booked = _booked_until(ledger, present)
        if booked is None:
            return ledger, True
        if self._outage is None:
            since = booked if self._known_until > present.at else max(booked, self._known_until)
            if present.at - since <= self._gap:
                return ledger, True
            self._outage = _Outage(since, present.at)
        ledger = await self._more(self._outage, ledger, present)
        if self._outage.times:
            return ledger, False
        ledger = self._outage.closed(ledger)
        self._known_until, self._outage = self._outage.end, None
        # else catching up took so long that something was missed again
        return ledger, present.at - self._known_until <= self._gap

    async def _more(self, outage: "_Outage", ledger: Ledger, present: Snapshot) -> Ledger:
        found = await self._source.history(list(islice(outage.times, TIMES_AT_ONCE)), scope_of(present.cluster))
        if isinstance(found, Missing):
            outage.failed(found)
            return ledger
        ledger = replace(ledger, at=min(ledger.at, outage.until))
        for readings in found:
            outage.times.popleft()
            ledger = book(ledger, outage.past.snapshot(readings, ledger, present))
            ledger = outage.noted(ledger, readings.at, Filling.READ_BACK if readings.gpus else Filling.COUNTERS)
            # a pod that the next look shows first has begun since this one
            ledger = replace(ledger, at=readings.at)
            # in a large cluster each of them takes a second, and the lease is to be renewed meanwhile
            await asyncio.sleep(0)
        return ledger


class _Outage:
    """`times` are still to be asked for; up to `until` the outage is booked."""

    def __init__(self, start: Instant, end: Instant) -> None:
        self.start, self.end, self.until = start, end, start
        self.times = deque(_steps(max(start, Instant(end - REACH)), end))
        self.past = Past(start)
        self._filled = Filling.COUNTERS
        self._tries = 0

    def failed(self, fault: Missing) -> None:
        self._tries += 1
        if fault.reason is Reason.NO_HISTORY or self._tries >= TRIES:
            if fault.reason is not Reason.NO_HISTORY:
                log.warning("what was missed cannot be read back and is left to the counters: %s", fault)
            self._filled = Filling.COUNTERS
            self.times.clear()

    def noted(self, ledger: Ledger, end: Instant, filled: Filling) -> Ledger:
        """With the next stretch among the gaps; it prolongs the last one where it was filled alike."""
        gaps, last = ledger.gaps, ledger.gaps[-1] if ledger.gaps else None
        if last is not None and last.end == self.until and last.filled is filled:
            gaps, stretch = gaps[:-1], replace(last, end=end)
        else:
            stretch = Gap(self.until, end, filled)
        self.until, self._filled = end, filled
        return replace(ledger, gaps=(*gaps, stretch)[-KEPT_GAPS:])

    def closed(self, ledger: Ledger) -> Ledger:
        ledger = self.noted(ledger, self.end, self._filled)
        log.info("nothing was read for %.0f s; what was missed is booked now", self.end - self.start)
        return ledger


def _booked_until(ledger: Ledger, present: Snapshot) -> Instant | None:
    """The newest booking of the GPUs that are read now; None where none of them was booked before."""
    marks = (ledger.gpus.get(uuid) for uuid in present.readings.gpus)
    return max((mark.at for mark in marks if mark is not None), default=None)


def _steps(start: Instant, end: Instant) -> Iterator[Instant]:
    """Even steps between the ends; the last end is the present, which is read anyway."""
    count = int(min((end - start) / SHORTEST_STEP, TIMES_AT_MOST))
    return (Instant(start + (end - start) * place / count) for place in range(1, count))
