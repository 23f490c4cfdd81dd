"""Kubernetes Events on decisions, on conditions that changed, on steps of budgets and on writes that failed; never on
a quiet cycle.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from fallow.adapters.reports.budgets import stepped
from fallow.adapters.reports.changes import BudgetWatch, ConditionWatch, DecisionWatch, FailureWatch
from fallow.adapters.reports.objects import Sender
from fallow.adapters.reports.texts import effect, line
from fallow.domain.errors import WriteError
from fallow.domain.plans import Condition, CordonNode, Decision, ServicePlan, replicas_text
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import ClusterView
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey

log = logging.getLogger(__name__)

CONTROLLER = "fallow.dev/fallow"
# Serving says the same as Ready
TOLD = frozenset({"Ready", "Converged", "ObjectivesMet", "MetricsFresh", "PolicyApplied"})
# A service may have this many Events at once, and one more each minute: a flapping one must not flood the API server.
# Conditions and decisions have an allowance each, so that a flapping signal never hides what was done.
BURST = 10.0
PER_SECOND = 1 / 60
LONGEST_NOTE = 1024
# where Kubernetes keeps Events of objects that have no namespace
CLUSTER_WIDE = "default"


@dataclass(frozen=True, slots=True)
class Told:
    """One thing worth an Event, of a service or, without a namespace, of a policy."""

    key: ServiceKey
    action: str
    reason: Reason
    note: str
    warning: bool = False


@dataclass(slots=True)
class Allowance:
    """Events that a service may still have."""

    left: float
    at: Instant


class EventReporter:
    """Sends each Event once; one that does not arrive is not sent again, as the status says the same."""

    def __init__(self, sender: Sender, instance: str = "") -> None:
        self._sender = sender
        self._instance = instance or socket.gethostname()
        self._decisions = DecisionWatch()
        self._conditions = ConditionWatch()
        self._failures = FailureWatch()
        self._budgets = BudgetWatch()
        self._allowances: dict[tuple[ServiceKey, bool], Allowance] = {}
        self._numbers = count()

    async def report(self, report: CycleReport) -> None:
        """Send what is new. After the first failure the rest of this cycle is left out: the API server is busy."""
        now, uids = report.snapshot.at, _uids(report.snapshot.cluster)
        self._allowances = {key: kept for key, kept in self._allowances.items() if key[0] in uids}
        for told in list(self._news(report)):
            uid = uids.get(told.key)
            if uid is None or not self._is_allowed(told, now):
                continue
            try:
                await self._send(uid, told, now)
            except WriteError as error:
                log.warning("an Event for %s was not sent: %s", told.key, error)
                return

    def _news(self, report: CycleReport) -> Iterator[Told]:
        for plan, decision in self._decisions.new(report.plan):
            yield Told(plan.key, decision.action, decision.reason, _decided(plan, decision))
        for plan, condition in self._conditions.changed(report.plan):
            if _is_told(condition):
                note = f"{condition.type} is {_word(condition.status)}: {condition.message}"
                warning = condition.status is False and condition.type != "Converged"
                yield Told(plan.key, condition.type, condition.reason, note, warning=warning)
        for use, step, active in self._budgets.changed(report.estimates):
            reason = Reason.STEP_REACHED if active else Reason.STEP_ENDED
            yield Told(ServiceKey("", use.policy), "Budget", reason, stepped(use, step, active=active))
        for outcome in report.outcomes:
            if isinstance(outcome.change, CordonNode) and outcome.wrote:
                change = outcome.change
                yield Told(outcome.key, f"{change.to}Node", Reason.EMPTIES_NODE, f"{change.node}: {change.message}")
        for outcome in self._failures.new(report.outcomes):
            yield Told(outcome.key, "Write", Reason.WRITE_FAILED, outcome.error, warning=True)

    def _is_allowed(self, told: Told, now: Instant) -> bool:
        kept = self._allowances.setdefault((told.key, told.action in TOLD), Allowance(BURST, now))
        kept.left = min(BURST, kept.left + (now - kept.at) * PER_SECOND)
        kept.at = now
        if kept.left < 1:
            return False
        kept.left -= 1
        return True

    async def _send(self, uid: str, told: Told, now: Instant) -> None:
        key = told.key
        namespace, kind = (key.namespace, "InferenceService") if key.namespace else (CLUSTER_WIDE, "EnergyPolicy")
        within = {"namespace": key.namespace} if key.namespace else {}
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{int(now * 1e6):x}.{next(self._numbers)}", "namespace": namespace},
            "eventTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance[:128],
            "action": told.action or "Report",
            "reason": str(told.reason),
            "regarding": {
                "apiVersion": "fallow.dev/v1alpha1",
                "kind": kind,
                **within,
                "name": key.name,
                "uid": uid,
            },
            "note": line(told.note, LONGEST_NOTE),
            "type": "Warning" if told.warning else "Normal",
        }
        await self._sender.create(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)


def _uids(view: ClusterView) -> Mapping[ServiceKey, str]:
    services = {key: service.uid for key, service in view.services.items()}
    return services | {ServiceKey("", policy.name): policy.uid for policy in view.policies}


def _decided(plan: ServicePlan, decision: Decision) -> str:
    would = "would run" if decision.proposal else "runs"
    saves = "" if decision.saves is None else f", {effect(decision.saves)}"
    policy = f", policy {decision.policy}" if decision.policy else ""
    runs = f"{would} {replicas_text(plan.proposed, plan.scalers)}"
    return f"{decision.action}: {decision.message}; {runs}{saves} (lever {decision.lever}{policy})"


def _is_told(condition: Condition) -> bool:
    """Waiting for replicas follows from the decision already told; no traffic is no news about objectives."""
    if condition.type == "Converged" and condition.status is False:
        return False
    if condition.type == "ObjectivesMet" and condition.status is None:
        return False
    return condition.type in TOLD


def _word(status: bool | None) -> str:
    return "Unknown" if status is None else str(status)
