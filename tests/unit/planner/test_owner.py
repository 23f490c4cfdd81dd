"""The owner's word is done in every mode: pause, stop, start, limits, /scale, adopted Deployments, removed variants."""

from dataclasses import replace

import pytest

from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode, Policy, ScalingRules
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceMemory
from tests.support.builders import BF16, FP8, NOW, WAKE, Running, Scene, held_series, policy, readings, service
from tests.unit.planner.asking import planned

MODES = [policy(Mode.ENFORCE), policy(Mode.RECOMMEND), policy(Mode.OBSERVE), None]
every_mode = pytest.mark.parametrize("mode", MODES, ids=["Enforce", "Recommend", "Observe", "no policy"])
ADOPTED = service(minimum=1, target="vllm-chat")
BOTH = service(BF16, FP8)


def condition(plan: ServicePlan, kind: str) -> tuple[bool | None, Reason]:
    found = next(condition for condition in plan.conditions if condition.type == kind)
    return found.status, found.reason


@every_mode
def test_a_new_service_starts_with_the_fewest_replicas_it_may_have(mode: Policy | None) -> None:
    plan = planned(Scene(service=service(minimum=3), variants={}, policy=mode, history=()))
    assert plan.replicas == {"bf16": 3}
    assert plan.decision is not None
    assert (plan.decision.action, plan.decision.reason) == ("Start", Reason.FIRST_START)
    assert plan.memory.serving == "bf16"


@pytest.mark.parametrize(
    ("minimum", "requested", "replicas"), [(0, None, 1), (0, 4, 4), (2, 1, 2)], ids=["min 0", "/scale 4", "/scale 1"]
)
def test_a_service_starts_with_what_was_asked_for(minimum: int, requested: int | None, replicas: int) -> None:
    svc = service(minimum=minimum, requested=requested)
    assert planned(Scene(service=svc, variants={}, history=())).replicas == {"bf16": replicas}


@every_mode
@pytest.mark.parametrize(
    "scene",
    [
        Scene(variants={}),
        Scene(variants={"bf16": Running(12)}),
        Scene(variants={"bf16": Running(1, running=100)}),
        Scene(service=service(requested=0)),
        Scene(service=service(requested=4)),
    ],
    ids=["new", "above the limits", "overloaded", "stopped", "asked for more"],
)
def test_nothing_moves_while_paused(scene: Scene, mode: Policy | None) -> None:
    plan = planned(replace(scene, service=replace(scene.service, paused=True), policy=mode))
    assert plan.replicas == {variant: run.replicas for variant, run in scene.variants.items()}
    assert plan.decision is None
    assert plan.standing.reason is Reason.PAUSED


@every_mode
@pytest.mark.parametrize("fresh", [True, False], ids=["metrics there", "metrics missing"])
def test_scale_to_zero_stops_everything(mode: Policy | None, *, fresh: bool) -> None:
    variants = {"bf16": Running(2, running=8), "fp8": Running(1)}
    scene = Scene(
        service=replace(BOTH, requested=0),
        variants=variants,
        policy=mode,
        memory=ServiceMemory(serving="bf16", switching_to="fp8", changed_at=NOW),
        readings=None if fresh else readings({}),
    )
    plan = planned(scene)
    assert plan.replicas == {"bf16": 0, "fp8": 0}
    assert (plan.memory.switching_to, plan.memory.resting, plan.memory.request_seen) == (None, False, 0)
    assert condition(plan, "Ready")[1] in {Reason.AS_ASKED, Reason.STOPPED}


def test_a_stopped_service_stays_stopped_until_the_owner_says_otherwise() -> None:
    stopped = Scene(service=service(requested=0), variants={"bf16": Running(0)}, memory=ServiceMemory(request_seen=0))
    plan = planned(stopped)
    assert (plan.total, plan.standing.reason, plan.clear_request) == (0, Reason.STOPPED, False)
    assert condition(plan, "Ready") == (True, Reason.STOPPED)
    assert planned(replace(stopped, service=service())).replicas == {"bf16": 1}
    assert planned(replace(stopped, service=service(requested=3))).replicas == {"bf16": 3}


@every_mode
@pytest.mark.parametrize(
    ("minimum", "maximum", "replicas"), [(3, 8, 3), (1, 1, 1)], ids=["minReplicas raised", "maxReplicas lowered"]
)
def test_changed_limits_are_met_at_once(minimum: int, maximum: int, replicas: int, mode: Policy | None) -> None:
    scene = Scene(service=service(minimum=minimum, maximum=maximum), variants={"bf16": Running(2, running=8)})
    plan = planned(replace(scene, policy=mode))
    assert plan.replicas == {"bf16": replicas}
    assert plan.standing.reason is Reason.LIMITS


@every_mode
def test_scale_asks_for_more_at_once(mode: Policy | None) -> None:
    plan = planned(Scene(service=service(requested=4), variants={"bf16": Running(2, running=8)}, policy=mode))
    assert plan.replicas == {"bf16": 4}
    assert plan.standing.reason is Reason.REQUESTED
    assert (plan.memory.request_seen, plan.memory.request_at) == (4, NOW)


def test_scale_asks_for_more_also_during_a_switch() -> None:
    scene = Scene(
        service=replace(BOTH, requested=4),
        variants={"bf16": Running(2, running=8), "fp8": Running(2, ready=0)},
        memory=ServiceMemory(serving="bf16", switching_to="fp8", changed_at=Instant(NOW - 30)),
    )
    assert planned(scene).replicas["bf16"] == 4


WITHOUT_LEVER = [policy(Mode.RECOMMEND), policy(Mode.OBSERVE), None, policy(scaling=ScalingRules(enabled=False))]


@pytest.mark.parametrize("mode", WITHOUT_LEVER, ids=["Recommend", "Observe", "no policy", "lever off"])
def test_scale_asks_for_fewer_where_fallow_does_not_scale_itself(mode: Policy | None) -> None:
    scene = Scene(service=service(requested=2), variants={"bf16": Running(5, running=8)}, policy=mode)
    plan = planned(scene)
    assert plan.replicas == {"bf16": 2}
    assert plan.standing.reason is Reason.REQUESTED
    once = replace(scene, memory=plan.memory, variants={"bf16": Running(5, running=8)})
    assert planned(replace(once, now=Instant(NOW + 15))).replicas == {"bf16": 5}


def test_where_fallow_scales_a_request_for_fewer_is_a_floor() -> None:
    scene = Scene(service=service(requested=2), variants={"bf16": Running(5, running=38)})
    assert planned(scene).replicas == {"bf16": 5}


@every_mode
def test_an_adopted_deployment_that_does_not_exist_is_told_and_not_created(mode: Policy | None) -> None:
    plan = planned(Scene(service=ADOPTED, variants={}, policy=mode))
    assert plan.replicas == {}
    assert plan.standing.reason is Reason.TARGET_NOT_FOUND
    assert condition(plan, "Ready") == (False, Reason.TARGET_NOT_FOUND)


@every_mode
def test_an_adopted_deployment_at_zero_is_not_started_by_fallow_on_its_own(mode: Policy | None) -> None:
    plan = planned(Scene(service=ADOPTED, variants={"bf16": Running(0)}, policy=mode))
    assert plan.replicas == {"bf16": 0}
    assert plan.decision is None
    assert plan.memory.resting


@every_mode
@pytest.mark.parametrize(
    ("wake", "count"),
    [({"requested": 2}, 2), ({"wake_annotation": "now"}, 1), ({"wake": WAKE}, 1)],
    ids=["/scale", "the annotation", "a waiting request"],
)
def test_an_adopted_deployment_at_zero_is_woken_by(wake: dict[str, object], count: int, mode: Policy | None) -> None:
    svc = service(minimum=0, target="vllm-chat", **wake)  # type: ignore[arg-type]
    seen = readings({}, waiting=[held_series(1)])
    plan = planned(Scene(service=svc, variants={"bf16": Running(0)}, policy=mode, readings=seen))
    assert plan.replicas == {"bf16": count}
    assert plan.standing.action == "Wake"


def test_an_adopted_deployment_that_its_owner_starts_again_is_run_again() -> None:
    resting = ServiceMemory(serving="bf16", resting=True)
    plan = planned(Scene(service=ADOPTED, variants={"bf16": Running(1)}, memory=resting))
    assert plan.memory.resting is False


@every_mode
def test_a_deployment_deleted_by_hand_is_created_again(mode: Policy | None) -> None:
    memory = ServiceMemory(serving="bf16", changed_at=Instant(NOW - 3600))
    plan = planned(Scene(service=service(minimum=2), variants={}, policy=mode, memory=memory))
    assert plan.replicas == {"bf16": 2}


ONLY_BF16 = service(BF16)
SERVED_FP8 = ServiceMemory(serving="fp8", changed_at=Instant(NOW - 3600))


@every_mode
def test_a_removed_variant_is_replaced_before_it_is_drained(mode: Policy | None) -> None:
    scene = Scene(service=ONLY_BF16, variants={"fp8": Running(3, running=9)}, memory=SERVED_FP8, policy=mode)
    started = planned(scene)
    assert started.replicas == {"bf16": 3, "fp8": 3}
    assert started.serving == "bf16"
    starting = replace(
        scene, variants={"fp8": Running(3, running=9), "bf16": Running(3, ready=2)}, memory=started.memory
    )
    assert planned(starting).replicas == {"bf16": 3, "fp8": 3}
    ready = planned(replace(scene, variants={"fp8": Running(3, running=9), "bf16": Running(3)}, memory=started.memory))
    assert ready.replicas == {"bf16": 3, "fp8": 0}
    assert ready.standing.reason is Reason.DRAINING


@every_mode
def test_a_removed_variant_keeps_serving_while_its_successor_does_not_get_ready(mode: Policy | None) -> None:
    memory = replace(SERVED_FP8, serving="bf16", changed_at=Instant(NOW - 86_400))
    variants = {"fp8": Running(3, running=9), "bf16": Running(3, ready=0)}
    snapshot = Scene(service=ONLY_BF16, variants=variants, memory=memory, policy=mode).snapshot()
    old = {key: replace(pod, created=Instant(NOW - 7200)) for key, pod in snapshot.cluster.pods.items()}
    for seen in (snapshot, replace(snapshot, cluster=replace(snapshot.cluster, pods=old))):
        assert planned(seen).replicas == {"fp8": 3, "bf16": 3}


def test_a_variant_removed_in_the_middle_of_its_switch_is_drained_and_the_serving_one_stays() -> None:
    memory = ServiceMemory(serving="bf16", switching_to="fp8", changed_at=Instant(NOW - 60))
    variants = {"bf16": Running(3, running=9), "fp8": Running(3, ready=1)}
    plan = planned(Scene(service=ONLY_BF16, variants=variants, memory=memory))
    assert plan.replicas == {"bf16": 3, "fp8": 0}


def test_a_variant_removed_in_the_middle_of_the_switch_back_leaves_the_reference_running() -> None:
    memory = ServiceMemory(serving="fp8", switching_to="bf16", changed_at=Instant(NOW - 86_400))
    for ready in (0, 3):
        variants = {"fp8": Running(3, running=9), "bf16": Running(3, ready=ready)}
        plan = planned(Scene(service=ONLY_BF16, variants=variants, memory=memory))
        assert plan.replicas == {"fp8": 0 if ready else 3, "bf16": 3}
        assert (plan.serving, plan.memory.switching_to) == ("bf16", None)


def test_a_variant_removed_while_resting_leaves_the_service_at_rest_and_the_reference_wakes() -> None:
    memory = ServiceMemory(serving="fp8", resting=True)
    resting = Scene(service=service(BF16, minimum=0), variants={"fp8": Running(0)}, memory=memory)
    assert planned(resting).replicas == {"fp8": 0}
    woken = planned(replace(resting, service=service(BF16, minimum=0, requested=2)))
    assert woken.replicas == {"fp8": 0, "bf16": 2}


@every_mode
def test_a_service_whose_pods_all_crash_keeps_every_replica(mode: Policy | None) -> None:
    scene = Scene(variants={"bf16": Running(4, ready=0)}, policy=mode, memory=ServiceMemory(serving="bf16"))
    plan = planned(scene)
    assert plan.replicas == {"bf16": 4}
    assert condition(plan, "Ready") == (False, Reason.STARTING)


def test_without_memory_the_variant_with_most_replicas_serves() -> None:
    plan = planned(Scene(service=BOTH, variants={"bf16": Running(1), "fp8": Running(3, running=25)}))
    assert plan.serving == "fp8"
