"""The heartbeat of several replicas: the leader runs cycles, a standby none, and a new reign forgets the old one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from fallow.app import loop as loops
from fallow.app.bookkeeping import Bookkeeper
from fallow.app.cycle import Cycle, Sources
from fallow.app.loop import Loop, Reign
from fallow.domain.units import Seconds
from tests.support.builders import BF16, policy, service
from tests.support.plant import Listener, Plant


@dataclass
class Told:
    """A leader as the test says."""

    term: int | None = 0
    released: bool = False

    @property
    def leads(self) -> bool:
        return self.term is not None

    async def run(self) -> None:
        """Nothing to renew."""

    async def release(self) -> None:
        self.released = True


class Replica:
    """One process on a plant; `begun` are its reigns."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.leader = Told()
        self.begun: list[Reign] = []
        self.listener = Listener()
        self.loop = Loop(self._begin, self._resync, self.leader, interval=15)

    async def step(self) -> None:
        self.plant.settle()
        self.plant.clock.now += 15
        await self.loop.step()

    def _begin(self) -> Reign:
        plant = self.plant
        keeper = Bookkeeper(plant.store, Seconds(300))
        sources = Sources(plant.cluster, plant.metrics, plant.carbon)
        cycle = Cycle(sources, keeper, [self.listener], window=Seconds(120), clock=plant.clock)
        self.begun.append(Reign(cycle, keeper))
        return self.begun[-1]

    async def _resync(self) -> None:
        """The fake cluster is never out of date."""


def replica() -> Replica:
    return Replica(Plant(service(BF16), policy()))


async def test_a_replica_that_leads_runs_cycles() -> None:
    one = replica()
    await one.step()
    assert len(one.listener.heard) == 1
    assert one.loop.age is not None


async def test_a_standby_reads_books_and_writes_nothing() -> None:
    one = replica()
    one.leader.term = None
    await one.step()
    assert (one.begun, one.listener.heard, one.plant.metrics.reads, one.plant.store.saves) == ([], [], [], 0)
    assert (one.plant.cluster.changes, one.loop.age) == ([], None)


async def test_a_replica_that_loses_the_lead_stops_and_is_not_taken_for_stalled() -> None:
    one = replica()
    await one.step()
    one.leader.term = None
    await one.step()
    assert len(one.listener.heard) == 1
    assert one.loop.age is None


async def test_a_reign_that_nobody_interrupted_goes_on_with_what_it_remembers() -> None:
    one = replica()
    for term in (3, None, 3):
        one.leader.term = term
        await one.step()
    assert len(one.begun) == 1


async def test_a_new_reign_remembers_nothing_of_the_old_one() -> None:
    one = replica()
    for term in (3, None, 5):
        one.leader.term = term
        await one.step()
    assert len(one.begun) == 2
    assert one.begun[1].bookkeeper.ledger is not None


async def test_the_end_of_a_leader_stores_its_books_and_gives_the_lead_up() -> None:
    one = replica()
    await one.step()
    saves = one.plant.store.saves
    await one.loop.close()
    assert (one.plant.store.saves, one.leader.released) == (saves + 1, True)


async def test_the_end_of_a_replica_that_lost_the_lead_stores_nothing() -> None:
    one = replica()
    await one.step()
    one.leader.term = None
    saves = one.plant.store.saves
    await one.loop.close()
    assert one.plant.store.saves == saves


async def test_a_replica_stands_for_election_once_it_has_seen_the_cluster() -> None:
    one = replica()
    one.loop.synced.set()
    await one.loop.lead()


async def test_who_hurries_it_does_not_wait_until_changes_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "SETTLE_SECONDS", 60.0)
    one = replica()
    one.loop.hurry()
    await asyncio.wait_for(one.loop._rest(time.monotonic()), 5)
    one.loop.poke()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.loop._rest(time.monotonic()), 0.2)
