"""What is new since the cycle before: decisions and conditions that are worth telling once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fallow.domain.budgets import BudgetUse
from fallow.domain.estimates import Estimates
from fallow.domain.figures import Missing
from fallow.domain.goals import BudgetPeriod, BurnStep, Resource
from fallow.domain.plans import Condition, CordonNode, Decision, Outcome, Plan, ServicePlan
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey

# A proposal that comes and goes with the load is told once in this time.
PROPOSAL_MEMORY = Seconds(600)

Identity = tuple[str, str, str, bool, str, tuple[tuple[str, int], ...]]


@dataclass(slots=True)
class DecisionWatch:
    """Tells a decision that is repeated cycle after cycle from a new one; messages and numbers do not count."""

    _last: dict[ServiceKey, Identity] = field(default_factory=dict)
    _proposed: dict[ServiceKey, dict[Identity, Instant]] = field(default_factory=dict)

    def new(self, plan: Plan) -> Iterator[tuple[ServicePlan, Decision]]:
        for key in [key for key in (*self._last, *self._proposed) if key not in plan.services]:
            self._last.pop(key, None)
            self._proposed.pop(key, None)
        for key, service in plan.services.items():
            decision = service.decision
            if decision is None:
                self._last.pop(key, None)
                continue
            identity = _identity(service, decision)
            if self._is_new(key, identity, decision):
                yield service, decision
            self._last[key] = identity

    def _is_new(self, key: ServiceKey, identity: Identity, decision: Decision) -> bool:
        if not decision.proposal:
            return self._last.get(key) != identity
        told = self._proposed.setdefault(key, {})
        for old in [old for old, at in told.items() if decision.at - at >= PROPOSAL_MEMORY]:
            if old != self._last.get(key):
                del told[old]
        known = identity in told
        told[identity] = decision.at if not known else told[identity]
        return not known


@dataclass(slots=True)
class ConditionWatch:
    """Tells conditions whose status or reason changed. What is seen for the first time is no change."""

    _last: dict[tuple[ServiceKey, str], tuple[bool | None, str]] = field(default_factory=dict)

    def changed(self, plan: Plan) -> Iterator[tuple[ServicePlan, Condition]]:
        for seen in [seen for seen in self._last if seen[0] not in plan.services]:
            del self._last[seen]
        for key, service in plan.services.items():
            for condition in service.conditions:
                now = (condition.status, str(condition.reason))
                before = self._last.get((key, condition.type))
                self._last[key, condition.type] = now
                if before is not None and before != now:
                    yield service, condition


@dataclass(slots=True)
class BudgetWatch:
    """Tells steps of budgets that were reached, or have ended. What is seen for the first time is no change; a budget
    whose use is not known is as it was.
    """

    _last: dict[tuple[str, BudgetPeriod, Resource, BurnStep], bool] = field(default_factory=dict)

    def changed(self, estimates: Estimates) -> Iterator[tuple[BudgetUse, BurnStep, bool]]:
        """The budget, its step, and whether that is active now."""
        known = dict(self._last)
        self._last = {}
        for use in (one for uses in estimates.budgets.values() for one in uses):
            for step in use.steps:
                place = (use.policy, use.period, use.resource, step)
                before, active = known.get(place), step in use.active
                if isinstance(use.used, Missing):
                    active = bool(before)
                    if before is None:
                        continue
                self._last[place] = active
                if before is not None and before is not active:
                    yield use, step, active


@dataclass(slots=True)
class FailureWatch:
    """Tells a service's failed write once, and again when it fails for another reason; and so a policy's cordons, of
    whichever node. These are not tried in each cycle, and that they are not is no success.
    """

    _last: dict[ServiceKey, str] = field(default_factory=dict)

    def new(self, outcomes: tuple[Outcome, ...]) -> Iterator[Outcome]:
        # the first one counts: what a service runs goes before what is written on its pods
        failed = {outcome.key: outcome for outcome in reversed(outcomes) if outcome.error}
        words = {key: _why(outcome) for key, outcome in failed.items()}
        for key, outcome in failed.items():
            if self._last.get(key) != words[key]:
                yield outcome
        tried = {outcome.key for outcome in outcomes}
        waiting = {key: why for key, why in self._last.items() if not key.namespace and key not in tried}
        self._last = waiting | words


def _why(outcome: Outcome) -> str:
    change = outcome.change
    return outcome.error.replace(change.node, "") if isinstance(change, CordonNode) else outcome.error


def _identity(service: ServicePlan, decision: Decision) -> Identity:
    counts = tuple(sorted(service.proposed.items()))
    return (decision.action, decision.lever, str(decision.reason), decision.proposal, decision.policy, counts)
