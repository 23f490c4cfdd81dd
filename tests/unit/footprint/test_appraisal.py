"""After booking: windows teach, what was avoided is added to the same books, and periods stay those of the books."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from fallow.domain.counterfactual import BaselineRule
from fallow.domain.ledger import Account, Ledger, LineKey, LineKind, Span
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Joules
from fallow.domain.workloads import ServiceKey
from fallow.footprint.appraisal import appraised
from fallow.footprint.bookkeeping import book
from fallow.footprint.savings import Situation, total
from tests.support.builders import BF16, CHAT, H100, service
from tests.support.learning import PLACEMENT
from tests.support.metered import engine, gpu, later, node, opened, pod, snapshot, zone

LINE = LineKey(LineKind.SERVICE, "llm", "chat", "bf16", "north")
CYCLE = 15


def seen(seconds: float, before: Snapshot | None, *, rate: float = 100.0) -> Snapshot:
    """One replica at 500 W that serves ten requests in each step."""
    tokens = rate * seconds
    reading = replace(
        engine(seconds, tokens, prompt=tokens, requests=tokens / 100, running=10),
        cached_prompt_tokens=0.0,
        iterations=tokens / 10,
    )
    found = snapshot(
        seconds,
        [gpu(seconds, 500.0 * seconds + 1, 500.0, holder="llm/chat-1")],
        pods=[pod("chat-1")],
        engines={"chat-1": reading},
        nodes=[node()],
        zones=[zone(grams=400)],
    )
    view = replace(found.cluster, services={CHAT: service(BF16, minimum=0)})
    return replace(found, cluster=view, previous=before.readings if before else None)


def situations(in_flight: float = 10.0) -> Mapping[ServiceKey, Situation]:
    return {CHAT: Situation(service(BF16, minimum=0), BaselineRule(), in_flight, 10.0, {"bf16": 1}, product=H100)}


def lived(seconds: float, *, in_flight: float = 10.0, start: float = 0.0) -> Ledger:
    """`in_flight` is what the baseline is told: more than one replica carries, so that it runs more."""
    ledger, before = opened(start), None
    for at in range(int(start), int(start + seconds) + 1, CYCLE):
        now = seen(at, before)
        ledger, before = appraised(ledger, book(ledger, now), now, situations(in_flight)), now
    return ledger


def test_minutes_are_learned_from_as_they_pass() -> None:
    known = lived(200).learned[PLACEMENT]
    assert known.bins[3].windows == 3
    assert known.bins[3].energy == pytest.approx(3 * 60 * 500)
    assert known.steps is not None


def test_what_is_avoided_is_on_the_service_s_own_line_and_in_every_open_period() -> None:
    ledger = lived(300, in_flight=30.0)
    one = ledger.books[LINE]
    for span in (Span.TOTAL, Span.TODAY, Span.THIS_HOUR, Span.THIS_MONTH):
        account = one.period(span).account
        assert account.avoided_replicas.best.value > 0
        assert account.avoided_carbon.best.value > 0
        assert account.compared.value == pytest.approx(account.energy.best.value, rel=0.1)
    assert ledger.counterfactuals[CHAT].running == 3


def test_nothing_else_in_the_books_is_changed_by_what_was_avoided() -> None:
    """Avoided energy is never subtracted from a footprint."""
    idle, busy = lived(300).books[LINE].total.account, lived(300, in_flight=30.0).books[LINE].total.account
    assert busy.energy == idle.energy
    assert busy.carbon == idle.carbon
    assert busy.facility == idle.facility


def test_a_repeated_cycle_adds_nothing() -> None:
    ledger, now = lived(300, in_flight=30.0), seen(300, seen(285, None))
    again = appraised(ledger, book(ledger, now), now, situations(30.0))
    assert again.books[LINE].total.account == ledger.books[LINE].total.account


def test_an_interval_across_an_hour_is_cut_by_time() -> None:
    ledger = lived(60, in_flight=30.0, start=3600 - 30)
    hours = [ledger.books[LINE].period(span).account for span in (Span.LAST_HOUR, Span.THIS_HOUR, Span.TOTAL)]
    before, after, whole = (total(one.avoided).best.value for one in hours)
    assert before > 0
    assert after > 0
    assert before + after == pytest.approx(whole)


def test_what_was_learned_is_kept_for_a_week_after_the_service_is_gone() -> None:
    ledger = lived(120)
    for days, kept in ((6, True), (8, False)):
        now = snapshot(86_400 * days)
        after = appraised(ledger, replace(ledger, at=later(86_400 * days)), now, {})
        assert (PLACEMENT in after.learned) is kept
        assert CHAT not in after.counterfactuals


def test_a_service_that_is_compared_no_longer_keeps_its_frozen_baseline() -> None:
    ledger, now = lived(120, in_flight=30.0), seen(135, seen(120, None))
    after = appraised(ledger, book(ledger, now), now, {})
    assert after.counterfactuals == ledger.counterfactuals
    assert after.books[LINE].total.account.compared == ledger.books[LINE].total.account.compared
    assert Account().compared == Joules(0)
