"""One of several replicas leads, by a claim that it renews; the others stand by, with everything watched already.

A replica that cannot renew stops long before another one takes over. Clocks are never compared between replicas: each
measures by its own for how long the claim has not changed.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from fallow.domain.errors import Conflict, WriteError
from fallow.domain.tenure import Tenure
from fallow.domain.units import Instant, Seconds
from fallow.ports import Lease

log = logging.getLogger(__name__)

# a claim that was not renewed for so long may be taken over
DURATION = Seconds(30)
# a leader that could not renew for so long stops; a write under way ends within its own 10 s
DEADLINE = Seconds(20)
PERIOD = Seconds(5)
NEVER = float("-inf")


class Leader(Protocol):
    """`term` numbers the present reign, None while another one leads; the same again: nobody led in between."""

    @property
    def leads(self) -> bool: ...

    @property
    def term(self) -> int | None: ...

    async def run(self) -> None: ...

    async def release(self) -> None: ...


class Alone:
    """Leads without an election: the only replica."""

    leads = True
    term = 0

    async def run(self) -> None:
        """Nothing to renew."""

    async def release(self) -> None:
        """Nothing to give up."""


class Elected:
    """Leads while it holds the lease. `clock` gives seconds that only go forward, `wall` Unix seconds."""

    def __init__(
        self,
        lease: Lease,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._lease = lease
        self._identity = identity
        self._clock = clock
        self._wall = wall
        self._seen: tuple[str, float] = ("", NEVER)
        self._until = NEVER
        self._term: int | None = None
        self._led = False
        self._trouble = ""

    @property
    def leads(self) -> bool:
        return self._clock() < self._until

    @property
    def term(self) -> int | None:
        return self._term if self.leads else None

    async def run(self) -> None:
        while True:
            await self.step()
            await asyncio.sleep(PERIOD)

    async def step(self) -> None:
        """Renew the claim, or take it where nobody renews it."""
        try:
            await self._claim()
        except Conflict:
            pass  # another one wrote first: the next look tells who
        except WriteError as error:
            self._complain(f"the lease could not be renewed: {error}")
        except Exception:
            log.exception("the lease could not be renewed")
        else:
            self._trouble = ""
        if self.leads != self._led:
            self._led = self.leads
            log.info("this replica leads" if self._led else "this replica stands by")

    async def release(self) -> None:
        """Give the claim up, so that another one need not wait for it to run out."""
        if not self.leads:
            return
        self._until = NEVER
        try:
            held = await self._lease.read()
            if held is not None and held.holder == self._identity:
                await self._lease.write(replace(held, holder="", renewed=self._now()))
        except WriteError as error:
            log.warning("the lease was not given up and runs out by itself: %s", error)

    async def _claim(self) -> None:
        held = await self._lease.read()
        if held is not None and held.version != self._seen[0]:
            self._seen = (held.version, self._clock())
        if held is not None and held.holder not in {"", self._identity} and not self._has_run_out(held):
            self._until = NEVER
            return
        started = self._clock()
        written = await self._lease.write(self._mine(held))
        self._until, self._term = started + DEADLINE, written.terms

    def _has_run_out(self, held: Tenure) -> bool:
        return self._clock() - self._seen[1] >= max(held.duration, DURATION)

    def _mine(self, held: Tenure | None) -> Tenure:
        now = self._now()
        if held is not None and held.holder == self._identity:
            return replace(held, renewed=now)
        terms, version = (held.terms + 1, held.version) if held else (0, "")
        return Tenure(self._identity, acquired=now, renewed=now, duration=DURATION, terms=terms, version=version)

    def _now(self) -> Instant:
        return Instant(self._wall())

    def _complain(self, trouble: str) -> None:
        """Say it once, not at every try."""
        if trouble != self._trouble:
            log.warning(trouble)
        self._trouble = trouble
