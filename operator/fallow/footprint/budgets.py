"""What the books say of a budget: R5 over the present period, for the services of its policy.

What cannot be known in full is Missing: books that do not reach back to the period's start, energy without an
intensity. The same amounts as those of `fallow report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from zoneinfo import ZoneInfo

from fallow.domain.budgets import BudgetUse
from fallow.domain.calendars import bounds
from fallow.domain.figures import Missing
from fallow.domain.goals import Budget, Resource
from fallow.domain.ledger import Ledger, Spent
from fallow.domain.policies import Policy
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.domain.workloads import Service

# Share of a period's energy that may lack an intensity: a source that was away for some minutes. A choice.
MOST_UNPRICED = 0.01
# Seconds that two instants may be apart and mean the same midnight.
SAME = 1.0
TWO_HOURS = 7200.0


def uses(policy: Policy, services: Sequence[Service], ledger: Ledger | None, now: Instant) -> Iterator[BudgetUse]:
    """Each amount of each of the policy's budgets; periods begin at the midnights of the policy's time zone."""
    paces = _paces(services, ledger)
    for budget in policy.budgets:
        start, end = bounds(budget.period, now, ZoneInfo(policy.time_zone))
        spent = _spent(policy, budget, services, ledger, start)
        for resource, allowed in budget.limits.items():
            yield BudgetUse(
                policy=policy.name,
                period=budget.period,
                resource=resource,
                start=start,
                end=end,
                until=start if ledger is None else max(min(ledger.booked_until, now), start),
                allowed=allowed.value,
                used=spent if isinstance(spent, Missing) else _used(resource, spent),
                pace=paces[resource],
                steps=budget.on_burn,
            )


def _used(resource: Resource, spent: Spent) -> float | Missing:
    if resource is Resource.CARBON and spent.unpriced > spent.facility * MOST_UNPRICED:
        kilowatt_hours = f"{spent.unpriced.kilowatt_hours:.3g} of {spent.facility.kilowatt_hours:.3g} kWh"
        return Missing(Reason.NO_INTENSITY, f"{kilowatt_hours} have no carbon intensity")
    return spent.amount(resource).value


def _spent(
    policy: Policy, budget: Budget, services: Sequence[Service], ledger: Ledger | None, start: Instant
) -> Spent | Missing:
    """Over the services' books, of which those that have not come to this period yet hold nothing of it."""
    if ledger is None:
        return Missing(Reason.NO_HISTORY, "the books have not been read yet")
    if ledger.since > start + SAME:
        older = next((service for service in services if service.created < ledger.since - SAME), None)
        if older is not None:
            return Missing(Reason.NO_HISTORY, f"{older.key} is older than the books, which begin within the period")
    total = Spent(start)
    for service in services:
        for book in ledger.service_books(service.key):
            one = book.spent(budget.period)
            if one is None or book.time_zone != policy.time_zone or one.start > start + SAME:
                return Missing(Reason.NO_HISTORY, f"the books of {service.key} begin within the period")
            if one.start >= start - SAME:
                total = Spent(
                    start, total.facility + one.facility, total.carbon + one.carbon, total.unpriced + one.unpriced
                )
    return total


def _paces(services: Iterable[Service], ledger: Ledger | None) -> Mapping[Resource, float]:
    """Over the last complete hour and the present one."""
    nothing = dict.fromkeys(Resource, 0.0)
    if ledger is None:
        return nothing
    carbon = energy = 0.0
    since: Instant | None = None
    for service in services:
        for book in ledger.service_books(service.key):
            if not book.hour.start <= ledger.at <= book.hour.start + TWO_HOURS:
                continue
            since = book.last_hour.start if since is None else min(since, book.last_hour.start)
            for account in (book.last_hour.account, book.hour.account):
                carbon += account.carbon.best.value
                energy += account.facility.best.value
    seconds = 0.0 if since is None else ledger.booked_until - max(since, ledger.since)
    if seconds <= 0:
        return nothing
    return {Resource.CARBON: carbon / seconds, Resource.ENERGY: energy / seconds}
