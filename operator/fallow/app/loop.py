"""The operator's heartbeat: a cycle at every interval, or sooner when an object of ours changed."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from fallow.app.bookkeeping import Bookkeeper
from fallow.app.cycle import Cycle

log = logging.getLogger(__name__)

# Changes arriving together are decided on together.
SETTLE_SECONDS = 1.0
CYCLE_LIMIT_SECONDS = 120.0


class Loop:
    """Runs cycles until cancelled. `synced` is set once every watched kind has been listed."""

    def __init__(
        self, cycle: Cycle, bookkeeper: Bookkeeper, resync: Callable[[], Awaitable[None]], *, interval: float
    ) -> None:
        self._cycle = cycle
        self._bookkeeper = bookkeeper
        self._resync = resync
        self._interval = interval
        self._changed = asyncio.Event()
        self._last_success: float | None = None
        self.synced = asyncio.Event()

    def poke(self) -> None:
        """Something was declared anew: decide soon."""
        self._changed.set()

    async def run(self) -> None:
        await self.synced.wait()
        while True:
            started = time.monotonic()
            try:
                await asyncio.wait_for(self._resync(), CYCLE_LIMIT_SECONDS)
                await asyncio.wait_for(self._cycle.run(), CYCLE_LIMIT_SECONDS)
                self._last_success = time.monotonic()
            except Exception:
                log.exception("a cycle failed; every service stays as it is and the next cycle tries again")
            await self._rest(started)

    async def close(self) -> None:
        await self._bookkeeper.store()

    @property
    def age(self) -> float | None:
        """Seconds since the last cycle that ended well; None before the first."""
        return None if self._last_success is None else time.monotonic() - self._last_success

    async def _rest(self, started: float) -> None:
        left = max(self._interval - (time.monotonic() - started), 0.1)
        try:
            await asyncio.wait_for(self._changed.wait(), left)
        except TimeoutError:
            return
        await asyncio.sleep(min(SETTLE_SECONDS, self._interval))
        self._changed.clear()
