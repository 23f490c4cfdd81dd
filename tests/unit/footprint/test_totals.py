"""What the books say: sums over variants and lines, per token and request, windows, and the draw of now."""

import pytest

from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account, Ledger, LineKind, Span
from fallow.domain.reasons import Reason
from fallow.domain.units import Joules, Watts
from fallow.domain.workloads import ServiceKey
from fallow.footprint.bookkeeping import book
from fallow.footprint.draw import draws
from fallow.footprint.totals import (
    cluster_periods,
    energy_per_request,
    energy_per_token,
    idle_share,
    kind_periods,
    service_periods,
    window_joules_per_token,
)
from tests.support.metered import CHAT, engine, gpu, later, node, opened, pod, snapshot

PODS = [pod("chat-1"), pod("chat-2", variant="fp8")]


def seen(seconds: float, tokens: float):  # type: ignore[no-untyped-def] # noqa: ANN201 - a snapshot
    gpus = [
        gpu(seconds, 100 * seconds, 100.0, uuid="GPU-a", holder="llm/chat-1"),
        gpu(seconds, 300 * seconds, 300.0, uuid="GPU-b", holder="llm/chat-2"),
        gpu(seconds, 50 * seconds, 50.0, uuid="GPU-c"),
    ]
    engines = {"chat-1": engine(seconds, tokens), "chat-2": engine(seconds, 3 * tokens)}
    return snapshot(seconds, gpus, pods=PODS, engines=engines, nodes=[node(gpus=3)])


def ledger_at(*steps: tuple[float, float]) -> Ledger:
    ledger = opened()
    for seconds, tokens in steps:
        ledger = book(ledger, seen(seconds, tokens))
    return ledger


def test_a_service_s_variants_are_summed() -> None:
    periods = service_periods(ledger_at((0, 0), (10, 100)), CHAT)
    assert set(periods) == set(Span)
    assert periods[Span.TOTAL].account.energy.best == Joules(4000)
    assert periods[Span.TOTAL].start == later(0)
    assert periods[Span.TODAY].account.generated_tokens == 400


def test_an_unknown_service_has_no_periods() -> None:
    assert service_periods(opened(), CHAT) == {}


def test_the_cluster_is_the_sum_of_its_lines() -> None:
    ledger = ledger_at((0, 0), (10, 100))
    total = cluster_periods(ledger)[Span.TOTAL].account.energy.best
    assert total == Joules(4500)
    free = kind_periods(ledger, LineKind.UNALLOCATED)[Span.TOTAL].account.energy.best
    assert free + service_periods(ledger, CHAT)[Span.TOTAL].account.energy.best == total


def test_energy_per_unit_needs_a_unit() -> None:
    account = Account(
        energy=Figure(Joules(90), Joules(100), Joules(110)), parked=Joules(25), generated_tokens=50, requests=4
    )
    assert energy_per_token(account) == Figure(Joules(1.8), Joules(2), Joules(2.2))
    assert energy_per_request(account) == Figure(Joules(22.5), Joules(25), Joules(27.5))
    assert idle_share(account) == 0.25
    for nothing in (energy_per_token(Account()), energy_per_request(Account()), idle_share(Account())):
        assert isinstance(nothing, Missing)
        assert nothing.reason is Reason.NO_WORK


def test_joules_per_token_of_a_window_leave_out_what_was_before() -> None:
    early, late = ledger_at((0, 0), (10, 100)), ledger_at((0, 0), (10, 100), (20, 150))
    assert window_joules_per_token(early, late, CHAT) == pytest.approx(4000 / 200)
    assert window_joules_per_token(early, late, CHAT, "fp8") == pytest.approx(3000 / 150)


def test_a_window_without_tokens_has_no_joules_per_token() -> None:
    ledger = ledger_at((0, 0), (10, 100))
    answer = window_joules_per_token(ledger, ledger, CHAT)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.NO_WORK
    unknown = window_joules_per_token(ledger, ledger, ServiceKey("llm", "other"))
    assert isinstance(unknown, Missing)
    assert unknown.reason is Reason.NO_HISTORY


def test_a_service_draws_what_its_gpus_draw() -> None:
    seen_now = draws(seen(0, 0))
    assert seen_now.services[CHAT] == Watts(400)
    assert seen_now.unallocated == Watts(50)
    assert seen_now.cluster == Watts(450)


def test_a_service_without_gpus_is_not_among_those_that_draw() -> None:
    assert ServiceKey("llm", "resting") not in draws(seen(0, 0)).services


def test_a_gpu_that_is_not_read_makes_the_draw_unknown() -> None:
    gpus = [gpu(0, 1.0, 100.0, uuid="GPU-a", holder="llm/chat-1"), gpu(0, 1.0, None, uuid="GPU-b", holder="llm/chat-2")]
    partly = snapshot(0, gpus, pods=PODS, nodes=[node(gpus=2)])
    for answer in (draws(partly).services[CHAT], draws(partly).cluster):
        assert isinstance(answer, Missing)
        assert answer.reason is Reason.NO_SERIES
        assert "1 of 2" in answer.detail


def test_the_meter_s_fault_is_the_reason() -> None:
    dark = snapshot(0, pods=PODS, fault=Missing(Reason.SOURCE_UNREACHABLE, "no answer"))
    for answer in (draws(dark).services[CHAT], draws(dark).cluster):
        assert isinstance(answer, Missing)
        assert answer.reason is Reason.SOURCE_UNREACHABLE
