"""The ledger across rounds, restarts and a store that fails: every joule once, totals that never fall."""

import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.app import bookkeeping
from fallow.app.bookkeeping import Bookkeeper
from fallow.domain.errors import Refused, Unreachable, WriteError
from fallow.domain.ledger import Ledger, LineKey
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Seconds
from fallow.footprint.bookkeeping import book
from tests.support.ledger import InMemoryLedgerStore
from tests.support.metered import CHAT_LINE, booked, engine, gpu, opened, pod, snapshot

INTERVAL = Seconds(300)
POD = pod("chat-1")


def metered(seconds: float, joules: float, holder: str | None = "llm/chat-1") -> Snapshot:
    return snapshot(seconds, [gpu(seconds, joules, holder=holder)], pods=[POD])


def total(keeper: Bookkeeper) -> float:
    assert keeper.ledger is not None
    return sum(booked(keeper.ledger).values())


async def test_books_are_opened_when_nothing_was_ever_stored() -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    assert keeper.ledger is None
    await keeper.book(metered(0, 0))
    await keeper.book(metered(15, 1500))
    assert keeper.ledger is not None
    assert booked(keeper.ledger) == {CHAT_LINE: pytest.approx(1500)}
    assert store.saves == 1


@pytest.mark.parametrize(("many", "aside"), [(1, True), (2, False)])
async def test_many_gpus_are_booked_beside_the_loop_and_to_the_same_sum(
    monkeypatch: pytest.MonkeyPatch, many: int, aside: bool
) -> None:
    threads: list[int] = []

    def noted(ledger: Ledger, snapshot: Snapshot) -> Ledger:
        threads.append(threading.get_ident())
        return book(ledger, snapshot)

    monkeypatch.setattr(bookkeeping, "MANY_GPUS", many)
    monkeypatch.setattr(bookkeeping, "book", noted)
    keeper = Bookkeeper(InMemoryLedgerStore(), INTERVAL)
    await keeper.book(metered(0, 0))
    await keeper.book(metered(15, 1500))
    assert total(keeper) == pytest.approx(1500)
    assert (threading.get_ident() not in threads) is aside


async def test_nothing_is_stored_between_two_intervals_while_nobody_changes_hands() -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    for second in range(0, 300, 15):
        await keeper.book(metered(second, second * 100))
    assert store.saves == 1
    await keeper.book(metered(300, 30_000))
    assert store.saves == 2


async def test_the_ledger_is_stored_at_once_when_a_gpu_changes_hands() -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    await keeper.book(metered(0, 0))
    await keeper.book(metered(15, 1500, holder="batch/train-1"))
    assert store.saves == 2


async def test_what_a_pod_served_is_stored_when_it_begins_to_go_and_when_it_has_gone() -> None:
    """No GPU changes hands here: the meters name none."""
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    for second, pods in ((0, [POD]), (15, [POD]), (30, [replace(POD, deleting=True)]), (45, []), (60, [])):
        engines = {"chat-1": engine(second, second * 10)}
        await keeper.book(snapshot(second, [gpu(second, 0, holder=None)], pods=pods, engines=engines))
    assert store.saves == 3


async def test_a_departure_is_stored_later_when_the_store_fails() -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    await keeper.book(snapshot(0, pods=[POD]))
    store.fault = Unreachable("the API server does not answer")
    await keeper.book(snapshot(15))
    assert store.saves == 1
    store.fault = None
    await keeper.book(snapshot(30))
    assert store.saves == 2


@pytest.mark.parametrize("stored_until", [0, 150, 285], ids=["at the start", "in the middle", "just before"])
async def test_a_killed_operator_books_again_from_the_stored_marks(stored_until: int) -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    for second in range(0, 300, 15):
        await keeper.book(metered(second, second * 100))
        if second == stored_until:
            await keeper.store()
    after = Bookkeeper(store, INTERVAL)
    await after.book(metered(600, 60_000))
    assert total(after) == pytest.approx(60_000)


async def test_an_end_in_good_order_stores_everything() -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    await keeper.book(metered(0, 0))
    await keeper.book(metered(15, 1500))
    await keeper.store()
    assert store.stored is not None
    assert booked(store.stored) == {CHAT_LINE: pytest.approx(1500)}


@pytest.mark.parametrize("fault", [Unreachable("no answer"), Refused("forbidden")], ids=["unreachable", "refused"])
async def test_while_the_store_cannot_be_read_nothing_is_booked_and_nothing_lost(fault: WriteError) -> None:
    store = InMemoryLedgerStore(opened())
    first = Bookkeeper(store, INTERVAL)
    await first.book(metered(0, 0))
    await first.book(metered(15, 1500))
    await first.store()
    store.fault = fault
    keeper = Bookkeeper(store, INTERVAL)
    assert await keeper.book(metered(30, 3000)) is None
    await keeper.store()
    store.fault = None
    await keeper.book(metered(45, 4500))
    assert total(keeper) == pytest.approx(4500)


async def test_a_store_that_cannot_be_written_is_asked_again_next_round() -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    await keeper.book(metered(0, 0))
    store.fault = Unreachable("no answer")
    for second in (300, 315):
        await keeper.book(metered(second, second * 100))
    assert total(keeper) == pytest.approx(31_500)
    store.fault = None
    await keeper.book(metered(330, 33_000))
    assert store.stored is not None
    assert sum(booked(store.stored).values()) == pytest.approx(33_000)


async def test_after_a_conflict_the_other_writers_books_are_booked_on() -> None:
    store = InMemoryLedgerStore()
    ours, theirs = Bookkeeper(store, INTERVAL), Bookkeeper(store, INTERVAL)
    await ours.book(metered(0, 0))
    await theirs.book(metered(0, 0))
    await theirs.book(metered(300, 30_000))
    await ours.book(metered(305, 30_500))
    await ours.book(metered(320, 32_000))
    assert total(ours) == pytest.approx(32_000)
    await ours.store()
    assert store.stored is not None
    assert sum(booked(store.stored).values()) == pytest.approx(32_000)


async def test_a_conflict_while_the_store_is_away_afterwards_keeps_the_last_books() -> None:
    store = InMemoryLedgerStore()
    keeper, other = Bookkeeper(store, INTERVAL), Bookkeeper(store, INTERVAL)
    await keeper.book(metered(0, 0))
    await other.book(metered(0, 0))
    await other.book(metered(300, 30_000))
    await keeper.book(metered(310, 31_000))
    store.fault = Unreachable("no answer")
    ledger = await keeper.book(metered(325, 32_500))
    assert ledger is not None
    store.fault = None
    await keeper.book(metered(340, 34_000))
    assert total(keeper) == pytest.approx(34_000)


async def test_a_ledger_deleted_from_the_store_does_not_lower_the_totals() -> None:
    store = InMemoryLedgerStore()
    keeper, other = Bookkeeper(store, INTERVAL), Bookkeeper(store, INTERVAL)
    await keeper.book(metered(0, 0))
    await other.book(metered(0, 0))
    await other.book(metered(300, 30_000))
    await keeper.book(metered(310, 31_000))
    store.stored = None
    await keeper.book(metered(325, 32_500))
    assert total(keeper) == pytest.approx(32_500)
    assert store.stored is not None


async def test_a_ledger_is_loaded_once_and_kept() -> None:
    store = InMemoryLedgerStore(opened())
    keeper = Bookkeeper(store, INTERVAL)
    await keeper.book(metered(0, 0))
    assert store.stored is not None
    store.stored = replace(store.stored, resets=99)
    await keeper.book(metered(15, 1500))
    assert keeper.ledger is not None
    assert keeper.ledger.resets == 0


async def test_only_what_is_stored_is_told() -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    assert keeper.told is None
    for second in range(0, 300, 15):
        await keeper.book(metered(second, second * 100))
    assert keeper.told is not None
    assert booked(keeper.told) == {}
    await keeper.book(metered(300, 30_000))
    assert booked(keeper.told) == {CHAT_LINE: pytest.approx(30_000)}


async def test_what_cannot_be_stored_is_not_told() -> None:
    store = InMemoryLedgerStore()
    keeper = Bookkeeper(store, INTERVAL)
    await keeper.book(metered(0, 0))
    store.fault = Unreachable("no answer")
    await keeper.book(metered(300, 30_000))
    assert keeper.told is not None
    assert booked(keeper.told) == {}
    store.fault = None
    await keeper.book(metered(315, 31_500))
    assert booked(keeper.told) == {CHAT_LINE: pytest.approx(31_500)}


look = st.tuples(
    st.sampled_from([15, 15, 15, 120, 1800]),
    st.floats(50, 700),
    st.sampled_from([None, "llm/chat-1", "llm/code-1", "batch/train-1"]),
    st.booleans(),
    st.integers(0, 3),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(look, min_size=3, max_size=20), st.sampled_from([15.0, 300.0]))
async def test_no_line_that_was_told_ever_falls_whatever_changed_hands_while_nobody_looked(
    looks: list[tuple[float, float, str | None, bool, int]], interval: float
) -> None:
    store = InMemoryLedgerStore()

    def started() -> Bookkeeper:
        return Bookkeeper(store, Seconds(interval))

    keeper, now, joules, told = started(), 0.0, 0.0, dict[LineKey, float]()
    for seconds, watts, holder, named, kill in looks:
        now, joules = now + seconds, joules + watts * seconds
        if kill == 0:
            keeper = started()
        pods = []
        if holder is not None:
            space, name = holder.split("/")
            own = name.split("-")[0] if space == "llm" else None
            pods = [pod(name, own, namespace=space, started=now - 5)]
        await keeper.book(snapshot(now, [gpu(now, joules, watts, holder=holder if named else None)], pods=pods))
        for line, amount in booked(keeper.told).items() if keeper.told else ():
            assert amount >= told.get(line, 0.0)
            told[line] = amount
