"""How far a budget is used: what the books of its policy's services say of the present period, or why they cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.budgets import BudgetUse
from fallow.domain.figures import Missing
from fallow.domain.goals import BudgetPeriod, Remedy, Resource
from fallow.domain.history import Day, History
from fallow.domain.ledger import Ledger, LineKey, LineKind
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey
from fallow.footprint.budgets import uses
from fallow.footprint.statement import By, statement
from tests.support.budgets import account, book, books, budget, budgeted, step
from tests.support.builders import CHAT, NOW, service

LAB = ServiceKey("llm", "lab")
JANUARY, FEBRUARY = Instant(1_798_761_600), Instant(1_801_440_000)


def use(ledger: Ledger | None, *, resource: Resource = Resource.ENERGY, now: Instant = NOW, **more: Any) -> BudgetUse:
    """Of a budget of 100 kWh or 100 kg a period."""
    policy = budgeted(budget(step(0.5, Remedy.PRECISION), energy=100, carbon=100_000, **more))
    found = uses(policy, [service(), service(key=LAB)], ledger, now)
    return next(one for one in found if one.resource is resource)


@pytest.mark.parametrize("kind", BudgetPeriod)
def test_what_the_services_of_a_policy_used_in_the_period_is_added_up(kind: BudgetPeriod) -> None:
    other = ServiceKey("llm", "somebody else's")
    used = {CHAT: account(30), LAB: account(40), other: account(1000)}
    assert use(books(used), period=kind).share == pytest.approx(0.7)


def test_a_step_is_active_from_its_share_on() -> None:
    assert use(books(account(49.9))).active == ()
    assert use(books(account(50))).active == (step(0.5, Remedy.PRECISION),)
    assert (use(books(account(50))).start, use(books(account(50))).end) == (JANUARY, FEBRUARY)


def test_books_that_have_not_come_to_the_period_yet_hold_nothing_of_it() -> None:
    before = Instant(JANUARY - 60)
    assert use(books(account(90), now=before)).used == 0.0


def test_it_is_told_by_the_pace_of_the_last_hours_what_it_comes_to() -> None:
    hour = Instant(NOW // 3600 * 3600)
    ledger = replace(books(account(30)), at=Instant(hour + 1800))
    used = use(ledger, now=Instant(hour + 1800))
    assert used.pace == pytest.approx(30 * 3.6e6 / 5400)
    assert used.projected == pytest.approx(0.3 + 0.3 * (FEBRUARY - hour - 1800) / 5400)


def test_the_time_that_is_left_is_counted_from_when_the_books_tell_of() -> None:
    later = Instant(NOW + 600)
    assert use(books(account(30)), now=later).seconds_left == FEBRUARY - NOW
    assert use(books(account(30), now=Instant(JANUARY - 60))).seconds_left == FEBRUARY - JANUARY


@pytest.mark.parametrize(
    ("ledger", "reason", "words"),
    [
        (None, Reason.NO_HISTORY, "have not been read"),
        (books(account(1), since=Instant(NOW - 60)), Reason.NO_HISTORY, "older than the books"),
        (books(account(1), year=None), Reason.NO_HISTORY, "begin within the period"),
        (books(account(1), time_zone="Europe/Berlin"), Reason.NO_HISTORY, "begin within the period"),
    ],
    ids=["not read yet", "Fallow came within the period", "it was not counted", "another time zone until now"],
)
def test_what_is_not_known_in_full_is_missing_with_its_reason(
    ledger: Ledger | None, reason: Reason, words: str
) -> None:
    found = use(ledger, period=BudgetPeriod.YEAR)
    assert isinstance(found.used, Missing)
    assert found.used.reason is reason
    assert words in found.used.detail
    assert (found.active, found.share, found.projected) == ((), found.used, found.used)


def test_of_a_service_that_is_younger_than_the_books_all_is_known() -> None:
    began = Instant(NOW - 7200)
    young = [service(created=Instant(began + 60))]
    found = next(uses(budgeted(budget(energy=10)), young, books(account(4), since=began, began=began), NOW))
    assert found.share == pytest.approx(0.4)


def test_energy_without_an_intensity_leaves_carbon_unknown_and_energy_known() -> None:
    ledger = books(account(50, grams=9000, unpriced=1))
    assert isinstance(use(ledger, resource=Resource.CARBON).used, Missing)
    assert use(ledger).share == pytest.approx(0.5)
    nearly = books(account(50, grams=9000, unpriced=0.4))
    assert use(nearly, resource=Resource.CARBON).share == pytest.approx(0.09)


@given(st.floats(0, 200), st.floats(0, 1e5))
def test_it_is_what_fallow_report_says_of_the_same_books(kilowatt_hours: float, grams: float) -> None:
    one, used = budget(energy=100, carbon=80_000), account(kilowatt_hours, grams)
    day = Day("2027-01-15", JANUARY, NOW, {LineKey(LineKind.SERVICE, *CHAT, "bf16"): used}, 1.0)
    told = statement(History((day,), policies={CHAT: "green"}, budgets=(one,)), By.CLUSTER)
    found = uses(budgeted(one), [service()], books(used), NOW)
    shares = {each.resource: each.share for each in found}
    assert shares == pytest.approx({Resource.CARBON: told.burns[0].share, Resource.ENERGY: told.burns[1].share})


def test_the_books_of_every_variant_count() -> None:
    lines = {LineKey(LineKind.SERVICE, *CHAT, name): book(account(20)) for name in ("bf16", "fp8")}
    assert use(Ledger(since=Instant(0), at=NOW, books=lines)).share == pytest.approx(0.4)
