"""Laws over random histories: every joule and every token is booked exactly once."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.ledger import Ledger
from fallow.footprint.bookkeeping import book
from tests.support.metered import CHAT_LINE, engine, gpu, node, opened, pod, snapshot, zone

HOLDERS = (None, "llm/chat-1", "llm/chat-2", "llm/code-1", "batch/train-1", "batch/unseen")
PODS = (
    pod("chat-1"),
    pod("chat-2", variant="fp8", started=40),
    pod("code-1", "code", started=5000),
    pod("train-1", None, namespace="batch"),
)
GPUS = ("GPU-a", "GPU-b", "GPU-c")


@dataclass
class Truth:
    """What a counter showed: the sum of its differences between the samples that were seen."""

    joules: float = 1e6
    shown: float | None = None
    used: float = 0.0
    uuids: dict[str, float] = field(default_factory=dict)


step = st.fixed_dictionaries(
    {
        "dt": st.floats(0.5, 20_000),
        "watts": st.tuples(*(st.floats(20, 700) for _ in GPUS)),
        "seen": st.tuples(*(st.booleans() for _ in GPUS)),
        "holders": st.tuples(*(st.sampled_from(HOLDERS) for _ in GPUS)),
        "reset": st.tuples(*(st.integers(0, 9) for _ in GPUS)),
        "repeat": st.booleans(),
        "resume": st.booleans(),
        "pods": st.sets(st.sampled_from(range(len(PODS)))),
    }
)


@settings(max_examples=120, deadline=None)
@given(st.lists(step, min_size=1, max_size=12))
def test_all_lines_together_hold_the_sum_of_the_counter_differences(steps: list[dict]) -> None:  # type: ignore[type-arg]
    ledger, stored, now = opened(), opened(), 0.0
    truth = {uuid: Truth() for uuid in GPUS}
    at_stored = {uuid: (one.shown, one.used) for uuid, one in truth.items()}
    for one in steps:
        now += one["dt"]
        readings = []
        for index, uuid in enumerate(GPUS):
            meter = truth[uuid]
            restarts = one["reset"][index] == 0
            meter.joules = (0.0 if restarts else meter.joules) + one["watts"][index] * one["dt"]
            if not one["seen"][index]:
                continue
            if meter.shown is not None:
                meter.used += meter.joules - meter.shown if meter.joules >= meter.shown else meter.joules
            meter.shown = meter.joules
            readings.append(gpu(now, meter.joules, 300.0, uuid=uuid, holder=one["holders"][index]))
        seen = snapshot(now, readings, pods=[PODS[index] for index in one["pods"]], nodes=[node(gpus=3)])
        ledger = book(ledger, seen)
        if one["repeat"]:
            ledger = book(ledger, seen)
        if one["resume"]:
            # killed before the books were stored: the stored ledger goes on with the next reading
            ledger = stored
            for uuid, (shown, used) in at_stored.items():
                truth[uuid].shown, truth[uuid].used = shown, used
        else:
            stored, at_stored = ledger, {uuid: (meter.shown, meter.used) for uuid, meter in truth.items()}
    expected = sum(meter.used for meter in truth.values())
    assert counted(ledger) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def counted(ledger: Ledger) -> float:
    """What the counters measured; the time before a counter's new start is modelled."""
    accounts = [book.total.account for book in ledger.books.values()]
    return sum(account.energy.best.value - account.modelled.value for account in accounts)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(1, 10_000), st.floats(0, 700), st.integers(0, 5000), st.booleans(), st.booleans()),
        min_size=2,
        max_size=15,
    )
)
def test_books_stay_ordered_and_never_fall(history: list[tuple[float, float, int, bool, bool]]) -> None:
    ledger, now, joules, tokens = opened(), 0.0, 0.0, 0
    for dt, watts, generated, counter, held in history:
        now, joules, tokens = now + dt, joules + watts * dt, tokens + generated
        reading = gpu(now, joules if counter else None, watts, holder="llm/chat-1" if held else None)
        seen = snapshot(
            now, [reading], pods=[pod("chat-1")], engines={"chat-1": engine(now, tokens)}, zones=[zone(grams=300)]
        )
        following = book(ledger, seen)
        for line, before in ledger.books.items():
            old, new = before.total.account, following.books[line].total.account
            assert new.energy.best >= old.energy.best
            assert new.carbon.best >= old.carbon.best
            assert new.idle.value <= new.energy.best.value * (1 + 1e-12)
            assert new.facility.best >= new.energy.best
        ledger = following


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 9000), st.integers(0, 1000), st.booleans(), st.booleans()), min_size=1, max_size=20)
)
def test_tokens_are_counted_once_across_restarts_of_the_engine(steps: list[tuple[float, int, bool, bool]]) -> None:
    ledger, now, counter, expected = opened(), 0.0, 5000, 0
    shown: int | None = None
    pods = [pod("chat-1")]
    for dt, more, restart, seen in steps:
        now += dt
        counter = more if restart else counter + more
        if not seen:
            continue
        if shown is not None:
            expected += counter - shown if counter >= shown else counter
        shown = counter
        ledger = book(ledger, snapshot(now, pods=pods, engines={"chat-1": engine(now, counter)}))
    assert tokens_of(ledger) == pytest.approx(expected)


def tokens_of(ledger: Ledger) -> float:
    known = ledger.books.get(CHAT_LINE)
    return known.total.account.generated_tokens if known else 0.0
