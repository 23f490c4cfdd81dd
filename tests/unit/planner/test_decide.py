"""The plan as a whole: which policy governs, why nothing is done, what the conditions say in each situation."""

from dataclasses import replace
from typing import Any

import pytest

from fallow.domain.estimates import Estimates
from fallow.domain.figures import Missing
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode, Operator, Policy, Requirement, Selector
from fallow.domain.readings import Histogram, Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Objectives, ServiceKey, ServiceMemory
from fallow.planner.context import Context, Proposal
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from fallow.planner.levers import replicas
from fallow.planner.selection import policy_for
from tests.support.builders import (
    BF16,
    CHAT,
    FP8,
    NOW,
    PRECISION,
    Running,
    Scene,
    gpu,
    guards,
    policy,
    readings,
    ref,
    service,
    zone,
)
from tests.unit.planner.asking import estimated, planned

GOLD = Selector((Requirement("tier", Operator.IN, ("gold",)),))
PROD = Selector((Requirement("stage", Operator.EXISTS),))


@pytest.mark.parametrize(
    ("policies", "name"),
    [
        ((), None),
        ((policy(name="a"), policy(name="b")), "a"),
        ((policy(name="a"), policy(name="b", priority=5)), "b"),
        ((policy(name="a", services=GOLD), policy(name="b")), "a"),
        ((policy(name="a", services=Selector((Requirement("tier", Operator.IN, ("tin",)),))),), None),
        ((policy(name="a", namespaces=PROD),), "a"),
        ((policy(name="a", namespaces=Selector((Requirement("x", Operator.EXISTS),))),), None),
    ],
    ids=[
        "none at all",
        "the first name of equals",
        "the highest priority",
        "by the service's labels",
        "not by the service's labels",
        "by the namespace's labels",
        "not by the namespace's labels",
    ],
)
def test_the_policy_that_governs_a_service(policies: tuple[Policy, ...], name: str | None) -> None:
    svc = service(labels={"tier": "gold"}, namespace_labels={"stage": "prod"})
    found = policy_for(svc, policies)
    assert (found.name if found else None) == name


def test_every_service_of_the_cluster_gets_its_part_of_the_plan() -> None:
    snapshot = Scene().snapshot()
    other = service(key=ServiceKey("llm", "code"))
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, services={CHAT: service(), other.key: other}))
    plan = decide(snapshot, estimate(snapshot, Concluded()))
    assert plan.at == NOW
    assert set(plan.services) == {CHAT, other.key}
    assert plan.services[CHAT].replicas == {"bf16": 1}


def test_a_fault_in_the_plan_of_one_service_leaves_it_as_it_is_and_the_others_in_peace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    propose = replicas.propose

    def faulty(context: Context) -> Proposal:
        return propose(context) if context.service.key != CHAT else 1 // 0  # type: ignore[return-value]

    monkeypatch.setattr(replicas, "propose", faulty)
    snapshot = Scene().snapshot()
    other = service(key=ServiceKey("llm", "code"))
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, services={CHAT: service(), other.key: other}))
    plan = decide(snapshot, estimate(snapshot, Concluded()))
    assert plan.services[CHAT].standing.reason is Reason.PLAN_FAILED
    assert "ZeroDivisionError" in plan.services[CHAT].standing.message
    assert plan.services[CHAT].replicas == {"bf16": 1}
    assert plan.services[CHAT].decision is None
    assert plan.services[other.key].standing.reason is not Reason.PLAN_FAILED
    assert plan.services[other.key].replicas == {"bf16": 1}


def test_without_a_policy_replicas_stay_and_the_plan_says_so() -> None:
    plan = planned(Scene(policy=None, variants={"bf16": Running(3, running=100)}))
    assert (plan.replicas, plan.proposed) == ({"bf16": 3}, {"bf16": 3})
    assert (plan.decision, plan.policy, plan.mode) == (None, None, Mode.OBSERVE)
    assert plan.standing.reason is Reason.LEVER_OFF


@pytest.mark.parametrize(
    ("mode", "runs", "decided", "proposal"),
    [(Mode.ENFORCE, 4, True, False), (Mode.RECOMMEND, 2, True, True), (Mode.OBSERVE, 2, False, True)],
)
def test_a_mode_decides_whether_a_proposal_is_done_told_or_only_noted(
    mode: Mode, runs: int, *, decided: bool, proposal: bool
) -> None:
    plan = planned(Scene(policy=policy(mode), variants={"bf16": Running(2, running=34)}))
    assert (plan.total, plan.proposed) == (runs, {"bf16": 4})
    assert (plan.decision is not None) == decided
    assert plan.standing.proposal is proposal
    assert plan.standing.policy == "green"
    assert (plan.memory.changed_at == NOW) == (mode is Mode.ENFORCE)


def test_a_standing_decision_collects_what_every_lever_was_refused() -> None:
    scene = Scene(
        service=service(BF16, FP8),
        variants={"bf16": Running(4, running=9)},
        policy=policy(precision=PRECISION),
        zone=zone(400),
        memory=ServiceMemory(serving="bf16", changed_at=Instant(NOW - 60)),
    )
    plan = planned(scene)
    assert plan.replicas == {"bf16": 4}
    assert plan.standing.reason is Reason.DWELL
    assert [(veto.guard, veto.reason) for veto in plan.vetoes] == [("dwell", Reason.DWELL), ("dwell", Reason.DWELL)]


def test_a_quiet_service_that_may_not_rest_says_why() -> None:
    plan = planned(Scene(memory=ServiceMemory(quiet_since=Instant(NOW - 700))))
    assert plan.standing.reason is Reason.MIN_REPLICAS
    assert plan.standing.message == "quiet for 700 s; scaling.minReplicas keeps 1 replicas"


TTFT = Objectives(ttft_p95=Seconds(2))
BOUNDS = (1.0, 4.0, float("inf"))


def answering(*counts: float) -> Readings:
    shown = readings({"bf16": Running(running=4)}, counted=5)
    histogram = Histogram(BOUNDS, counts)
    return replace(shown, engines={pod: replace(one, ttft=histogram) for pod, one in shown.engines.items()})


def silent() -> Readings:
    return replace(answering(0, 0, 0), at=Instant(NOW - 120))


def objective(histogram: Readings) -> Scene:
    return Scene(service=service(objectives=TTFT), readings=histogram, earlier=silent())


STALE = readings({"bf16": Running()}, at=Instant(NOW - 300))
DOWN = replace(readings({"bf16": Running()}), gpus={}, gpu_fault=Missing(Reason.SOURCE_UNREACHABLE, "refused"))


@pytest.mark.parametrize(
    ("scene", "kind", "status", "reason", "message"),
    [
        (Scene(), "Ready", True, Reason.AS_ASKED, "1 replicas are ready"),
        (Scene(variants={"bf16": Running(2, ready=0)}), "Ready", False, Reason.STARTING, "no replica is ready yet"),
        (Scene(), "Serving", True, Reason.ALL_READY, "bf16 serves"),
        (Scene(variants={}), "Serving", False, Reason.STARTING, "waiting for the first ready replica"),
        (Scene(service=service(requested=0), variants={}), "Serving", False, Reason.STOPPED, "no replica runs"),
        (Scene(service=service(requested=0), variants={}), "Ready", True, Reason.STOPPED, "stopped through /scale"),
        (Scene(service=service(paused=True), variants={}), "Ready", True, Reason.PAUSED, "paused"),
        (Scene(), "Converged", True, Reason.ALL_READY, "bf16 1"),
        (
            Scene(variants={"bf16": Running(2, ready=1, running=15)}),
            "Converged",
            False,
            Reason.STARTING,
            "1 of 2 ready",
        ),
        (Scene(), "ObjectivesMet", None, Reason.NO_OBJECTIVES, "none declared"),
        (objective(answering(100, 100, 100)), "ObjectivesMet", True, Reason.OBJECTIVES_MET, "within"),
        (
            objective(answering(0, 100, 100)),
            "ObjectivesMet",
            False,
            Reason.OBJECTIVES_MISSED,
            "TTFT p95 is above its objective of 2000 ms",
        ),
        (objective(answering(0, 0, 0)), "ObjectivesMet", None, Reason.NO_WORK, "no request finished"),
        (Scene(), "MetricsFresh", True, Reason.FRESH, "all signals are fresh"),
        (Scene(readings=STALE), "MetricsFresh", False, Reason.STALE_SERIES, "not from the last 90 s"),
        (Scene(readings=DOWN), "MetricsFresh", False, Reason.SOURCE_UNREACHABLE, "refused"),
        (Scene(), "PolicyApplied", True, Reason.POLICY_FOUND, "green is enforced"),
        (Scene(policy=policy(Mode.OBSERVE)), "PolicyApplied", True, Reason.POLICY_FOUND, "green observes"),
        (Scene(policy=policy(Mode.RECOMMEND)), "PolicyApplied", True, Reason.POLICY_FOUND, "green recommends"),
        (Scene(policy=None), "PolicyApplied", False, Reason.NO_POLICY, "no EnergyPolicy selects this service"),
    ],
)
def test_conditions_say_what_is_the_case(
    scene: Scene,
    kind: str,
    status: bool | None,
    reason: Reason,
    message: str,
) -> None:
    found = next(condition for condition in planned(scene).conditions if condition.type == kind)
    assert (found.status, found.reason) == (status, reason)
    assert message in found.message


@pytest.mark.parametrize(
    "scene",
    [Scene(readings=STALE), Scene(readings=DOWN), objective(answering(0, 100, 100)), Scene()],
    ids=["stale", "unreachable", "objective missed", "healthy"],
)
def test_conditions_do_not_change_while_the_situation_lasts(scene: Scene) -> None:
    """Each change is a write to the API server."""
    later = replace(scene.snapshot(), at=Instant(NOW + 5))
    assert planned(later).conditions == planned(scene).conditions


def test_the_age_at_which_readings_are_stale_is_the_policys() -> None:
    patient = policy(guards=guards(metrics_max_age=400))
    fresh = next(c for c in planned(Scene(readings=STALE, policy=patient)).conditions if c.type == "MetricsFresh")
    assert fresh.status is True


def test_energy_per_token_is_that_of_the_window() -> None:
    before = readings({"bf16": Running()}, at=Instant(NOW - 120))
    seen = readings({"bf16": Running()}, counted=1000)
    used = gpu("GPU-bf16-0", ref("bf16-0"), joules=500)
    scene = Scene(readings=replace(seen, gpus={"GPU-bf16-0": used}), earlier=before)
    assert estimated(scene).joules_per_token == 0.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"earlier": None}, Reason.NO_HISTORY), ({}, Reason.NO_WORK)],
    ids=["right after a start", "without a token"],
)
def test_energy_per_token_is_missing(change: dict[str, Any], reason: Reason) -> None:
    found = estimated(replace(Scene().snapshot(), **change)).joules_per_token
    assert isinstance(found, Missing)
    assert found.reason is reason


def test_an_empty_cluster_has_an_empty_plan() -> None:
    snapshot = Scene().snapshot()
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, services={}))
    assert decide(snapshot, Estimates()).services == {}


def told(plan: ServicePlan) -> str:
    return f"{plan.standing.action} {plan.standing.lever} {plan.standing.reason}"


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (Scene(variants={"bf16": Running(running=5)}), "Hold Replicas Steady"),
        (Scene(variants={}), "Start Owner FirstStart"),
        (Scene(variants={"bf16": Running(2, running=34)}), "ScaleUp Replicas Concurrency"),
        (Scene(variants={"bf16": Running(4, running=9)}), "ScaleDown Replicas LoadFell"),
    ],
    ids=["nothing to do", "new", "overloaded", "under-filled"],
)
def test_an_action_is_told_with_its_lever_and_reason(scene: Scene, words: str) -> None:
    assert told(planned(scene)) == words
