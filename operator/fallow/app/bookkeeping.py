"""Keeps the ledger: loaded once, booked every cycle, stored when hands change, pods go, at intervals and at the end.

What is booked but not stored is booked again after a crash, from the stored marks: nothing is lost or doubled. What
changed hands meanwhile may then be shared out otherwise, so only what is stored is told, and no total ever falls.
"""

import asyncio
import logging
from dataclasses import replace

from fallow.app.catching_up import CatchUp
from fallow.domain.errors import Conflict, WriteError
from fallow.domain.ledger import Ledger, LineKey
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.footprint.appraisal import appraised
from fallow.footprint.bookkeeping import book
from fallow.planner.situations import situations
from fallow.ports import LedgerStore

log = logging.getLogger(__name__)

# Booking so many takes a tenth of a second, for which watches, looks at queues and probes should not wait.
MANY_GPUS = 500


class Bookkeeper:
    """`catch_up` books what was missed before the present is booked; without it the counters alone cover a gap.

    The ledger is stored when hands change, and at each turn of `interval` by the clock, as statuses are renewed.
    """

    def __init__(self, store: LedgerStore, interval: Seconds, catch_up: CatchUp | None = None) -> None:
        self._store = store
        self._interval = interval
        self._catch_up = catch_up
        self._told: Ledger | None = None
        self._now = Instant(0)
        self._ledger: Ledger | None = None
        self._reload = True
        self._trouble = ""
        self._stored_at: Instant | None = None
        self._stored_holders: dict[str, tuple[LineKey, ...]] = {}
        self._pods: frozenset[tuple[str, bool]] = frozenset()
        self._parted = False

    @property
    def ledger(self) -> Ledger | None:
        """The books as of the last cycle; None before the store was read."""
        return self._ledger

    @property
    def told(self) -> Ledger | None:
        """The books as they were last stored: what may be shown, since no restart will take it back."""
        return self._told

    async def book(self, snapshot: Snapshot) -> Ledger | None:
        """Book the snapshot. While the store cannot be read nothing is booked: the marks keep the interval."""
        self._now = snapshot.at
        if self._reload and not await self._load(snapshot.at):
            return self._ledger
        if self._ledger is not None:
            self._ledger = await self._booked(self._ledger, snapshot)
            self._see(snapshot)
            if self._due(self._ledger, snapshot.at):
                await self.store()
        return self._ledger

    async def _booked(self, ledger: Ledger, snapshot: Snapshot) -> Ledger:
        if self._catch_up is not None:
            ledger, is_complete = await self._catch_up.book(ledger, snapshot)
            if not is_complete:
                return ledger
        if len(snapshot.readings.gpus) < MANY_GPUS:
            return _appraised(ledger, snapshot)
        return await asyncio.to_thread(_appraised, ledger, snapshot)

    def _see(self, snapshot: Snapshot) -> None:
        """What a pod served cannot be read again once it is gone: note when one begins to go, and when it has gone."""
        pods = frozenset((pod.uid, pod.deleting) for pod in snapshot.cluster.pods.values() if pod.service is not None)
        self._parted = self._parted or not self._pods <= pods
        self._pods = pods

    async def store(self) -> None:
        """Store now. After a conflict the other writer's books are taken over and booked on from their marks."""
        if self._ledger is None or self._reload:
            return
        try:
            stored = await self._store.save(self._ledger)
        except Conflict:
            log.warning("another writer stored the ledger first; its books are taken over")
            self._reload = True
        except WriteError as error:
            self._complain(f"the ledger was not stored and is kept in memory: {error}")
        else:
            self._remember(stored)
            self._stored_at = self._now

    async def _load(self, now: Instant) -> bool:
        try:
            stored = await self._store.load()
        except WriteError as error:
            self._complain(f"the ledger cannot be read yet, booking waits: {error}")
            return False
        if stored is None:
            # somebody deleted it: totals must not fall, so the books at hand are stored anew
            books = self._ledger or Ledger(since=now, at=now)
            self._ledger, self._stored_at = replace(books, version=""), None
        else:
            self._remember(stored)
        self._reload = False
        return True

    def _complain(self, trouble: str) -> None:
        """Say it once, not every cycle."""
        if trouble != self._trouble:
            log.warning(trouble)
        self._trouble = trouble

    def _remember(self, stored: Ledger) -> None:
        self._trouble = ""
        self._ledger = self._told = stored
        self._stored_at = stored.at
        self._stored_holders = _holders(stored)
        self._parted = False

    def _due(self, ledger: Ledger, now: Instant) -> bool:
        if self._parted or self._stored_at is None or self._turned(self._stored_at, now):
            return True
        return _holders(ledger) != self._stored_holders

    def _turned(self, before: Instant, now: Instant) -> bool:
        return now // self._interval != before // self._interval


def _appraised(ledger: Ledger, snapshot: Snapshot) -> Ledger:
    return appraised(ledger, book(ledger, snapshot), snapshot, situations(snapshot))


def _holders(ledger: Ledger) -> dict[str, tuple[LineKey, ...]]:
    return {uuid: tuple(part.line for part in mark.held) for uuid, mark in ledger.gpus.items()}
