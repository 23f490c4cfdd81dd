"""The decision log: one line per change, for people or as JSON; a quiet cycle is silent."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from fallow.adapters.reports.budgets import stepped
from fallow.adapters.reports.changes import BudgetWatch, ConditionWatch, DecisionWatch, FailureWatch
from fallow.adapters.reports.texts import effect
from fallow.domain.budgets import BudgetUse
from fallow.domain.figures import Missing
from fallow.domain.goals import BurnStep
from fallow.domain.plans import (
    Change,
    ClearRequest,
    Condition,
    Cordon,
    CordonNode,
    Decision,
    KeepVariant,
    Outcome,
    RunVariant,
    ServicePlan,
    SetFloor,
    ShieldPod,
    replicas_text,
)
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport

log = logging.getLogger("fallow.decisions")

# what a person at the terminal wants to know beside the decisions
TOLD = frozenset({"Ready", "MetricsFresh"})
CORDONS = {Cordon.EMPTY: "is emptied", Cordon.KEEP: "is not emptied", Cordon.FREE: "takes pods again"}


class LogReporter:
    """Speaks when something changed, with the workload, the numbers and the reason."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._decisions = DecisionWatch()
        self._conditions = ConditionWatch()
        self._failures = FailureWatch()
        self._budgets = BudgetWatch()

    async def report(self, report: CycleReport) -> None:
        for plan, decision in self._decisions.new(report.plan):
            self._decided(plan, decision)
        for plan, condition in self._conditions.changed(report.plan):
            if condition.type in TOLD:
                self._changed(plan, condition)
        for use, step, active in self._budgets.changed(report.estimates):
            self._stepped(use, step, active=active)
        for outcome in self._failures.new(report.outcomes):
            self._failed(outcome)
        for outcome in report.outcomes:
            if isinstance(outcome.change, CordonNode) and outcome.wrote:
                self._cordoned(outcome.change)

    def _decided(self, plan: ServicePlan, decision: Decision) -> None:
        saves = None if decision.saves is None else decision.saves
        if self._as_json:
            facts: dict[str, Any] = {
                "at": datetime.fromtimestamp(decision.at, UTC).isoformat(timespec="seconds"),
                "service": str(plan.key),
                "action": decision.action,
                "lever": decision.lever,
                "reason": str(decision.reason),
                "policy": decision.policy,
                "proposal": decision.proposal,
                "replicas": dict(plan.proposed),
                "savesWatts": None if saves is None else round(saves.value, 1),
                "message": decision.message,
            }
            log.info(json.dumps(facts))
            return
        log.info(
            "%s %s%s to %s (%s, %s%s): %s%s",
            plan.key,
            "would " if decision.proposal else "",
            decision.action,
            replicas_text(plan.proposed, plan.scalers),
            decision.lever,
            decision.reason,
            f", policy {decision.policy}" if decision.policy else "",
            decision.message,
            "" if saves is None else f"; {effect(saves)}",
        )

    def _changed(self, plan: ServicePlan, condition: Condition) -> None:
        level = logging.WARNING if condition.status is False and condition.type == "MetricsFresh" else logging.INFO
        status = "Unknown" if condition.status is None else str(condition.status)
        if self._as_json:
            facts = {
                "service": str(plan.key),
                "condition": condition.type,
                "status": status,
                "reason": str(condition.reason),
                "message": condition.message,
            }
            log.log(level, json.dumps(facts))
            return
        log.log(level, "%s %s is %s (%s): %s", plan.key, condition.type, status, condition.reason, condition.message)

    def _stepped(self, use: BudgetUse, step: BurnStep, *, active: bool) -> None:
        reason = Reason.STEP_REACHED if active else Reason.STEP_ENDED
        if self._as_json:
            facts: dict[str, Any] = {
                "policy": use.policy,
                "period": use.period,
                "resource": use.resource,
                "step": step.at,
                "do": step.do,
                "usedShare": None if isinstance(use.share, Missing) else round(use.share, 4),
                "reason": str(reason),
            }
            log.info(json.dumps(facts))
            return
        log.info("policy %s (%s): %s", use.policy, reason, stepped(use, step, active=active))

    def _cordoned(self, change: CordonNode) -> None:
        if self._as_json:
            facts = {"node": change.node, "cordon": change.to, "policy": change.policy, "message": change.message}
            log.info(json.dumps(facts))
            return
        log.info("node %s %s (policy %s): %s", change.node, CORDONS[change.to], change.policy or "none", change.message)

    def _failed(self, outcome: Outcome) -> None:
        what, change = _what(outcome.change), outcome.change
        kind, name = ("node", change.node) if isinstance(change, CordonNode) else ("service", str(outcome.key))
        if self._as_json:
            log.warning(json.dumps({kind: name, "failed": what, "error": outcome.error}))
            return
        log.warning("%s was not changed (%s): %s", name if kind == "service" else f"{kind} {name}", what, outcome.error)


def _what(change: Change) -> str:
    match change:
        case RunVariant():
            return f"{change.variant} to {change.replicas}"
        case KeepVariant():
            return f"{change.variant} as declared"
        case SetFloor():
            return f"minimum of {change.scaler} to {change.minimum}"
        case ClearRequest():
            return "clear /scale's request"
        case ShieldPod():
            return f"{'shield' if change.up else 'shield no longer'} {change.pod.name}"
        case CordonNode():
            return CORDONS[change.to]
