"""The status of one InferenceService, from the cycle's report and the status as it was. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fallow.adapters.reports import standing
from fallow.adapters.reports.footprints import footprints, today
from fallow.adapters.reports.learned import with_learned
from fallow.adapters.reports.sources import sources
from fallow.adapters.reports.texts import grams, line, significant, watts
from fallow.api.conditions import Figure as Shown
from fallow.api.conditions import moment
from fallow.api.inference_service_status import (
    ActiveVariant,
    Evidence,
    InferenceServiceStatus,
    Proposal,
    ServiceSummary,
    Standing,
    Veto,
    Work,
)
from fallow.api.inference_service_status import (
    Decision as ShownDecision,
)
from fallow.api.memory import remembered
from fallow.domain.estimates import ServiceEstimate
from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account, Ledger
from fallow.domain.plans import Condition, Decision, Pending, ServicePlan
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.rooflines import Roofline
from fallow.domain.snapshots import Invalid, Pod
from fallow.domain.units import FlopsPerByte, Instant
from fallow.domain.workloads import Service

JSON = Mapping[str, Any]

KEPT_DECISIONS = 5
LONGEST_MESSAGE = 1024
MOST_VETOES = 8


def service_status(
    report: CycleReport, plan: ServicePlan, before: JSON, selector: str, news: Decision | None
) -> dict[str, Any]:
    """`news` is the decision that this cycle took anew; `selector` finds the service's pods."""
    service = report.snapshot.cluster.services[plan.key]
    estimate = report.estimates.services[plan.key]
    pods = [pod for pod in report.snapshot.pods_of(plan.key) if not pod.deleting]
    ready = sum(1 for pod in pods if pod.ready)
    known = _readable(before)
    status = InferenceServiceStatus(
        observed_generation=service.generation,
        conditions=standing.shown(plan.conditions, before, service.generation, report.snapshot.at),
        replicas=len(pods),
        ready_replicas=ready,
        desired_replicas=plan.total,
        selector=selector,
        active_variants=_active(service, plan, pods),
        policy=plan.policy.name if plan.policy else "",
        mode=plan.mode.value,
        power_limit_watts=None if plan.power_limit is None else plan.power_limit.value,
        clock_share=None if plan.clock is None else round(plan.clock, 3),
        standing=_standing(plan, report.plan.kept.services.get(plan.key, "")),
        work=_work(plan, estimate),
        proposal=None if plan.pending is None else _proposal(plan, plan.pending),
        decision=_decisions(before, news),
        footprint=known.footprint
        if report.ledger is None
        else with_learned(
            footprints(report.ledger, service, estimate.intensity, _sources(report, report.ledger, estimate)),
            report,
            plan.key,
        ),
        summary=_summary(report, plan, estimate, ready),
    )
    return remembered(status.model_copy(update={"wake": known.wake}), plan.memory, _evidence(estimate)).as_json()


def invalid_status(invalid: Invalid, before: JSON, generation: int, now: Instant) -> dict[str, Any]:
    """Of an object that cannot be read only the conditions are renewed; what it remembers stays."""
    told = (Condition("Ready", status=False, reason=Reason.INVALID, message=invalid.message),)
    ready = [part.as_json() for part in standing.shown(told, before, generation, now)]
    others = [part for part in before.get("conditions") or () if part.get("type") != "Ready"]
    return {**before, "conditions": ready + others, "observedGeneration": generation}


def _sources(report: CycleReport, ledger: Ledger, estimate: ServiceEstimate) -> list[str]:
    zone = report.snapshot.zones.get(estimate.zone)
    return sources(report.snapshot, ledger, estimate.key, estimate.intensity, zone)


def _active(service: Service, plan: ServicePlan, pods: list[Pod]) -> list[ActiveVariant]:
    """Variants with replicas or wanted ones, in the order of the spec; one that left the spec comes last."""
    found = {pod.variant for pod in pods if pod.variant} | {name for name, count in plan.asked.items() if count}
    order = {variant.name: place for place, variant in enumerate(service.variants)}
    return [
        ActiveVariant(
            name=name,
            replicas=plan.asked.get(name, 0),
            ready_replicas=sum(1 for pod in pods if pod.variant == name and pod.ready),
            pending=sum(1 for pod in pods if pod.variant == name and not pod.ready),
        )
        for name in sorted(found, key=lambda name: (order.get(name, len(order)), name))
    ]


def _decisions(before: JSON, news: Decision | None) -> list[ShownDecision]:
    """The last few, newest first. After a restart a standing proposal is not told a second time."""
    known = _readable({"decision": before.get("decision") or []}).decision
    if news is None:
        return known
    told = ShownDecision(
        at=moment(news.at),
        action=line(news.action),
        reason=str(news.reason),
        lever=news.lever,
        policy=news.policy,
        message=line(news.message, LONGEST_MESSAGE),
        saves_watts=None if news.saves is None else round(news.saves.value, 1),
        proposal=news.proposal,
    )
    if known and news.proposal and _same_proposal(known[0], told):
        return known
    return [told, *known][:KEPT_DECISIONS]


def _proposal(plan: ServicePlan, pending: Pending) -> Proposal:
    saves, grams, money = plan.standing.saves, pending.grams, pending.money
    return Proposal(
        id=pending.proposed.id,
        what=line(pending.proposed.what),
        since=moment(pending.proposed.since),
        stands=True,
        rejected=pending.rejected,
        now=line(pending.now),
        message=line(plan.standing.message, LONGEST_MESSAGE),
        risk=line(pending.risk),
        saves_watts=None if saves is None else round(saves.value, 1),
        saves_grams_per_hour=None if grams is None else round(grams.value, 1),
        saves_money_per_hour=None if money is None else round(money.value, 4),
        currency=pending.currency,
    )


def _standing(plan: ServicePlan, kept: str) -> Standing:
    told = plan.standing
    return Standing(
        reason=str(told.reason),
        lever=told.lever,
        message=line(told.message, LONGEST_MESSAGE),
        vetoes=[
            Veto(guard=veto.guard, reason=str(veto.reason), message=line(veto.message))
            for veto in plan.vetoes[:MOST_VETOES]
        ],
        silences=[line(silence) for silence in plan.silences],
        kept_node=line(kept),
    )


def _work(plan: ServicePlan, estimate: ServiceEstimate) -> Work | None:
    bound = estimate.rooflines.get(plan.serving)
    if not isinstance(bound, Roofline):
        return None
    return Work(
        variant=plan.serving,
        regime=bound.regime.value,
        flops_per_byte=_figure(bound.intensity),
        ridge_flops_per_byte=_figure(bound.ridge),
    )


def _figure(figure: Figure[FlopsPerByte]) -> Shown:
    low, best, high = (float(f"{one.value:.3g}") for one in (figure.low, figure.best, figure.high))
    return Shown(low=low, best=best, high=high)


def _same_proposal(one: ShownDecision, other: ShownDecision) -> bool:
    return one.proposal and (one.action, one.reason, one.lever) == (other.action, other.reason, other.lever)


def _evidence(estimate: ServiceEstimate) -> Evidence:
    evidence = estimate.evidence
    return Evidence(
        requests=line(evidence.requests),
        gpu_activity=line(evidence.gpu_activity),
        watts=line(evidence.watts),
        missing=[line(str(part)) for part in evidence.missing][:16],
    )


def _summary(report: CycleReport, plan: ServicePlan, estimate: ServiceEstimate, ready: int) -> ServiceSummary:
    """Empty where something is not known: kubectl then shows nothing rather than a zero."""
    account = today(report.ledger, plan.key) if report.ledger is not None else None
    unpriced = account is not None and account.facility.best.value > 0 and account.unpriced >= account.facility.best
    return ServiceSummary(
        replicas=f"{ready}/{plan.total}",
        watts="" if isinstance(estimate.watts, Missing) else watts(estimate.watts),
        joules_per_token=_per_token(estimate, account),
        carbon_today="" if account is None or unpriced else grams(account.carbon.best),
    )


def _per_token(estimate: ServiceEstimate, account: Account | None) -> str:
    """Over the recent window; where no token was generated in it, over the day."""
    if not isinstance(estimate.joules_per_token, Missing):
        return significant(estimate.joules_per_token)
    if account is None or account.generated_tokens <= 0:
        return ""
    return significant(account.energy.best.value / account.generated_tokens)


def _readable(status: JSON) -> InferenceServiceStatus:
    try:
        return InferenceServiceStatus.model_validate(status)
    except ValidationError:
        return InferenceServiceStatus()
