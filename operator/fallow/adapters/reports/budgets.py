"""How far budgets are used, for the status of their policy, its events and Prometheus. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from pydantic import ValidationError

from fallow.adapters.reports.texts import line
from fallow.api.conditions import moment
from fallow.api.energy_policy_status import BudgetUse as Shown
from fallow.domain.budgets import BudgetUse
from fallow.domain.figures import Missing
from fallow.domain.goals import BurnStep
from fallow.domain.plans import Condition
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.units import Instant

JSON = Mapping[str, Any]


def budget_families(report: CycleReport) -> Iterator[Metric]:
    """A budget whose use is not known has no series; of two alike the one that is used further."""
    ratio = GaugeMetricFamily(
        "fallow_budget_used_ratio",
        "Share of a budget that is used in the present period; 1 is all of it.",
        labels=("policy", "period", "resource"),
    )
    found: dict[tuple[str, str, str], float] = {}
    for uses in report.estimates.budgets.values():
        for use in uses:
            labels, share = (use.policy, use.period.value, use.resource.value), use.share
            if not isinstance(share, Missing):
                found[labels] = max(share, found.get(labels, 0.0))
    for labels, share in sorted(found.items()):
        ratio.add_metric(labels, share)
    yield ratio


def shown(uses: Sequence[BudgetUse], before: JSON, now: Instant) -> list[Shown]:
    """Each budget; since when its remedies are asked for is kept from the status as it was."""
    return [_shown(use, known, now) for use, known in zip(uses, _known(uses, before), strict=True)]


def remembered(before: JSON) -> list[Shown]:
    """As they were told last, for as long as the books cannot be read."""
    return [one for part in before.get("budgets") or () if (one := _readable(part)) is not None]


def remedies(uses: Sequence[BudgetUse]) -> list[str]:
    """What is asked for, such as: Month carbon 0.8: Precision."""
    return [
        line(f"{use.period} {use.resource} {step.at:g}: {', '.join(step.do)}", 64)
        for use in uses
        for step in use.active
    ]


def within(uses: Sequence[BudgetUse]) -> tuple[Condition, ...]:
    """The condition of a policy that has budgets. Its message names no share, which changes all the time."""
    if not uses:
        return ()
    spent = [use.name for use in uses if not isinstance(use.used, Missing) and use.used >= use.allowed]
    if spent:
        words = f"nothing is left of the {' and of the '.join(spent)}"
        return (Condition("WithinBudgets", status=False, reason=Reason.BUDGET_SPENT, message=words),)
    for use in uses:
        if isinstance(use.used, Missing):
            return (Condition("WithinBudgets", status=None, reason=use.used.reason, message=use.words),)
    words = f"something is left of the {' and of the '.join(use.name for use in uses)}"
    return (Condition("WithinBudgets", status=True, reason=Reason.WITHIN_BUDGET, message=words),)


def stepped(use: BudgetUse, step: BurnStep, *, active: bool) -> str:
    """What became of a step."""
    what = f"step {step.at:g} of the {use.name}, {', '.join(step.do)}"
    return f"{what}, {'is reached' if active else 'has ended'}: {use.words}"


def summed_up(uses: Sequence[BudgetUse]) -> str:
    """The budget that is used furthest, such as: 81% of Month carbon."""
    known = [(share, use) for use in uses if not isinstance(share := use.share, Missing)]
    if not known:
        return ""
    share, use = max(known, key=lambda one: one[0])
    return f"{share:.0%} of {use.period} {use.resource}"


def _shown(use: BudgetUse, before: Shown | None, now: Instant) -> Shown:
    asked = sorted({remedy.value for step in use.active for remedy in step.do})
    share, comes_to = use.share, use.projected
    goes_on = before is not None and before.active == asked and before.start == moment(use.start)
    since = before.active_since if goes_on and before is not None and before.active_since else moment(now)
    return Shown(
        period=use.period.value,
        resource=use.resource.value,
        start=moment(use.start),
        end=moment(use.end),
        used_share=None if isinstance(share, Missing) else round(share, 4),
        projected_share=None if isinstance(comes_to, Missing) else float(f"{comes_to:.3g}"),
        active=asked,
        active_since=since if asked else None,
        missing=line(str(use.used)) if isinstance(use.used, Missing) else "",
    )


def _known(uses: Sequence[BudgetUse], before: JSON) -> Iterator[Shown | None]:
    """The same place in the list is the same budget, unless the policy was changed."""
    parts = list(before.get("budgets") or ())
    for place, use in enumerate(uses):
        found = _readable(parts[place]) if place < len(parts) else None
        is_same = found is not None and (found.period, found.resource) == (use.period.value, use.resource.value)
        yield found if is_same else None


def _readable(part: JSON) -> Shown | None:
    try:
        return Shown.model_validate(part)
    except ValidationError:
        return None
