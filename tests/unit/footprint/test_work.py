"""Tokens, requests, and the energy of time without work."""

import pytest

from fallow.domain.ledger import Account, Ledger
from fallow.domain.readings import EngineReading
from fallow.domain.snapshots import Pod
from fallow.footprint.bookkeeping import book
from tests.support.metered import CHAT_LINE, engine, gpu, later, opened, pod, snapshot, zone


def run(*steps: tuple[float, EngineReading | None], pods: tuple[Pod, ...] = (pod("chat-1"),)) -> Ledger:
    """One held GPU at 100 W; at each time the engine reads as given."""
    ledger = opened()
    for seconds, reading in steps:
        engines = {"chat-1": reading} if reading else {}
        seen = [gpu(seconds, 100.0 * seconds, 100.0, holder="llm/chat-1")]
        ledger = book(ledger, snapshot(seconds, seen, pods=pods, engines=engines))
    return ledger


def account(ledger: Ledger) -> Account:
    return ledger.books[CHAT_LINE].total.account


def test_counter_differences_are_booked() -> None:
    ledger = run((0, engine(0, 100, prompt=50, requests=5)), (10, engine(10, 160, prompt=80, requests=7)))
    assert (account(ledger).generated_tokens, account(ledger).prompt_tokens, account(ledger).requests) == (60, 30, 2)


def test_an_engine_that_restarted_counts_from_zero() -> None:
    ledger = run((0, engine(0, 100, requests=5)), (10, engine(10, 40, requests=6)))
    assert (account(ledger).generated_tokens, account(ledger).requests) == (40, 6)


def test_of_an_engine_older_than_the_ledger_only_the_future_counts() -> None:
    assert account(run((0, engine(0, 100)), (10, engine(10, 130)))).generated_tokens == 30


def test_a_pod_that_started_since_counts_from_its_start_however_long_it_loads() -> None:
    fresh = (pod("chat-1", started=5),)
    ledger = run((0, None), pods=())
    for seconds, reading in ((10, None), (200, None), (300, engine(300, 70))):
        engines = {"chat-1": reading} if reading else {}
        ledger = book(ledger, snapshot(seconds, pods=fresh, engines=engines))
    assert account(ledger).generated_tokens == 70


def test_a_pod_adopted_long_after_its_start_counts_only_the_future() -> None:
    ledger = book(opened(), snapshot(90))
    adopted = (pod("chat-1", started=5),)
    for seconds, tokens in ((100, 50), (110, 65)):
        ledger = book(ledger, snapshot(seconds, pods=adopted, engines={"chat-1": engine(seconds, tokens)}))
    assert account(ledger).generated_tokens == 15


def test_tokens_are_counted_on_after_a_clock_that_ran_ahead() -> None:
    ledger = run((90_000, engine(90_000, 100)), (15, engine(15, 130)), (30, engine(30, 150)))
    assert account(ledger).generated_tokens == 50


def test_an_old_reading_that_is_asked_for_by_a_clock_that_is_behind_counts_nothing() -> None:
    ledger = run((0, engine(0, 1000)), (-90_000, engine(-90_000, 400)), (15, engine(15, 1030)))
    assert account(ledger).generated_tokens == 30


def test_a_pod_replaced_under_the_same_name_is_another_engine() -> None:
    ledger = run((0, engine(0, 1000)))
    replaced = (pod("chat-1", uid="another", started=5),)
    ledger = book(ledger, snapshot(10, pods=replaced, engines={"chat-1": engine(10, 2000)}))
    assert account(ledger).generated_tokens == 2000


def test_what_is_read_of_a_pod_after_it_has_gone_is_booked_once() -> None:
    ledger = run((0, engine(0, 100)), (10, engine(10, 130, running=1)))
    for seconds in (20, 30):
        ledger = book(ledger, snapshot(seconds, engines={"chat-1": engine(12, 150, requests=1)}))
    assert (account(ledger).generated_tokens, account(ledger).requests) == (50, 1)


def test_a_pod_that_came_and_went_between_two_readings_is_booked() -> None:
    ledger = book(run((0, None), pods=()), snapshot(5, pods=(pod("chat-1", started=4),)))
    ledger = book(ledger, snapshot(20, engines={"chat-1": engine(12, 150, requests=1)}))
    assert (account(ledger).generated_tokens, account(ledger).requests) == (150, 1)


def test_a_pod_of_nobody_under_the_name_of_a_gone_one_books_nothing_on_it() -> None:
    ledger = run((0, engine(0, 100)), (10, engine(10, 130)))
    other = (pod("chat-1", None, uid="another"),)
    ledger = book(ledger, snapshot(20, pods=other, engines={"chat-1": engine(20, 900)}))
    assert account(ledger).generated_tokens == 30


def test_a_pod_whose_node_nobody_knows_any_more_stays_on_its_line() -> None:
    ledger = opened()
    for seconds, tokens, where in ((0, 100, "node-a"), (10, 130, "node-a"), (20, 150, "")):
        pods, engines = (pod("chat-1", node=where),), {"chat-1": engine(seconds, tokens)}
        ledger = book(ledger, snapshot(seconds, pods=pods, engines=engines, zones=[zone(region="north")]))
    tokens_by_zone = {line.zone: book.total.account.generated_tokens for line, book in ledger.books.items()}
    assert tokens_by_zone == {"north": 50}


def test_a_sample_that_is_not_newer_counts_nothing() -> None:
    assert CHAT_LINE not in run((0, engine(0, 100)), (0, engine(0, 150))).books


def test_marks_of_gone_pods_are_dropped_after_an_hour() -> None:
    ledger = run((0, engine(0, 100)))
    assert "uid-chat-1" in book(ledger, snapshot(3600)).engines
    assert "uid-chat-1" not in book(ledger, snapshot(3601)).engines


@pytest.mark.parametrize(
    ("before", "after", "idle"),
    [
        (engine(0, 100), engine(10, 100), 1000),
        (engine(0, 100, running=1), engine(10, 100), 0),
        (engine(0, 100), engine(10, 100, waiting=1), 0),
        (engine(0, 100), engine(10, 101), 0),
        (engine(0, 100), engine(10, 100, prompt=1), 0),
        (engine(0, 100), engine(10, 100, requests=1), 0),
        (engine(0, 100), None, 0),
        (None, engine(10, 100), 0),
    ],
    ids=[
        "no work",
        "running at the mark",
        "waiting now",
        "tokens advanced",
        "prompts advanced",
        "requests advanced",
        "not read now",
        "not read before",
    ],
)
def test_energy_is_idle_only_where_certainly_nothing_was_in_work(
    before: EngineReading | None, after: EngineReading | None, idle: float
) -> None:
    ledger = run((0, before), (10, after))
    assert account(ledger).idle.value == pytest.approx(idle)
    assert account(ledger).energy.best.value == pytest.approx(1000)


def test_a_pod_that_loads_is_not_idle() -> None:
    loading = (pod("chat-1", ready=False),)
    assert account(run((0, engine(0)), (10, engine(10)), pods=loading)).idle.value == 0


def test_only_the_time_after_loading_is_idle() -> None:
    loaded = (pod("chat-1", ready_since=4),)
    assert account(run((0, engine(0)), (10, engine(10)), pods=loaded)).idle.value == pytest.approx(600)


def test_work_between_two_samples_of_the_gpu_is_remembered() -> None:
    pods = (pod("chat-1"),)
    ledger = run((0, engine(0, 100)), pods=pods)
    ledger = book(ledger, snapshot(10, pods=pods, engines={"chat-1": engine(10, 150)}))
    seen = [gpu(20, 2000.0, 100.0, holder="llm/chat-1")]
    ledger = book(ledger, snapshot(20, seen, pods=pods, engines={"chat-1": engine(20, 150)}))
    assert account(ledger).idle.value == 0
    seen = [gpu(30, 3000.0, 100.0, holder="llm/chat-1")]
    ledger = book(ledger, snapshot(30, seen, pods=pods, engines={"chat-1": engine(30, 150)}))
    assert account(ledger).idle.value == pytest.approx(1000)


def test_a_repeated_engine_sample_keeps_the_verdict_of_the_last() -> None:
    ledger = run((0, engine(0, 100)), (10, engine(0, 100)))
    assert account(ledger).idle.value == pytest.approx(1000)
    assert ledger.engines["uid-chat-1"].at == later(0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_an_engine_that_reads_no_number_is_not_counted(value: float) -> None:
    ledger = run((0, engine(0, 100)), (10, engine(10, value)), (20, engine(20, 130)))
    assert account(ledger).generated_tokens == 30
