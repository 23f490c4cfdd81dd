"""Budgets as they are told: in the status of their policy, as Events, in the log and as a gauge."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from fallow.adapters.cluster.mirror import POLICIES
from fallow.adapters.reports.decision_log import LogReporter
from fallow.adapters.reports.events import EventReporter
from fallow.adapters.reports.metrics import MetricsReporter
from fallow.adapters.reports.status import StatusReporter
from fallow.domain.budgets import BudgetUse
from fallow.domain.figures import Missing
from fallow.domain.goals import BudgetPeriod, BurnStep, Remedy, Resource
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from tests.adapters.reports.scenes import Sink, ledger, mirror, report
from tests.support.builders import NOW

START, END = Instant(1_798_761_600), Instant(1_801_440_000)
STEPS = (BurnStep(0.8, (Remedy.PRECISION,)), BurnStep(1.0, (Remedy.CAP_REPLICAS,)))
UNKNOWN = Missing(Reason.NO_HISTORY, "llm/chat is older than the books")


def use(share: float | Missing, *, start: Instant = START, pace: float = 0.1) -> BudgetUse:
    """Of 900 kg a month."""
    used = share if isinstance(share, Missing) else share * 900_000
    return BudgetUse("green", BudgetPeriod.MONTH, Resource.CARBON, start, END, NOW, 900_000, used, pace, STEPS)


class Desk:
    """A status reporter with its mirror; each `tell` is one cycle and gives what was written of the policy."""

    def __init__(self) -> None:
        self.mirror = mirror()
        self.sink = Sink(self.mirror)
        self.reporter = StatusReporter(self.sink, self.mirror, refresh=Seconds(300))

    async def tell(self, *shares: float | Missing, now: float = NOW, read: bool = True, **more: Any) -> int:
        before = len(self.sink.sent)
        told = tuple(use(share, **more) for share in shares)
        await self.reporter.report(report(self.mirror, now=now, books=ledger() if read else None, budgets=told))
        return sum(body["kind"] == "EnergyPolicy" for body in self.sink.sent[before:])

    @property
    def status(self) -> dict[str, Any]:
        body = self.mirror.get(POLICIES, "", "green")
        assert body is not None
        found: dict[str, Any] = body["status"]
        return found

    @property
    def within(self) -> tuple[str, str]:
        one = next(part for part in self.status["conditions"] if part["type"] == "WithinBudgets")
        return one["status"], one["reason"]


async def test_a_policy_shows_how_far_its_budgets_are_used_and_what_they_come_to() -> None:
    desk = Desk()
    await desk.tell(0.81)
    assert desk.status["budgets"] == [
        {
            "period": "Month",
            "resource": "carbon",
            "start": "2027-01-01T00:00:00Z",
            "end": "2027-02-01T00:00:00Z",
            "usedShare": 0.81,
            "projectedShare": 0.97,
            "active": ["Precision"],
            "activeSince": "2027-01-15T08:00:00Z",
            "missing": "",
        }
    ]
    assert desk.status["activeRemedies"] == ["Month carbon 0.8: Precision"]
    assert desk.status["summary"]["budget"] == "81% of Month carbon"
    assert desk.within == ("True", "WithinBudget")


async def test_a_step_that_is_reached_is_written_at_once_and_a_share_with_the_figures() -> None:
    desk = Desk()
    await desk.tell(0.70)
    assert await desk.tell(0.71, now=NOW + 15) == 0
    assert await desk.tell(0.80, now=NOW + 30) == 1
    assert desk.status["budgets"][0]["usedShare"] == 0.8
    assert await desk.tell(0.81, now=NOW + 45) == 0
    assert await desk.tell(0.82, now=NOW + 400) == 1
    assert desk.status["budgets"][0]["activeSince"] == "2027-01-15T08:00:30Z"
    await desk.tell(1.1, now=NOW + 415)
    assert desk.status["budgets"][0]["active"] == ["CapReplicas", "Precision"]
    assert desk.within == ("False", "BudgetSpent")


async def test_a_budget_that_is_not_known_says_why_and_no_share() -> None:
    desk = Desk()
    await desk.tell(UNKNOWN)
    (shown,) = desk.status["budgets"]
    assert shown["missing"] == "NoHistory: llm/chat is older than the books"
    assert {"usedShare", "projectedShare", "activeSince"}.isdisjoint(shown)
    assert desk.within == ("Unknown", "NoHistory")


async def test_while_the_books_cannot_be_read_the_last_word_stands() -> None:
    desk = Desk()
    await desk.tell(0.81)
    before = (desk.status["budgets"], desk.status["activeRemedies"])
    for later in (15, 400):
        await desk.tell(UNKNOWN, now=NOW + later, read=False)
        assert (desk.status["budgets"], desk.status["activeRemedies"]) == before


async def test_a_policy_without_budgets_has_no_word_about_them() -> None:
    desk = Desk()
    await desk.tell()
    assert desk.status["budgets"] == []
    assert {part["type"] for part in desk.status["conditions"]} == {"Ready"}


async def test_steps_that_are_reached_and_that_end_are_events_of_the_policy() -> None:
    sink, held = Sink(), mirror()
    reporter = EventReporter(sink, "operator-0")
    shares: tuple[float | Missing, ...] = (0.7, 0.81, UNKNOWN, 0.82, 0.01)
    for number, share in enumerate(shares):
        await reporter.report(report(held, now=NOW + 15 * number, budgets=(use(share),)))

    assert [(body["reason"], body["action"], body["type"]) for body in sink.sent] == [
        ("StepReached", "Budget", "Normal"),
        ("StepEnded", "Budget", "Normal"),
    ]
    assert sink.sent[0]["note"] == (
        "step 0.8 of the Month carbon budget, Precision, is reached: "
        "81 % of the Month carbon budget is used (729 of 900 kgCO2e)"
    )
    assert sink.sent[0]["regarding"] == {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "EnergyPolicy",
        "name": "green",
        "uid": "EnergyPolicy-green",
    }
    assert set(sink.paths) == {"/apis/events.k8s.io/v1/namespaces/default/events"}


async def test_what_a_restart_finds_is_no_news() -> None:
    sink = Sink()
    await EventReporter(sink, "operator-0").report(report(mirror(), budgets=(use(0.9),)))
    assert sink.sent == []


@pytest.mark.parametrize("as_json", [False, True])
async def test_the_log_tells_steps_too(caplog: pytest.LogCaptureFixture, *, as_json: bool) -> None:
    caplog.set_level(logging.INFO)
    reporter = LogReporter(as_json=as_json)
    for share in (0.7, 0.81):
        await reporter.report(report(budgets=(use(share),)))
    line = caplog.messages[-1]
    if as_json:
        told = json.loads(line)
        assert (told["policy"], told["do"], told["usedShare"]) == ("green", ["Precision"], 0.81)
    else:
        assert line.startswith("policy green (StepReached): step 0.8 of the Month carbon budget, Precision, is reached")


async def test_a_gauge_tells_the_share_and_none_where_it_is_not_known() -> None:
    reporter = MetricsReporter(clock=lambda: NOW)
    labels = {"policy": "green", "period": "Month", "resource": "carbon"}
    await reporter.report(report(budgets=(use(0.81), use(0.5))))
    assert reporter.registry.get_sample_value("fallow_budget_used_ratio", labels) == pytest.approx(0.81)
    await reporter.report(report(budgets=(use(UNKNOWN),)))
    assert reporter.registry.get_sample_value("fallow_budget_used_ratio", labels) is None
