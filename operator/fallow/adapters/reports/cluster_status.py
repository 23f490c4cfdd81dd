"""The statuses of EnergyPolicy and ModelProfile. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fallow.adapters.reports import budgets, standing
from fallow.adapters.reports.texts import significant, watts
from fallow.api.energy_policy import EnergyPolicyStatus, PolicySummary, StateCounts
from fallow.api.model_profile import ModelProfileStatus, ProfileSummary
from fallow.domain.figures import Missing
from fallow.domain.plans import Condition, ServicePlan
from fallow.domain.policies import Mode, Policy
from fallow.domain.profiles import Profile
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.units import Instant, Watts
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
        summary=PolicySummary(
            watts="" if drawn is None else watts(drawn),
            saves="" if saved is None else watts(saved),
            budget=budgets.summed_up(used),
        ),
    ).as_json()


def profile_status(profile: Profile, before: JSON, generation: int, now: Instant) -> dict[str, Any]:
    best = min(profile.points, key=lambda point: point.joules_per_token, default=None)
    if best is None:
        told = Condition("Ready", status=False, reason=Reason.NO_HISTORY, message="no point is declared or learned yet")
    else:
        words = f"{len(profile.points)} points for {profile.gpus} x {profile.gpu_product}"
        told = Condition("Ready", status=True, reason=Reason.AS_ASKED, message=words)
    shown = "" if best is None else f"{significant(best.joules_per_token)} at {best.concurrency:g}"
    written = ModelProfileStatus(
        observed_generation=generation,
        conditions=standing.shown((told,), before, generation, now),
        point_count=len(profile.points),
        best_joules_per_token=None if best is None else float(f"{best.joules_per_token:.6g}"),
        summary=ProfileSummary(best=shown),
    ).as_json()
    # learned points are written by whoever learns them and must survive this write
    return {**written, "points": before.get("points") or []}


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
