"""The statement of a period: what each part of a cluster used, what of it was waste, and how far its goals are.

Built from daily accounts alone; nothing here measures or books. Formulas R1 to R6 of docs/methodology.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fallow.domain.budgets import UNITS
from fallow.domain.figures import Figure, Missing
from fallow.domain.goals import Budget, BudgetPeriod, Measure, Target
from fallow.domain.history import Day, History
from fallow.domain.ledger import Account, LineKey, LineKind, Spent
from fallow.domain.reasons import Reason
from fallow.domain.units import Grams, Instant, Joules
from fallow.footprint.sci import intensity_per_unit

# a day of which less was seen is listed as a gap
WHOLE = 0.99
MOST_RANKED = 20


class By(StrEnum):
    """What the rows of a statement stand for."""

    CLUSTER = "cluster"
    NAMESPACE = "namespace"
    SERVICE = "service"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Row:
    """One part of the cluster: its account, day by day, and what it was in the period before (None: not known)."""

    name: str
    account: Account
    days: tuple[Account, ...]
    before: Account | None


@dataclass(frozen=True, slots=True)
class Waste:
    """A line's energy that served nobody: `bare` and `parked` without work, `underfilled` beside it."""

    name: str
    account: Account

    @property
    def joules(self) -> Joules:
        return self.account.idle + self.account.underfilled


class Standing(StrEnum):
    MET = "met"
    ON_TRACK = "on track"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Progress:
    """A target: the measure then and now, the reduction reached and the one due by now on a straight line."""

    target: Target
    then: float
    now: float
    reached: float
    due: float

    @property
    def standing(self) -> Standing:
        if self.reached >= self.target.reduce:
            return Standing.MET
        return Standing.ON_TRACK if self.reached >= self.due else Standing.BEHIND


@dataclass(frozen=True, slots=True)
class Burn:
    """A budget: the share of it that was used, 1 is all. `over` counts the days above a daily budget."""

    budget: Budget
    unit: str
    allowed: float
    used: float
    over: int = 0

    @property
    def share(self) -> float:
        return self.used / self.allowed


@dataclass(frozen=True, slots=True)
class Statement:
    """Everything that a report shows. Rows add up to `total`."""

    start: Instant
    end: Instant
    by: By
    total: Row
    rows: tuple[Row, ...]
    waste: tuple[Waste, ...]
    progress: tuple[Progress | tuple[Target, Missing], ...]
    burns: tuple[Burn, ...]
    gaps: tuple[str, ...]
    versions: tuple[str, ...]


def statement(
    history: History,
    by: By,
    *,
    before: History | None = None,
    references: Mapping[str, History] | None = None,
    month: str = "",
) -> Statement:
    """`before` is the period before, `references` the months that targets compare with, `month` the one it ends in.

    Raises ValueError where the history has no day.
    """
    if not history.days:
        raise ValueError("the history has no day in this period")
    naming = _naming(by, history)
    earlier = _summed(before.days, naming) if before else {}
    rows = tuple(
        Row(name, _sum(days), tuple(days), earlier.get(name))
        for name, days in sorted(_daily(history.days, naming).items())
    )
    totals = tuple(day.total for day in history.days)
    whole = Row("cluster", _sum(totals), totals, _sum(day.total for day in before.days) if before else None)
    return Statement(
        start=history.days[0].start,
        end=history.days[-1].end,
        by=by,
        total=whole,
        rows=tuple(sorted(rows, key=lambda row: -row.account.energy.best.value)),
        waste=_ranked(history.days),
        progress=tuple(
            _progress(target, history, (references or {}).get(target.since), month) for target in history.targets
        ),
        burns=tuple(burn for budget in history.budgets for burn in _burns(budget, history)),
        gaps=(*_gaps(history.days), *history.remarks),
        versions=history.versions,
    )


def line_name(line: LineKey) -> str:
    """A line in words, whatever its zone and variant."""
    match line.kind:
        case LineKind.SERVICE:
            return f"{line.namespace}/{line.name}"
        case LineKind.FOREIGN:
            return f"other pods in {line.namespace}"
        case LineKind.UNALLOCATED:
            return "held by nobody"
        case LineKind.UNATTRIBUTED:
            return "holder not known"


def sci(account: Account, count: float, unit: str) -> Figure[Grams] | Missing:
    """R3: Software Carbon Intensity (ISO/IEC 21031) per functional unit; without a unit there is none.

    Energy without an intensity would make it too small, so that it is Missing while any is unpriced.
    """
    if count <= 0:
        return Missing(Reason.NO_WORK, f"no {unit} in this period")
    if account.unpriced.value > 0:
        return Missing(Reason.NO_INTENSITY, f"{account.unpriced.kilowatt_hours:.3g} kWh have no carbon intensity")
    return intensity_per_unit(account.carbon, account.embodied, count)


def measured(measure: Measure, account: Account) -> float | Missing:
    """The best value of what a target is about, in J, g or L, or these per token or request."""
    amounts: dict[Measure, tuple[float, float]] = {
        Measure.ENERGY: (account.facility.best.value, 1.0),
        Measure.CARBON: (account.carbon.best.value, 1.0),
        Measure.ENERGY_PER_TOKEN: (account.energy.best.value, account.generated_tokens),
        Measure.CARBON_PER_TOKEN: (account.carbon.best.value, account.generated_tokens),
        Measure.WATER_PER_TOKEN: (account.water.best.value, account.generated_tokens),
        Measure.ENERGY_PER_REQUEST: (account.energy.best.value, account.requests),
        Measure.CARBON_PER_REQUEST: (account.carbon.best.value, account.requests),
    }
    amount, count = amounts[measure]
    if count <= 0:
        return Missing(Reason.NO_WORK, "no work in this period")
    return amount / count


def _naming(by: By, history: History) -> Callable[[LineKey], str]:
    def policy(line: LineKey) -> str:
        service = line.service
        if service is None:
            return line_name(line)
        return history.policies.get(service) or "no policy"

    names: dict[By, Callable[[LineKey], str]] = {
        By.CLUSTER: lambda _: "cluster",
        By.NAMESPACE: lambda line: line.namespace or line_name(line),
        By.SERVICE: line_name,
        By.POLICY: policy,
    }
    return names[by]


def _daily(days: Sequence[Day], naming: Callable[[LineKey], str]) -> Mapping[str, list[Account]]:
    found: defaultdict[str, list[Account]] = defaultdict(lambda: [Account()] * len(days))
    for number, day in enumerate(days):
        for line, account in day.accounts.items():
            name = naming(line)
            found[name][number] = found[name][number] + account
    return found


def _summed(days: Sequence[Day], naming: Callable[[LineKey], str]) -> Mapping[str, Account]:
    return {name: _sum(accounts) for name, accounts in _daily(days, naming).items()}


def _ranked(days: Sequence[Day]) -> tuple[Waste, ...]:
    found = [Waste(name, account) for name, account in _summed(days, line_name).items()]
    ranked = sorted(found, key=lambda waste: -waste.joules.value)
    return tuple(waste for waste in ranked[:MOST_RANKED] if waste.joules.value > 0)


def _progress(
    target: Target, history: History, reference: History | None, month: str
) -> Progress | tuple[Target, Missing]:
    """R4: reached = 1 - now / then; due on a straight line from the reference month to the target's."""
    if reference is None or not reference.days:
        return target, Missing(Reason.NO_HISTORY, f"{target.since} is not in the history any more")
    then, now = (measured(target.measure, _of_policy(part, target.policy, history)) for part in (reference, history))
    for value in (then, now):
        if isinstance(value, Missing):
            return target, value
    if isinstance(then, Missing) or isinstance(now, Missing) or then <= 0:
        return target, Missing(Reason.NO_HISTORY, f"nothing was used in {target.since}")
    passed = _months(target.since, month) / _months(target.since, target.by)
    return Progress(target, then, now, 1 - now / then, target.reduce * min(max(passed, 0.0), 1.0))


def _of_policy(part: History, policy: str, declared: History) -> Account:
    """What the services used that the policy applies to now: the same ones then and now."""
    return _sum(
        account
        for day in part.days
        for line, account in day.accounts.items()
        if line.service is not None and declared.policies.get(line.service) == policy
    )


def _burns(budget: Budget, history: History) -> Iterable[Burn]:
    """R5: used / allowed; of a daily budget the worst day. A budget of a longer period is shown by this part of it."""
    days = [Spent.of(day.start, _of_policy(History((day,)), budget.policy, history)) for day in history.days]
    for resource, limit in budget.limits.items():
        unit, size = UNITS[resource]
        allowed, used = limit.value / size, [day.amount(resource).value / size for day in days]
        if allowed <= 0:
            continue
        if budget.period is BudgetPeriod.DAY:
            yield Burn(budget, unit, allowed, max(used), sum(value > allowed for value in used))
        else:
            yield Burn(budget, unit, allowed, sum(used))


def _gaps(days: Sequence[Day]) -> Iterable[str]:
    for day in days:
        if day.seen < WHOLE:
            yield f"{day.date}: Fallow was seen {day.seen:.0%} of the time; its counters cover the rest"
    total = _sum(day.total for day in days)
    if total.modelled.value > 0:
        yield f"{total.modelled / total.energy.best:.1%} of the energy was not measured by a counter"
    for amount, what in (
        (total.unpriced, "has no carbon intensity and is not in the emissions"),
        (total.unwatered, "lacks a water factor"),
        (total.uncosted, "has no price and is not in the cost"),
    ):
        if amount.value > 0:
            yield f"{amount.kilowatt_hours:.3g} kWh of {total.facility.best.kilowatt_hours:.3g} {what}"


def _sum(accounts: Iterable[Account]) -> Account:
    return sum(accounts, start=Account())


def _months(first: str, last: str) -> int:
    (one, start), (other, end) = ((int(part) for part in month.split("-")) for month in (first, last))
    return (other - one) * 12 + end - start
