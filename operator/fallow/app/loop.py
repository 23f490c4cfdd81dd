"""The operator's heartbeat: a cycle at every interval, or sooner when an object of ours changed, while it leads."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fallow.app.bookkeeping import Bookkeeper
from fallow.app.cycle import Cycle
from fallow.app.leadership import Leader

log = logging.getLogger(__name__)

# Changes arriving together are decided on together.
SETTLE_SECONDS = 1.0
CYCLE_LIMIT_SECONDS = 120.0
# how soon a standby notices that it leads
STANDBY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Reign:
    """What must not outlive a reign, since another replica may have decided and booked meanwhile."""

    cycle: Cycle
    bookkeeper: Bookkeeper


class Loop:
    """Runs cycles until cancelled. `synced` is set once every watched kind has been listed."""

    def __init__(
        self, begin: Callable[[], Reign], resync: Callable[[], Awaitable[None]], leader: Leader, *, interval: float
    ) -> None:
        self._begin = begin
        self._resync = resync
        self._leader = leader
        self._interval = interval
        self._reign: Reign | None = None
        self._term: int | None = None
        self._changed = asyncio.Event()
        self._hurried = False
        self._last_success: float | None = None
        self.synced = asyncio.Event()

    def poke(self) -> None:
        """Something was declared anew: decide soon."""
        self._changed.set()

    def hurry(self) -> None:
        """Somebody waits: decide now."""
        self._hurried = True
        self._changed.set()

    async def run(self) -> None:
        await self.synced.wait()
        while True:
            started = time.monotonic()
            try:
                await asyncio.wait_for(self._resync(), CYCLE_LIMIT_SECONDS)
                await asyncio.wait_for(self.step(), CYCLE_LIMIT_SECONDS)
            except Exception:
                log.exception("a cycle failed; every service stays as it is and the next cycle tries again")
            await self._rest(started)

    async def lead(self) -> None:
        """Stand for election; a replica that has not seen the cluster yet could not lead."""
        await self.synced.wait()
        await self._leader.run()

    async def step(self) -> None:
        """One cycle, where this replica leads."""
        reign = self._present_reign()
        if reign is not None:
            await reign.cycle.run()
            self._last_success = time.monotonic()

    async def close(self) -> None:
        if self._reign is not None and self._leader.leads:
            await self._reign.bookkeeper.store()
        await self._leader.release()

    @property
    def leads(self) -> bool:
        return self._leader.leads

    @property
    def age(self) -> float | None:
        """Seconds since the last cycle that ended well; None before the first, and on a standby."""
        return None if self._last_success is None else time.monotonic() - self._last_success

    def _present_reign(self) -> Reign | None:
        """The reign goes on where nobody led in between, as after an outage of the API server."""
        term = self._leader.term
        if term is None:
            self._last_success = None
            return None
        if self._reign is None or term != self._term:
            self._reign, self._term = self._begin(), term
        return self._reign

    async def _rest(self, started: float) -> None:
        wanted = self._interval if self._leader.leads else STANDBY_SECONDS
        left = max(wanted - (time.monotonic() - started), 0.1)
        try:
            await asyncio.wait_for(self._changed.wait(), left)
        except TimeoutError:
            return
        if not self._hurried:
            await asyncio.sleep(min(SETTLE_SECONDS, self._interval))
        self._hurried = False
        self._changed.clear()
