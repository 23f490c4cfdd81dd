"""Laws of the books over random troubles: kills, outages, changes of leader, resets, duplicates, wrong clocks.

What a counter saw is booked once and exactly; what none saw lies within the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.app.bookkeeping import Bookkeeper
from fallow.app.catching_up import CatchUp
from fallow.app.leadership import PERIOD, Elected
from fallow.domain.ledger import Account, Ledger
from fallow.domain.readings import Readings
from fallow.domain.snapshots import ClusterView, Snapshot
from fallow.domain.units import Seconds
from tests.support.lease import InMemoryLease
from tests.support.ledger import InMemoryLedgerStore
from tests.support.metered import gpu, later, node
from tests.support.recorded import RecordedSource

GPUS = ("GPU-a", "GPU-b", "GPU-c")
HOLDERS = (None, "llm/chat-bf16-abc-x2x4z", "batch/train-0")
SCRAPE = 30.0
START = 1e8

step = st.fixed_dictionaries(
    {
        "dt": st.one_of(st.floats(1, 60), st.floats(60, 1500)),
        "watts": st.tuples(*(st.floats(40, 690) for _ in GPUS)),
        "holders": st.tuples(*(st.sampled_from(HOLDERS) for _ in GPUS)),
        "resets": st.sets(st.sampled_from(GPUS), max_size=1),
        "scraped": st.sampled_from([True, True, True, False]),
        "reachable": st.sampled_from([True, True, True, False]),
        "looked": st.sampled_from([True, True, False]),
        "killed": st.sampled_from([False, False, True]),
        "stored": st.booleans(),
        "twice": st.booleans(),
        "clock": st.sampled_from([0.0, 0.0, 0.0, -90.0, 45.0, 300.0, -1800.0, 7200.0, -100_000.0]),
    }
)


@dataclass
class Truth:
    """A GPU as it is: what it used, and what its counter shows."""

    used: float = 0.0
    counter: float = START
    resets: int = 0


@dataclass
class World:
    """GPUs under a source that scrapes them; processes of Fallow on one store."""

    remembers: bool = True
    source: RecordedSource = field(default_factory=RecordedSource)
    store: InMemoryLedgerStore = field(default_factory=InMemoryLedgerStore)
    truth: dict[str, Truth] = field(default_factory=lambda: {uuid: Truth() for uuid in GPUS})
    now: float = 0.0
    used_at: dict[float, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source.remembers = self.remembers
        self.scrape((None,) * len(GPUS))

    def process(self) -> Bookkeeper:
        return Bookkeeper(self.store, Seconds(300), CatchUp(self.source, Seconds(120)))

    def live(self, one: dict) -> None:  # type: ignore[type-arg]
        for uuid in one["resets"]:
            if not self.truth[uuid].resets:
                self.truth[uuid].counter, self.truth[uuid].resets = 0.0, 1
        left = one["dt"]
        while left > 1e-9:
            dt = min(left, SCRAPE)
            left -= dt
            self.now += dt
            for (uuid, truth), watts in zip(self.truth.items(), one["watts"], strict=True):
                assert uuid in GPUS
                truth.used += watts * dt
                truth.counter += watts * dt
            if one["scraped"]:
                self.scrape(one["holders"])

    def scrape(self, holders: tuple[str | None, ...]) -> None:
        gpus = [
            gpu(self.now, self.truth[uuid].counter, 300.0, uuid=uuid, holder=holder)
            for uuid, holder in zip(GPUS, holders, strict=True)
        ]
        self.source.scrape(Readings(at=later(self.now), gpus={reading.uuid: reading for reading in gpus}))
        self.used_at[round(self.now, 6)] = sum(truth.used for truth in self.truth.values())

    async def snapshot(self, clock: float = 0.0) -> Snapshot:
        now = later(self.now + clock)
        view = ClusterView(nodes={"node-a": node(gpus=len(GPUS))})
        return Snapshot(at=now, cluster=view, readings=await self.source.read(now, None))  # type: ignore[arg-type]

    async def settled(self, keeper: Bookkeeper) -> Ledger:
        """All is well again, until everything is booked."""
        self.source.reachable = True
        calm = {"dt": SCRAPE, "watts": (300.0,) * len(GPUS), "holders": (None,) * len(GPUS)}
        in_step = 0
        # more than the furthest that a clock may have run ahead without being taken for wrong
        for dt in (SCRAPE, 4000.0, *[SCRAPE] * 30):
            self.live({**calm, "dt": dt, "resets": set(), "scraped": True})
            await keeper.book(await self.snapshot())
            in_step = in_step + 1 if self.is_all_in(keeper.ledger) else 0
            if in_step == 3:
                break
        assert keeper.ledger is not None
        return keeper.ledger

    def is_all_in(self, ledger: Ledger | None) -> bool:
        """Whether the ledger has what the last scrape showed."""
        return ledger is not None and {ledger.at, *(mark.at for mark in ledger.gpus.values())} == {later(self.now)}


def total(ledger: Ledger) -> Account:
    return sum((book.total.account for book in ledger.books.values()), start=Account())


async def history(world: World, steps: list[dict], *, resets: bool) -> Ledger:  # type: ignore[type-arg]
    keeper = world.process()
    await keeper.book(await world.snapshot())
    await keeper.store()
    for one in steps:
        world.live(one if resets else {**one, "resets": set()})
        world.source.reachable = one["reachable"]
        if one["looked"]:
            seen = await world.snapshot(one["clock"])
            await keeper.book(seen)
            if one["twice"]:
                await keeper.book(seen)
        if one["stored"]:
            await keeper.store()
        if one["killed"]:
            keeper = world.process()
    return await world.settled(keeper)


@settings(max_examples=20, deadline=None)
@given(st.lists(step, min_size=1, max_size=10), st.booleans())
async def test_what_the_counters_saw_is_booked_exactly_once(steps: list[dict], remembers: bool) -> None:  # type: ignore[type-arg]
    world = World(remembers)
    account = total(await history(world, steps, resets=False))
    assert account.energy.best.value == pytest.approx(world.used_at[round(world.now, 6)], rel=1e-9)
    assert account.modelled.value == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(step, min_size=1, max_size=10), st.booleans())
async def test_the_bounds_hold_the_truth_where_no_counter_saw_it(steps: list[dict], remembers: bool) -> None:  # type: ignore[type-arg]
    world = World(remembers)
    tame = [{**one, "clock": 0.0} for one in steps]
    account = total(await history(world, tame, resets=True))
    truth = sum(one.used for one in world.truth.values())
    counted = account.energy.best.value - account.modelled.value
    assert counted <= truth * (1 + 1e-9)
    assert account.energy.low.value <= truth <= account.energy.high.value
    if not any(one.resets for one in world.truth.values()):
        assert counted == pytest.approx(truth, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.lists(step, min_size=1, max_size=10))
async def test_no_total_ever_falls(steps: list[dict]) -> None:  # type: ignore[type-arg]
    world = World()
    keeper = world.process()
    before: Ledger | None = None
    for one in steps:
        world.live(one)
        world.source.reachable = one["reachable"]
        after = await keeper.book(await world.snapshot(one["clock"]))
        assert after is not None
        for line, book in before.books.items() if before else ():
            assert after.books[line].total.account.energy.best >= book.total.account.energy.best
        before = after


moment = st.fixed_dictionaries(
    {
        "dt": st.floats(5, 400),
        "watts": st.tuples(*(st.floats(40, 690) for _ in GPUS)),
        "holders": st.tuples(*(st.sampled_from(HOLDERS) for _ in GPUS)),
        "cut_off": st.sampled_from([None, None, 0, 1]),
        "crashes": st.sampled_from([None, None, None, 0, 1]),
        "ends": st.sampled_from([None, None, None, 0, 1]),
    }
)


class Replica:
    """A process that books while it leads; every reign begins with a new bookkeeper, as in the operator's loop."""

    def __init__(self, world: World, lease: InMemoryLease, name: str) -> None:
        self._world = world
        self.leader = Elected(lease, name, clock=lambda: world.now, wall=lambda: world.now)
        self._keeper: Bookkeeper | None = None
        self._term: int | None = None

    async def look(self, snapshot: Snapshot) -> Ledger | None:
        term = self.leader.term
        if term is None:
            return None
        if self._keeper is None or term != self._term:
            self._keeper, self._term = self._world.process(), term
        return await self._keeper.book(snapshot)

    async def end(self) -> None:
        if self._keeper is not None and self.leader.leads:
            await self._keeper.store()
        await self.leader.release()


@settings(max_examples=20, deadline=None)
@given(st.lists(moment, min_size=1, max_size=30))
async def test_a_change_of_leader_loses_nothing_and_doubles_nothing(moments: list[dict]) -> None:  # type: ignore[type-arg]
    """Two replicas; one is cut off from the lease, crashes or ends in good order at any moment."""
    world, lease = World(), InMemoryLease()
    replicas = [Replica(world, lease, name) for name in ("one", "other")]
    await replicas[0].leader.step()
    await replicas[0].look(await world.snapshot())
    for number, one in enumerate(moments):
        world.live({**one, "resets": set(), "scraped": True})
        for index, replica in enumerate(replicas):
            if one["crashes"] == index:
                replicas[index] = Replica(world, lease, f"{index}-{number}")
            elif one["ends"] == index:
                await replica.end()
            elif one["cut_off"] != index:
                await replica.leader.step()
        assert sum(replica.leader.leads for replica in replicas) <= 1
        seen = await world.snapshot()
        for replica in replicas:
            await replica.look(seen)
    for _ in range(60):
        world.live({**moments[-1], "dt": PERIOD, "resets": set(), "scraped": True})
        for replica in replicas:
            await replica.leader.step()
    world.scrape(moments[-1]["holders"])
    books = [found for replica in replicas if (found := await _caught_up(world, replica)) is not None]
    (ledger,) = books
    assert total(ledger).energy.best.value == pytest.approx(world.used_at[round(world.now, 6)], rel=1e-9)


async def _caught_up(world: World, replica: Replica) -> Ledger | None:
    found = None
    for _ in range(20):
        found = await replica.look(await world.snapshot())
        if world.is_all_in(found):
            break
    return found


async def test_an_old_leader_that_wakes_up_cannot_store_over_the_new_one() -> None:
    """The last defence: the store refuses whoever has not read what is there."""
    world = World()
    old, new = world.process(), world.process()
    await old.book(await world.snapshot())
    await new.book(await world.snapshot())
    world.live({"dt": 60.0, "watts": (300.0,) * 3, "holders": (None,) * 3, "resets": set(), "scraped": True})
    await new.book(await world.snapshot())
    await new.store()
    await old.book(await world.snapshot())
    await old.store()
    world.live({"dt": 60.0, "watts": (300.0,) * 3, "holders": (None,) * 3, "resets": set(), "scraped": True})
    await old.book(await world.snapshot())
    await old.store()
    assert world.store.stored is not None
    assert total(world.store.stored).energy.best.value == pytest.approx(120 * 900)
