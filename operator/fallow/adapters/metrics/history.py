"""Reads the past from Prometheus: the books at each midnight, and what was declared at the end.

The books are counters that only grow, so a day is the difference of two midnights and nothing is extrapolated.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from fallow.adapters.metrics import promql
from fallow.adapters.metrics.prometheus_api import PrometheusApi, Question
from fallow.adapters.metrics.samples import Sample
from fallow.api.metric_names import (
    AT_WORK,
    BOOKS,
    BOUNDED,
    BUDGET,
    BUILD,
    COST,
    COUNTED,
    LINE,
    PARTED,
    POLICY,
    RECORDED,
    TARGET,
)
from fallow.domain.calendars import CalendarPeriod
from fallow.domain.figures import Figure, Missing
from fallow.domain.goals import Budget, BudgetPeriod, Measure, Target
from fallow.domain.history import Day, History
from fallow.domain.ledger import Account, LineKey, LineKind
from fallow.domain.units import Grams, Instant, Joules, Money, Seconds
from fallow.domain.workloads import ServiceKey

# how far back of a midnight the last figures may lie: an operator that was down at night tells them next morning
LOOKBACK = Seconds(86_400)
STEP = Seconds(300)
_LABELS = (*LINE, "bound", "currency", *(parted.label for parted in PARTED.values()))
_RECORDED = {RECORDED.format(name): name for name in BOOKS}
_EXPOSED = {f"{name}_total": name for name in BOOKS}

# (line, series name, the further label that tells its series apart) -> value
_Totals = Mapping[tuple[LineKey, str, tuple[str, ...]], float]


class PrometheusHistory:
    """Asks one Prometheus, or a long-term store with its API. `matchers` narrow every query."""

    def __init__(self, api: PrometheusApi, matchers: Mapping[str, str] | None = None) -> None:
        promql.check_label_names(matchers or {})
        self._api = api
        self._matchers = matchers or {}

    async def read(self, period: CalendarPeriod, now: Instant) -> History | Missing:
        """The days of the period up to `now`; Missing where Prometheus does not answer or knows nothing of Fallow."""
        edges = [(day.isoformat(), at) for day, at in period.boundaries() if at < now]
        if len(edges) <= period.days:
            edges.append(("", now))
        if len(edges) < 2:
            return History((), remarks=(f"{period.title} has not begun",))
        totals: list[_Totals] = []
        for _, at in edges:
            found = await self._totals(at)
            if isinstance(found, Missing):
                return found
            totals.append(found)
        seen = await asyncio.gather(*(self._seen(start, end) for (_, start), (_, end) in pairwise(edges)))
        first = next((number for number, known in enumerate(totals) if known), len(totals))
        days = tuple(
            Day(date, start, end, _used(before, after) if number >= first else {}, share)
            for number, ((date, start), (_, end), before, after, share) in enumerate(
                zip(edges, edges[1:], totals, totals[1:], seen, strict=False)
            )
        )
        remarks = []
        if first:
            remarks.append(
                f"nothing is known before {edges[min(first, len(edges) - 1)][0] or 'now'}: no series of Fallow"
            )
        return await self._declared(days, remarks, edges[0][1], edges[-1][1])

    async def _totals(self, at: Instant) -> _Totals | Missing:
        """By the recording rules where there are any, else by the operator's own series."""
        for names in (_RECORDED, _EXPOSED):
            selected = f"last_over_time({promql.one_of(names, self._matchers)}[{LOOKBACK:.0f}s])"
            query = f"max by (__name__, {', '.join(_LABELS)}) ({selected})"
            found = await self._ask("the books", query, at)
            if isinstance(found, Missing):
                return found
            if found:
                return {_key(sample, names[sample.name]): sample.value for sample in found if sample.name in names}
        return {}

    async def _seen(self, start: Instant, end: Instant) -> float:
        """The share of the time in which a cycle was told; 0 where that is not known."""
        steps = max(round((end - start) / STEP), 1)
        inner = f"max({promql.one_of([AT_WORK], self._matchers)})"
        found = await self._ask("Fallow's cycles", f"count_over_time({inner}[{steps * STEP:.0f}s:{STEP:.0f}s])", end)
        return 0.0 if isinstance(found, Missing) or not found else min(found[0].value / steps, 1.0)

    async def _declared(
        self, days: tuple[Day, ...], remarks: Sequence[str], start: Instant, end: Instant
    ) -> History | Missing:
        names = promql.one_of((POLICY, TARGET, BUDGET, BUILD), self._matchers)
        latest = await self._ask("policies", f"last_over_time({names}[{LOOKBACK:.0f}s])", end)
        builds = promql.one_of((BUILD,), self._matchers)
        versions = await self._ask("versions", f"last_over_time({builds}[{end - start:.0f}s])", end)
        for answer in (latest, versions):
            if isinstance(answer, Missing):
                return answer
        if isinstance(latest, Missing) or isinstance(versions, Missing):
            raise TypeError("checked above")
        return History(
            days=days,
            policies={
                ServiceKey(one.labels.get("namespace", ""), one.labels.get("service", "")): one.labels["policy"]
                for one in latest
                if one.name == POLICY
            },
            targets=tuple(sorted({_target(one) for one in latest if one.name == TARGET})),
            budgets=tuple(_budgets(one for one in latest if one.name == BUDGET)),
            versions=tuple(sorted({f"{one.labels['version']} ({one.labels['method']})" for one in versions})),
            remarks=tuple(remarks),
        )

    async def _ask(self, what: str, query: str, at: Instant) -> list[Sample] | Missing:
        return await self._api.ask(Question(what, query, lambda result: promql.vector_samples(result, "")), at)


def _key(sample: Sample, name: str) -> tuple[LineKey, str, tuple[str, ...]]:
    labels = sample.labels
    line = LineKey(
        LineKind(labels.get("line", LineKind.UNATTRIBUTED)),
        labels.get("namespace", ""),
        labels.get("service", ""),
        labels.get("variant", ""),
        labels.get("zone", ""),
    )
    label = PARTED[name].label if name in PARTED else ""
    if label:
        return line, name, (labels.get(label, ""),)
    return line, name, tuple(value for value in (labels.get("currency", ""), labels.get("bound", "")) if value)


def _used(before: _Totals, after: _Totals) -> Mapping[LineKey, Account]:
    """What each line used between two looks. A line that was not there before began at nothing.

    A total that fell began anew (somebody deleted the ledger): what it shows then was used since.
    """
    used: defaultdict[LineKey, dict[tuple[str, tuple[str, ...]], float]] = defaultdict(dict)
    for (line, name, more), value in after.items():
        old = before.get((line, name, more), 0.0)
        used[line][name, more] = value - old if value >= old else value
    return {line: _account(amounts) for line, amounts in used.items()}


def _account(amounts: Mapping[tuple[str, tuple[str, ...]], float]) -> Account:
    values: dict[str, Any] = {}
    for name, bounded in BOUNDED.items():
        values[bounded.field] = _figure(bounded.unit, [amounts.get((name, (bound,)), 0.0) for bound in _BOUNDS])
    for name, parted in PARTED.items():
        for part, field in parted.fields.items():
            if field == "useful":
                continue  # what the other parts leave of the energy
            amount = amounts.get((name, (part,)), 0.0)
            values[field] = amount if isinstance(getattr(Account(), field), float) else Joules(amount)
    for name, (field, _) in COUNTED.items():
        values[field] = amounts.get((name, ()), 0.0)
    currencies = {more[0] for name, more in amounts if name == COST}
    values["costs"] = {
        currency: _figure(Money, [amounts.get((COST, (currency, bound)), 0.0) for bound in _BOUNDS])
        for currency in sorted(currencies)
    }
    return Account(**values)


_BOUNDS = ("low", "best", "high")


def _figure(unit: Any, bounds: list[float]) -> Figure[Any]:
    """Bounds are counters of their own; the last digits of their differences may be out of order."""
    low, best, high = bounds
    return Figure(unit(min(low, best)), unit(best), unit(max(best, high)))


def _target(sample: Sample) -> Target:
    labels = sample.labels
    return Target(labels["policy"], Measure(labels["measure"]), sample.value, labels["since"], labels["by"])


def _budgets(samples: Iterable[Sample]) -> Iterable[Budget]:
    found: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for sample in samples:
        found[sample.labels["policy"], sample.labels["period"]][sample.labels["unit"]] = sample.value
    for (policy, period), amounts in sorted(found.items()):
        yield Budget(
            policy,
            BudgetPeriod(period),
            carbon=Grams(amounts["grams"]) if "grams" in amounts else None,
            energy=Joules(amounts["joules"]) if "joules" in amounts else None,
        )
