"""The status of EnergyPolicy. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fallow.adapters.reports import budgets, standing
from fallow.adapters.reports.texts import line, watts
from fallow.api.energy_policy_status import EnergyPolicyStatus, PolicySummary, StateCounts
from fallow.domain.figures import Missing
from fallow.domain.plans import Condition, ServicePlan
from fallow.domain.policies import Mode, Policy
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.units import Watts
from fallow.domain.workloads import IdleState

JSON = Mapping[str, Any]


def policy_status(report: CycleReport, policy: Policy, before: JSON) -> dict[str, Any]:
    matched = [plan for plan in report.plan.services.values() if plan.policy and plan.policy.name == policy.name]
    states = Counter(plan.memory.idle_state for plan in matched)
    pending = [plan for plan in matched if plan.standing.proposal] if policy.mode is Mode.RECOMMEND else []
    drawn, saved = _drawn(report, matched), _saved(pending)
    words = f"{policy.mode} for {len(matched)} services"
    told = Condition("Ready", status=True, reason=Reason.AS_ASKED, message=words)
    used, now = report.estimates.budgets.get(policy.name, ()), report.snapshot.at
    read = report.estimates.ledger is not None or not used
    return EnergyPolicyStatus(
        observed_generation=policy.generation,
        conditions=standing.shown((told, *budgets.within(used)), before, policy.generation, now),
        matched_services=len(matched),
        services=StateCounts(
            active=states[IdleState.ACTIVE],
            standby=states[IdleState.STANDBY],
            idle=states[IdleState.IDLE],
            unknown=states[IdleState.UNKNOWN],
            stale=states[IdleState.STALE],
        ),
        pending_proposals=len(pending),
        watts=None if drawn is None else round(drawn.value, 1),
        proposed_saving_watts=None if saved is None else round(saved.value, 1),
        active_remedies=budgets.remedies(used) if read else before.get("activeRemedies") or [],
        budgets=budgets.shown(used, before, now) if read else budgets.remembered(before),
        kept_nodes=[line(why) for why in report.plan.kept.policies.get(policy.name, ())],
        summary=PolicySummary(
            watts="" if drawn is None else watts(drawn),
            saves="" if saved is None else watts(saved),
            budget=budgets.summed_up(used),
        ),
    ).as_json()


def _drawn(report: CycleReport, plans: list[ServicePlan]) -> Watts | None:
    """What the services draw together; None where one of them is not known."""
    total = Watts(0)
    for plan in plans:
        drawn = report.estimates.services[plan.key].watts
        if isinstance(drawn, Missing):
            return None
        total = total + drawn
    return total


def _saved(pending: list[ServicePlan]) -> Watts | None:
    known = [plan.standing.saves for plan in pending if plan.standing.saves is not None]
    return sum(known, Watts(0)) if known else None
