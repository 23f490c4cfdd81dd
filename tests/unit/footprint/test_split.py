"""Booked energy by what it was for: bare, parked, under-filled, starting, and useful as the rest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.ledger import Account, Ledger, LineKey, LineKind
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Joules, Seconds, Watts
from fallow.footprint.baseline import Levels
from fallow.footprint.bookkeeping import book
from fallow.footprint.split import Doing, parts
from tests.support.metered import CHAT_LINE, FREE, LOST, engine, gpu, node, opened, pod, snapshot

HELD = "llm/chat-1"
BARE, CONTEXT = 71.8, 121.6
BATCH_LINE = LineKey(LineKind.FOREIGN, "batch")


def served(
    running: float = 0,
    watts: float = 130.0,
    *,
    tokens: float = 0,
    waiting: float = 0,
    target: float | None = None,
    ready_since: float | None = -3600,
    started: float = -3600,
    known: bool = True,
) -> Account:
    """One GPU of a service over 100 s; `known` says that its engine is read."""
    ledger, before = opened(), None
    for seconds in (0.0, 100.0):
        ready = ready_since is not None and ready_since <= seconds
        held = pod("chat-1", started=started, ready=ready, ready_since=ready_since if ready else None)
        told = engine(seconds, tokens * seconds, running=running, waiting=waiting)
        before = snapshot(
            seconds,
            [gpu(seconds, watts * seconds, watts, holder=HELD)],
            pods=[held],
            engines={"chat-1": told} if known and ready else {},
            targets={} if target is None else {"chat": target},
            before=before,
        )
        ledger = book(ledger, before)
    return ledger.books[CHAT_LINE].total.account


def of(account: Account) -> dict[str, float]:
    names = ("bare", "parked", "underfilled", "starting", "useful")
    return {name: value for name in names if (value := round(getattr(account, name).value, 6))}


def test_a_loaded_engine_without_work_is_bare_and_parked() -> None:
    assert of(served()) == {"bare": BARE * 100, "parked": pytest.approx((130 - BARE) * 100)}


def test_a_gpu_that_draws_less_than_bare_parks_nothing() -> None:
    assert of(served(watts=60)) == {"bare": 6000}


def test_work_is_useful_where_no_target_is_known() -> None:
    assert of(served(running=3, watts=400, tokens=50)) == {"useful": 40_000}


def test_an_engine_with_too_few_requests_leaves_a_part_of_its_baseline_unused() -> None:
    account = served(running=8, watts=400, tokens=50, target=32)
    assert of(account) == {"underfilled": pytest.approx(0.75 * CONTEXT * 100), "useful": pytest.approx(40_000 - 9120)}


@pytest.mark.parametrize(
    ("running", "waiting"), [(32.0, 0.0), (50.0, 0.0), (4.0, 1.0)], ids=["full", "over", "requests wait"]
)
def test_a_full_engine_is_not_underfilled(running: float, waiting: float) -> None:
    assert of(served(running=running, waiting=waiting, watts=400, tokens=50, target=32)) == {"useful": 40_000}


def test_an_engine_that_is_not_read_is_neither_idle_nor_underfilled() -> None:
    assert of(served(watts=200, target=32, known=False)) == {"useful": 20_000}


def test_energy_before_the_first_readiness_is_the_price_of_a_start() -> None:
    assert of(served(watts=200, started=-5, ready_since=None)) == {"starting": 20_000}


def test_a_start_ends_with_readiness_and_idleness_begins_there() -> None:
    account = served(watts=130, started=-5, ready_since=40)
    assert of(account)["starting"] == pytest.approx(40 * 130)
    assert of(account)["useful"] == pytest.approx(60 * 130)


def test_a_pod_that_lost_its_readiness_is_not_starting() -> None:
    ledger = opened()
    for seconds, ready in ((0.0, True), (100.0, False), (200.0, False)):
        held = pod("chat-1", ready=ready, ready_since=-3600 if ready else None)
        told = {"chat-1": engine(seconds, 500)} if ready else {}
        ledger = book(ledger, snapshot(seconds, [gpu(seconds, 130 * seconds, holder=HELD)], pods=[held], engines=told))
    assert of(ledger.books[CHAT_LINE].total.account) == {"useful": 26_000}


def test_of_an_empty_gpu_everything_is_bare() -> None:
    ledger = opened()
    for seconds in (0.0, 100.0):
        ledger = book(ledger, snapshot(seconds, [gpu(seconds, 90 * seconds)]))
    assert of(ledger.books[FREE].total.account) == {"bare": 9000}


def foreign(activity: tuple[float | None, float | None], watts: float = 110.0, *, lost: bool = False) -> Account:
    """A notebook's GPU, or one of which nobody knows whose it is, over 100 s with activity at both ends."""
    pods = [pod("train-1", None, namespace="batch"), *([pod("other", "code")] if lost else [])]
    ledger, before = opened(), None
    for seconds, active in zip((0.0, 100.0), activity, strict=True):
        seen = gpu(seconds, watts * seconds, watts, holder=None if lost else "batch/train-1", active=active)
        before = snapshot(seconds, [seen], pods=pods, nodes=[node(gpus=2)], before=before)
        ledger = book(ledger, before)
    return ledger.books[LOST if lost else BATCH_LINE].total.account


def test_a_pod_that_is_not_ours_is_idle_without_activity_at_both_ends() -> None:
    assert of(foreign((0.0, 0.0))) == {"bare": BARE * 100, "parked": pytest.approx((110 - BARE) * 100)}


def test_a_gpu_of_which_nobody_knows_whose_it_is_is_judged_alike() -> None:
    assert of(foreign((0.0, 0.0), lost=True))["parked"] == pytest.approx((110 - BARE) * 100)


@pytest.mark.parametrize(
    ("activity", "watts"),
    [((0.0, 0.4), 300.0), ((0.4, 0.0), 300.0), ((None, 0.0), 110.0), ((0.0, None), 110.0), ((0.0, 0.0), 400.0)],
    ids=["active now", "active before", "not read before", "not read now", "power says otherwise"],
)
def test_a_pod_that_is_not_ours_counts_as_useful_unless_it_surely_rests(
    activity: tuple[float | None, float | None], watts: float
) -> None:
    assert of(foreign(activity, watts)) == {"useful": watts * 100}


shares = st.floats(0, 1)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1e9), st.floats(0.001, 1e6), st.floats(0, 300), st.floats(0, 300), shares, shares, shares)
def test_the_parts_of_a_piece_never_exceed_its_energy(  # noqa: PLR0917 - drawn one by one
    used: float, duration: float, bare: float, more: float, starting: float, idle: float, fill: float
) -> None:
    doing = Doing(starting=starting, idle=idle * (1 - starting), fill=fill)
    found = parts(Joules(used), Seconds(duration), Levels(Watts(bare), Watts(bare + more)), doing)
    every = (found.bare, found.parked, found.underfilled, found.starting)
    assert all(part >= 0 for part in every)
    assert sum(every) <= used * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "dt": st.floats(1, 4000),
                "watts": st.floats(20, 700),
                "active": st.none() | st.sampled_from([0.0, 0.5]),
                "holder": st.sampled_from([None, HELD, "batch/train-1", "batch/unseen"]),
                "running": st.sampled_from([0.0, 4.0, 64.0]),
                "tokens": st.sampled_from([0, 100]),
                "ready": st.booleans(),
            }
        ),
        min_size=2,
        max_size=10,
    )
)
def test_bare_parked_underfilled_starting_and_useful_add_up_to_the_energy(steps: list[dict]) -> None:  # type: ignore[type-arg]
    ledger, now, joules, tokens = opened(), 0.0, 0.0, 0
    before: Snapshot | None = None
    for one in steps:
        now, joules, tokens = now + one["dt"], joules + one["watts"] * one["dt"], tokens + one["tokens"]
        held = pod("chat-1", started=-10, ready=one["ready"], ready_since=now - 7 if one["ready"] else None)
        before = snapshot(
            now,
            [gpu(now, joules, one["watts"], holder=one["holder"], active=one["active"])],
            pods=[held, pod("train-1", None, namespace="batch")],
            engines={"chat-1": engine(now, tokens, running=one["running"])} if one["ready"] else {},
            targets={"chat": 32.0},
            before=before,
        )
        ledger = book(ledger, before)
    assert adds_up(ledger)


def adds_up(ledger: Ledger) -> bool:
    for one in ledger.books.values():
        for period in (one.total, one.day, one.hour):
            account = period.account
            every = (account.bare, account.parked, account.underfilled, account.starting, account.useful)
            assert sum(part.value for part in every) == pytest.approx(account.energy.best.value, rel=1e-9, abs=1e-9)
    return True
