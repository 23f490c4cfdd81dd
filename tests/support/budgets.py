"""Books of a service that has used some of a budget, and policies with one."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from fallow.domain.calendars import bounds
from fallow.domain.figures import Figure
from fallow.domain.goals import Budget, BudgetPeriod, BurnStep, Remedy
from fallow.domain.ledger import Account, Book, Ledger, LineKey, LineKind, Period, Spent
from fallow.domain.policies import Policy
from fallow.domain.units import Grams, Instant, from_kilowatt_hours
from fallow.domain.workloads import ServiceKey
from tests.support.builders import CHAT, NOW, policy

UTC = ZoneInfo("UTC")
# energy at the facility for a joule at the GPU
FACTOR = 1.5
LONG_AGO = Instant(0)


def account(kilowatt_hours: float = 0.0, grams: float = 0.0, unpriced: float = 0.0) -> Account:
    """`kilowatt_hours` and, of them, `unpriced` at the facility."""
    facility = from_kilowatt_hours(kilowatt_hours)
    return Account(
        energy=Figure.exact(facility * (1 / FACTOR)),
        facility=Figure.exact(facility),
        carbon=Figure.exact(Grams(grams)),
        unpriced=from_kilowatt_hours(unpriced),
    )


def book(used: Account, *, now: Instant = NOW, began: Instant | None = None, **more: Any) -> Book:
    """All of it was used in every present period, and nothing in the last hour."""
    starts = {kind: bounds(kind, now, UTC)[0] for kind in BudgetPeriod}
    hour = Instant(now // 3600 * 3600)
    plain: dict[str, Any] = {
        "total": Period(LONG_AGO if began is None else began, used),
        "month": Period(starts[BudgetPeriod.MONTH], used),
        "day": Period(starts[BudgetPeriod.DAY], used),
        "hour": Period(hour, used),
        "last_hour": Period(Instant(hour - 3600)),
        "week": Spent.of(starts[BudgetPeriod.WEEK], used),
        "quarter": Spent.of(starts[BudgetPeriod.QUARTER], used),
        "year": Spent.of(starts[BudgetPeriod.YEAR], used),
    }
    return Book(**{**plain, **more})


def books(used: dict[ServiceKey, Account] | Account, *, since: Instant = LONG_AGO, **more: Any) -> Ledger:
    each = used if isinstance(used, dict) else {CHAT: used}
    lines = {LineKey(LineKind.SERVICE, *key, "bf16"): book(one, **more) for key, one in each.items()}
    return Ledger(since=since, at=more.get("now", NOW), books=lines)


def step(at: float, *do: Remedy) -> BurnStep:
    return BurnStep(at, do)


def budget(
    *steps: BurnStep,
    period: BudgetPeriod = BudgetPeriod.MONTH,
    carbon: float | None = None,
    energy: float | None = None,
) -> Budget:
    """`carbon` in grams, `energy` in kWh."""
    return Budget(
        "green",
        period,
        carbon=None if carbon is None else Grams(carbon),
        energy=None if energy is None else from_kilowatt_hours(energy),
        on_burn=steps,
    )


def budgeted(*budgets: Budget, **more: Any) -> Policy:
    return policy(budgets=budgets, **more)
