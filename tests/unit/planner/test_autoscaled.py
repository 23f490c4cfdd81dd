"""Where an autoscaler of others owns the replicas, Fallow plans its minimum; two owners are told and left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.autoscalers import Autoscaler, AutoscalerKind
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode, Policy, ScalingRules
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Invalid
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceMemory
from fallow.planner.hurry import may_need_more
from tests.support.builders import (
    BF16,
    FP8,
    NOW,
    PRECISION,
    WAKE,
    Running,
    Scene,
    held_series,
    policy,
    readings,
    scaler,
    service,
    watched,
)
from tests.unit.planner.asking import planned

KEDA = AutoscalerKind.SCALED_OBJECT
ADOPTED = service(minimum=1, target="vllm-chat")
TO_ZERO = replace(ADOPTED, scaling=replace(ADOPTED.scaling, min_replicas=0))
LEFT = [policy(Mode.OBSERVE), None, policy(scaling=ScalingRules(enabled=False))]
left = pytest.mark.parametrize("mode", LEFT, ids=["Observe", "no policy", "scaling off"])
MODES = st.sampled_from(Mode)
QUIET = ServiceMemory(serving="bf16", quiet_since=Instant(NOW - 3600))


def scene(one: Autoscaler, *more: Autoscaler, runs: Running | None = None, **parts: object) -> Scene:
    plain: dict[str, object] = {"service": ADOPTED, "variants": {"bf16": runs or Running(2)}}
    return Scene(**{**plain, "scalers": {"bf16": (one, *more)}, **parts})  # type: ignore[arg-type]


def condition(plan: ServicePlan, kind: str) -> tuple[bool | None, Reason, str]:
    found = next(condition for condition in plan.conditions if condition.type == kind)
    return found.status, found.reason, found.message


def test_load_raises_the_minimum_and_says_from_what_to_what() -> None:
    plan = planned(scene(scaler(2), runs=Running(2, running=38)))
    assert plan.replicas == {"bf16": 4}
    assert plan.decision is not None
    assert plan.decision.message.startswith("minimum of HorizontalPodAutoscaler load: 2 -> 4; ")
    assert plan.scalers["bf16"].name == "load"


def test_the_minimum_follows_the_load_although_the_autoscaler_runs_enough() -> None:
    assert planned(scene(scaler(1), runs=Running(5, running=38))).replicas == {"bf16": 4}


def test_the_minimum_falls_with_the_load_one_at_a_time() -> None:
    plan = planned(scene(scaler(3), runs=Running(3, running=4)))
    assert plan.replicas == {"bf16": 2}
    assert plan.standing.reason is Reason.LOAD_FELL


def test_a_lower_minimum_saves_nothing_while_the_autoscaler_runs_more() -> None:
    assert planned(scene(scaler(3), runs=Running(3, running=4))).standing.saves is not None
    assert planned(scene(scaler(3), runs=Running(5, running=4))).standing.saves is None


def test_the_minimum_never_goes_above_the_autoscalers_maximum() -> None:
    plan = planned(scene(scaler(2, 3), runs=Running(2, running=70)))
    assert plan.replicas == {"bf16": 3}


def test_replicas_above_the_minimum_are_the_autoscalers_and_count_as_asked_for() -> None:
    plan = planned(scene(scaler(1), runs=Running(5, running=3)))
    assert plan.replicas == {"bf16": 1}
    assert (plan.asked, plan.total) == ({"bf16": 5}, 5)
    assert condition(plan, "Converged")[:2] == (True, Reason.ALL_READY)


def test_the_minimum_stays_while_replicas_that_the_autoscaler_asked_for_start() -> None:
    plan = planned(scene(scaler(3), runs=Running(6, ready=4, running=4)))
    assert plan.replicas == {"bf16": 3}
    assert plan.standing.reason is Reason.PENDING_CAPACITY


def test_missing_metrics_lower_no_minimum() -> None:
    plan = planned(scene(scaler(5), runs=Running(5, running=3), readings=readings({})))
    assert plan.replicas == {"bf16": 5}
    assert plan.standing.reason is Reason.DATA_MISSING


def test_limits_bind_a_minimum_only_where_a_policy_is_enforced() -> None:
    several = scene(scaler(4), runs=Running(4, running=30), service=service(target="vllm-chat", maximum=2))
    assert planned(several).replicas == {"bf16": 2}
    assert planned(replace(several, policy=policy(Mode.RECOMMEND))).replicas == {"bf16": 4}
    assert planned(replace(several, policy=None)).standing.reason is not Reason.LIMITS


@left
def test_the_owners_minimum_comes_back_where_no_policy_sets_another(mode: Policy | None) -> None:
    plan = planned(scene(scaler(5, declared=2), runs=Running(5, running=30), policy=mode))
    assert plan.replicas == {"bf16": 2}
    assert plan.decision is not None
    assert (plan.decision.action, plan.decision.reason) == ("HandBack", Reason.HANDED_BACK)
    assert "5 -> 2" in plan.decision.message


@left
def test_a_minimum_that_is_its_owners_own_is_left_alone(mode: Policy | None) -> None:
    plan = planned(scene(scaler(5), runs=Running(5), policy=mode))
    assert plan.replicas == {"bf16": 5}
    assert plan.decision is None


def test_a_minimum_of_fallows_stays_while_it_only_recommends_or_is_paused() -> None:
    raised = scene(scaler(5, declared=2), runs=Running(5, running=30), policy=policy(Mode.RECOMMEND))
    assert planned(raised).replicas == {"bf16": 5}
    paused = replace(raised, service=replace(ADOPTED, paused=True), policy=None)
    assert planned(paused).standing.reason is Reason.PAUSED
    assert planned(paused).replicas == {"bf16": 5}


def test_a_minimum_stays_while_a_policy_cannot_be_read() -> None:
    snapshot = scene(scaler(5, declared=2), runs=Running(5, running=30), policy=None).snapshot()
    doubtful = replace(snapshot.cluster, invalid=(Invalid("EnergyPolicy", "", "green", "mode: write Enforce"),))
    snapshot = replace(snapshot, cluster=doubtful)
    assert planned(snapshot).replicas == {"bf16": 5}


@pytest.mark.parametrize("mode", [policy(), *LEFT], ids=["Enforce", "Observe", "no policy", "scaling off"])
def test_scale_raises_the_minimum_at_once(mode: Policy | None) -> None:
    asked = scene(scaler(2), runs=Running(2, running=5), service=replace(ADOPTED, requested=4), policy=mode)
    plan = planned(asked)
    assert plan.replicas == {"bf16": 4}
    assert plan.standing.reason is Reason.REQUESTED


def test_a_quiet_service_under_an_hpa_is_put_to_rest() -> None:
    plan = planned(scene(scaler(2), service=TO_ZERO, memory=QUIET))
    assert plan.replicas == {"bf16": 0}
    assert plan.memory.resting


def test_a_resting_service_under_an_hpa_wakes() -> None:
    at_zero = scene(
        scaler(2),
        runs=Running(0),
        service=replace(TO_ZERO, scaling=replace(TO_ZERO.scaling, wake=WAKE)),
        readings=readings({}, waiting=[held_series(1)]),
    )
    plan = planned(at_zero)
    assert plan.replicas == {"bf16": 1}
    assert plan.standing.action == "Wake"


@pytest.mark.parametrize("rests", [scaler(0, kind=KEDA), scaler(0)], ids=["ScaledObject", "HPA that scales to zero"])
def test_going_to_zero_is_left_to_whom_it_belongs(rests: Autoscaler) -> None:
    plan = planned(scene(rests, runs=Running(1), service=TO_ZERO, memory=QUIET))
    assert plan.replicas == {"bf16": 1}
    assert plan.standing.reason is Reason.LEFT_TO_AUTOSCALER
    assert any("takes it to zero and back" in silence for silence in plan.silences)


@pytest.mark.parametrize("asked", [None, 0, 2], ids=["nothing", "stop", "more"])
def test_at_zero_under_a_scaled_object_nothing_is_started(asked: int | None) -> None:
    plan = planned(scene(scaler(0, kind=KEDA), runs=Running(0), service=replace(TO_ZERO, requested=asked)))
    assert plan.replicas == {"bf16": 0}
    assert plan.decision is None
    assert plan.standing.reason is Reason.LEFT_TO_AUTOSCALER
    assert condition(plan, "Ready")[:2] == (True, Reason.RESTING)
    assert not plan.memory.resting


def test_a_stop_that_keda_would_undo_is_told() -> None:
    plan = planned(scene(scaler(1, kind=KEDA), runs=Running(1), service=replace(ADOPTED, requested=0)))
    assert plan.replicas == {"bf16": 1}
    assert 'autoscaling.keda.sh/paused-replicas: "0"' in plan.standing.message


def test_variants_are_never_switched_under_an_autoscaler() -> None:
    two = scene(scaler(2), service=service(BF16, FP8), policy=policy(precision=PRECISION))
    plan = planned(replace(two, zone=Scene().zone, scalers=two.scalers))
    assert set(plan.replicas) == {"bf16"}
    assert "variants are never switched: HorizontalPodAutoscaler load owns the replicas of chat-bf16" in plan.silences


@pytest.mark.parametrize("requested", [None, 0, 6], ids=["as it is", "stop", "more"])
@pytest.mark.parametrize("runs", [Running(1, running=90), Running(6, running=1)], ids=["too few", "too many"])
def test_two_owners_are_told_and_nothing_is_changed(runs: Running, requested: int | None) -> None:
    both = scene(
        scaler(2, name="cpu"),
        scaler(0, name="queue", kind=KEDA),
        runs=runs,
        service=replace(ADOPTED, requested=requested),
    )
    plan = planned(both)
    assert plan.replicas == {"bf16": runs.replicas}
    assert plan.decision is None
    assert plan.standing.reason is Reason.TWO_OWNERS
    words = "HorizontalPodAutoscaler cpu and ScaledObject queue both set the replicas of chat-bf16; delete all but one"
    assert plan.standing.message.startswith(words)
    assert condition(plan, "PolicyApplied") == (False, Reason.TWO_OWNERS, plan.standing.message)


def test_what_fallow_put_to_rest_wakes_although_two_own_it() -> None:
    svc = replace(TO_ZERO, wake_annotation="now")
    plan = planned(scene(scaler(1, name="a"), scaler(1, name="b"), runs=Running(0), service=svc))
    assert plan.standing.action == "Wake"


@pytest.mark.parametrize(
    ("one", "reason", "words"),
    [
        (scaler(2, declared=2, overruled=True), Reason.OVERRULED, "remove its annotation fallow.dev/declared-minimum"),
        (scaler(2, maker="InferenceService legacy"), Reason.LEFT_TO_AUTOSCALER, "made by InferenceService legacy"),
        (scaler(2, kind=KEDA, seen=False), Reason.DATA_MISSING, "not seen itself yet"),
        (scaler(2, kind=KEDA, paused=True), Reason.PAUSED, "would not act on its minimum"),
    ],
    ids=["put back by somebody", "made by a controller", "not seen yet", "paused"],
)
def test_a_minimum_that_is_not_fallows_to_change_stays(one: Autoscaler, reason: Reason, words: str) -> None:
    plan = planned(scene(one, runs=Running(2, running=90)))
    assert plan.replicas == {"bf16": 2}
    assert plan.standing.reason is reason
    assert words in plan.standing.message
    assert condition(plan, "PolicyApplied")[:2] == (False, reason)


def test_between_cycles_nobody_is_looked_at_whose_autoscaler_is_at_its_maximum() -> None:
    one = scene(scaler(1, 4), runs=Running(4), service=service(target="vllm-chat", maximum=8))
    assert may_need_more(one.cluster()) == ()
    assert may_need_more(replace(one, variants={"bf16": Running(3)}).cluster()) != ()


BOUNDED = st.builds(
    lambda minimum, more, declared, kind: scaler(minimum, minimum + more, declared=declared, kind=kind),
    st.integers(1, 8),
    st.integers(0, 6),
    st.none() | st.integers(1, 8),
    st.sampled_from(AutoscalerKind),
)


@given(one=BOUNDED, above=st.integers(0, 4), missing=st.integers(0, 3), running=st.floats(0, 200), mode=MODES)
def test_a_planned_minimum_lies_between_one_and_the_autoscalers_maximum(
    *, one: Autoscaler, above: int, missing: int, running: float, mode: Mode
) -> None:
    count = one.minimum + above
    runs = Running(count, ready=max(count - missing, 0), running=running)
    plan = planned(scene(one, runs=runs, policy=policy(mode), history=watched(running, count)))
    assert 1 <= plan.replicas["bf16"] <= one.maximum
    assert plan.total >= count
