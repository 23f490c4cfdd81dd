"""Rest and wake: to zero after a whole watched quiet, back at one word from anybody, and the same across restarts."""

from dataclasses import replace

import pytest

from fallow.domain.figures import Missing
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import IdleRules, Mode, Policy
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Joules, Seconds, Watts
from fallow.domain.workloads import IdleState, Service, ServiceMemory
from fallow.planner.remembering import waking, woken
from tests.support.builders import (
    BF16,
    FP8,
    NOW,
    WAKE,
    Running,
    Scene,
    held_series,
    policy,
    profile,
    readings,
    service,
)
from tests.unit.planner.asking import planned

QUIET = Instant(NOW - 600)
LONG_QUIET = ServiceMemory(serving="bf16", quiet_since=QUIET, idle_state=IdleState.STANDBY)
ASLEEP = ServiceMemory(serving="bf16", resting=True, idle_state=IdleState.IDLE, changed_at=Instant(NOW - 3600))
TO_ZERO = service(minimum=0)
NOTHING = {"bf16": Running(0)}
NO_RELEASE = replace(policy(), idle=IdleRules(release=False))
UNREAD = Missing(Reason.SOURCE_UNREACHABLE, "refused")


def quiet(svc: Service = TO_ZERO, memory: ServiceMemory = LONG_QUIET, **more: object) -> Scene:
    return replace(Scene(service=svc, memory=memory), **more)  # type: ignore[arg-type]


def asleep(svc: Service = TO_ZERO, memory: ServiceMemory = ASLEEP, **more: object) -> Scene:
    return replace(Scene(service=svc, memory=memory, variants=NOTHING), **more)  # type: ignore[arg-type]


def patient(within: float) -> Policy:
    return replace(policy(), idle=IdleRules(after=Seconds(600), wake_within=Seconds(within)))


def started(seconds: float) -> Snapshot:
    """Of a replica that took so long from its creation until it was ready."""
    snapshot = quiet(policy=patient(60)).snapshot()
    pods = {
        ref: replace(one, created=Instant(NOW - 7200), ready_since=Instant(NOW - 7200 + seconds))
        for ref, one in snapshot.cluster.pods.items()
    }
    return replace(snapshot, cluster=replace(snapshot.cluster, pods=pods))


@pytest.mark.parametrize(
    ("asked", "rests", "words"),
    [
        (quiet(policy=patient(60)), False, "how long a wake takes is not known, idle.wakeWithin is 60 s"),
        (quiet(policy=patient(60), memory=replace(LONG_QUIET, wake_took=Seconds(61))), False, "a wake takes 61 s"),
        (quiet(policy=patient(60), memory=replace(LONG_QUIET, wake_took=Seconds(60))), True, "quiet for 600 s"),
        (started(45), True, "quiet for 600 s"),
        (started(75), False, "a wake takes 75 s"),
        (started(3600), False, "not known"),
        (quiet(policy=patient(60), profiles=(profile(BF16, load_seconds=Seconds(50)),)), True, "quiet for 600 s"),
        (quiet(policy=patient(60), profiles=(profile(BF16, load_seconds=Seconds(90)),)), False, "a wake takes 90 s"),
    ],
    ids=[
        "nothing tells",
        "the last wake was too long",
        "the last wake was short enough",
        "its replicas started soon enough",
        "its replicas started too late",
        "a replica that was unready for an hour",
        "the profile is short enough",
        "the profile is too long",
    ],
)
def test_who_may_not_wait_for_a_start_is_not_put_to_rest(asked: Scene | Snapshot, rests: bool, words: str) -> None:
    plan = planned(asked)
    assert plan.memory.resting is rests
    assert words in plan.standing.message
    assert (Reason.WAKE_TOO_LONG in {veto.reason for veto in plan.vetoes}) is not rests


def condition(plan: ServicePlan, kind: str) -> tuple[bool | None, Reason]:
    found = next(condition for condition in plan.conditions if condition.type == kind)
    return found.status, found.reason


def test_a_service_that_was_quiet_for_idle_after_rests_at_zero() -> None:
    plan = planned(quiet(variants={"bf16": Running(2)}))
    assert plan.replicas == {"bf16": 0}
    assert plan.decision is not None
    assert (plan.decision.action, plan.decision.reason) == ("Rest", Reason.IDLE_LONG_ENOUGH)
    assert plan.decision.message == (
        "quiet for 600 s: 0 running, 0 waiting, counters still; GPU active 0% of the time; "
        "244 W against an idle ceiling of 316 W"
    )
    assert plan.decision.saves == Watts(2 * 122 - 2 * 71.8)
    assert (plan.memory.resting, plan.memory.changed_at, plan.memory.quiet_since) == (True, NOW, None)


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (quiet(memory=replace(LONG_QUIET, quiet_since=Instant(NOW - 599))), Reason.NOT_IDLE_LONG_ENOUGH),
        (quiet(memory=replace(LONG_QUIET, quiet_since=None)), Reason.NOT_IDLE_LONG_ENOUGH),
        (quiet(memory=replace(LONG_QUIET, quiet_since=Instant(NOW + 900))), Reason.NOT_IDLE_LONG_ENOUGH),
        (quiet(service(minimum=1)), Reason.MIN_REPLICAS),
        (quiet(service(minimum=0, requested=1)), Reason.MIN_REPLICAS),
        (quiet(variants={"bf16": Running(2, ready=1)}), Reason.PENDING_CAPACITY),
        (quiet(policy=NO_RELEASE), Reason.STEADY),
        (quiet(policy=policy(idle_after=None)), Reason.STEADY),
        (quiet(variants={"bf16": Running(running=1)}), Reason.STEADY),
    ],
    ids=[
        "quiet for less than that",
        "quiet for the first time",
        "quiet since a time to come",
        "minReplicas keeps one",
        "/scale asked for one just now",
        "a replica is still starting",
        "the ladder has no Release",
        "the policy has no idle rules",
        "it works",
    ],
)
def test_a_service_does_not_rest_while(scene: Scene, reason: Reason) -> None:
    plan = planned(scene)
    assert plan.total == sum(run.replicas for run in scene.variants.values())
    assert plan.standing.reason is reason


@pytest.mark.parametrize(
    "change",
    [
        {"variants": {"bf16": Running(running=1)}},
        {"readings": replace(readings({"bf16": Running()}), gpus={}, gpu_fault=UNREAD)},
        {"readings": readings({"bf16": Running()}, at=Instant(NOW - 300))},
        {"previous": readings({"bf16": Running()}, at=Instant(NOW - 700))},
        {"previous": readings({"bf16": Running()}, at=Instant(NOW + 700))},
        {"variants": {"bf16": Running(ready=0)}},
        {
            "service": service(minimum=0, wake=WAKE),
            "readings": replace(readings({"bf16": Running()}), waiting_fault=UNREAD),
        },
        {
            "service": service(minimum=0, wake=WAKE),
            "readings": readings({"bf16": Running()}, waiting=[held_series(1)]),
        },
    ],
    ids=[
        "a request runs",
        "the GPUs cannot be read",
        "the readings are stale",
        "nobody looked for a while, or the clock was put forward",
        "the clock was put back",
        "no replica is ready",
        "the metric of waiting requests cannot be read",
        "a request waits outside",
    ],
)
def test_quiet_begins_anew_when(change: dict[str, object]) -> None:
    plan = planned(quiet(**change))  # type: ignore[arg-type]
    assert plan.total == 1
    assert plan.memory.quiet_since is None


def test_a_new_request_through_scale_begins_the_quiet_anew_and_one_taken_back_does_not() -> None:
    asked = replace(LONG_QUIET, request_seen=2, request_at=None)
    assert planned(quiet(service(minimum=1, requested=3), asked)).memory.quiet_since == NOW
    assert planned(quiet(service(minimum=1), asked)).memory.quiet_since == QUIET


def test_quiet_for_long_enough_is_told_as_idle() -> None:
    young = planned(quiet(service(minimum=1), replace(LONG_QUIET, quiet_since=Instant(NOW - 599))))
    assert (young.memory.idle_state, young.memory.idle_state_since) == (IdleState.STANDBY, None)
    old = planned(quiet(service(minimum=1)))
    assert (old.memory.idle_state, old.memory.idle_state_since) == (IdleState.IDLE, NOW)


MODES = [policy(Mode.ENFORCE), policy(Mode.RECOMMEND), policy(Mode.OBSERVE), None]
NAMES = ["Enforce", "Recommend", "Observe", "no policy"]


@pytest.mark.parametrize("mode", MODES[1:], ids=NAMES[1:])
def test_only_an_enforced_policy_rests_a_service(mode: Policy | None) -> None:
    plan = planned(quiet(policy=mode))
    assert plan.replicas == {"bf16": 1}
    assert plan.memory.resting is False
    if mode is not None:
        assert plan.proposed == {"bf16": 0}
        assert plan.standing.proposal
    assert (plan.decision is not None) == (mode is not None and mode.mode is Mode.RECOMMEND)


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_a_resting_service_stays_at_rest_across_restarts_and_policies(mode: Policy | None) -> None:
    plan = planned(asleep(policy=mode, history=()))
    assert plan.replicas == {"bf16": 0}
    assert plan.memory.resting
    assert plan.decision is None
    assert plan.standing.reason is Reason.RESTING
    assert condition(plan, "Ready") == (True, Reason.RESTING)
    assert condition(plan, "Serving") == (False, Reason.RESTING)


HELD = readings(NOTHING, waiting=[held_series(3)])


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
@pytest.mark.parametrize(
    ("scene", "count", "reason"),
    [
        (asleep(service(minimum=0, wake_annotation="2026-03-01")), 1, Reason.WAKE_ANNOTATION),
        (asleep(service(minimum=0, requested=3)), 3, Reason.WAKE_SCALE),
        (asleep(service(minimum=0, wake=WAKE), readings=HELD), 1, Reason.WAKE_WAITING),
        (asleep(service(minimum=2)), 2, Reason.MIN_REPLICAS),
    ],
    ids=["the annotation", "/scale", "a waiting request", "minReplicas"],
)
def test_in_every_mode_a_resting_service_is_woken_by(
    scene: Scene, count: int, reason: Reason, mode: Policy | None
) -> None:
    plan = planned(replace(scene, policy=mode))
    assert plan.replicas == {"bf16": count}
    assert plan.decision is not None
    assert (plan.decision.action, plan.decision.reason, plan.decision.proposal) == ("Wake", reason, False)
    assert (plan.memory.resting, plan.memory.wake_started, plan.memory.changed_at) == (False, NOW, NOW)


@pytest.mark.parametrize(
    "scene",
    [
        asleep(service(minimum=0, wake=WAKE), readings=replace(readings(NOTHING), waiting_fault=UNREAD)),
        asleep(service(minimum=0, wake_annotation="a"), replace(ASLEEP, wake_handled="a")),
        asleep(service(minimum=0, requested=2), replace(ASLEEP, request_seen=2)),
        asleep(service(minimum=0, paused=True, wake_annotation="a")),
        asleep(service(minimum=0, requested=0, wake_annotation="a")),
    ],
    ids=[
        "a metric that cannot be read",
        "an annotation that was obeyed",
        "a request that was obeyed",
        "an annotation while paused",
        "an annotation while stopped",
    ],
)
def test_a_resting_service_is_not_woken_by(scene: Scene) -> None:
    plan = planned(scene)
    assert plan.replicas == {"bf16": 0}
    assert plan.memory.resting


def test_an_annotation_wakes_once() -> None:
    first = planned(asleep(service(minimum=0, wake_annotation="a")))
    again = planned(asleep(service(minimum=0, wake_annotation="a"), replace(first.memory, resting=True)))
    other = planned(asleep(service(minimum=0, wake_annotation="b"), replace(first.memory, resting=True)))
    assert (first.total, again.total, other.total) == (1, 0, 1)


def test_an_annotation_set_while_running_restarts_the_quiet_and_does_not_wake_a_later_rest() -> None:
    called = planned(quiet(service(minimum=0, wake_annotation="a")))
    assert called.total == 1
    assert called.memory.quiet_since == NOW
    later = planned(asleep(service(minimum=0, wake_annotation="a"), replace(called.memory, resting=True)))
    assert later.total == 0


def test_a_wake_is_closed_with_its_seconds_once_a_replica_is_ready() -> None:
    waking = ServiceMemory(serving="bf16", wake_started=Instant(NOW - 100), changed_at=Instant(NOW - 100))
    assert planned(quiet(memory=waking, variants={"bf16": Running(ready=0)})).memory.wake_took is None
    done = planned(quiet(memory=waking)).memory
    assert (done.wake_started, done.wake_took) == (None, Seconds(100))


def test_a_wake_takes_no_negative_time_when_the_clock_was_put_back() -> None:
    waking = ServiceMemory(serving="bf16", wake_started=Instant(NOW + 500))
    assert planned(quiet(memory=waking)).memory.wake_took == Seconds(0)


def test_a_request_through_scale_ends_once_the_service_was_idle_since_and_does_not_come_back_with_traffic() -> None:
    asked = service(minimum=1, requested=3)
    running = {"bf16": Running(3)}
    before = ServiceMemory(
        serving="bf16", request_seen=3, request_at=Instant(NOW - 900), quiet_since=Instant(NOW - 590)
    )
    held = planned(quiet(asked, before, variants=running))
    assert held.total == 3
    ended = planned(quiet(asked, replace(before, quiet_since=QUIET), variants=running))
    assert ended.total == 2
    busy = {"bf16": Running(2, running=12)}
    after = replace(ended.memory, changed_at=None)
    assert planned(quiet(asked, after, variants=busy)).total == 2


def test_the_request_is_taken_out_of_the_spec_once_the_service_rests() -> None:
    asked, seen = service(minimum=0, requested=2), ServiceMemory(serving="bf16", request_seen=2, quiet_since=QUIET)
    going = planned(quiet(asked, seen))
    assert (going.total, going.clear_request) == (0, False)
    resting = planned(asleep(asked, going.memory))
    assert (resting.total, resting.clear_request) == (0, True)
    cleared = planned(asleep(service(minimum=0), resting.memory))
    assert (cleared.total, cleared.clear_request) == (0, False)
    assert planned(asleep(asked, cleared.memory)).total == 2


def test_a_paused_service_keeps_its_spec_untouched() -> None:
    asked = service(minimum=0, requested=2, paused=True)
    assert not planned(asleep(asked, replace(ASLEEP, request_seen=2))).clear_request


def test_a_resting_service_that_somebody_started_by_hand_is_run_like_any_other() -> None:
    plan = planned(asleep(variants={"bf16": Running(1, running=34)}))
    assert plan.memory.resting is False
    assert plan.replicas == {"bf16": 2}


def test_a_switch_under_way_ends_although_the_service_is_quiet_and_the_policy_only_recommends() -> None:
    scene = Scene(
        service=service(FP8, BF16, minimum=0),
        variants={"bf16": Running(1), "fp8": Running(1)},
        memory=ServiceMemory(serving="bf16", switching_to="fp8", quiet_since=QUIET, changed_at=Instant(NOW - 60)),
        policy=policy(Mode.RECOMMEND),
    )
    plan = planned(scene)
    assert plan.replicas == {"bf16": 0, "fp8": 1}
    assert plan.serving == "fp8"


def test_rest_takes_both_variants_of_a_switch_under_way() -> None:
    scene = Scene(
        service=service(BF16, FP8, minimum=0),
        variants={"bf16": Running(1), "fp8": Running(1)},
        memory=ServiceMemory(serving="bf16", switching_to="fp8", quiet_since=QUIET, changed_at=Instant(NOW - 60)),
    )
    plan = planned(scene)
    assert plan.replicas == {"bf16": 0, "fp8": 0}
    assert (plan.memory.resting, plan.memory.switching_to) == (True, None)


def test_a_wake_tells_its_seconds_and_the_joules_booked_meanwhile() -> None:
    begun = waking(ServiceMemory(serving="bf16"), Joules(1_000), Instant(NOW - 40))
    done = woken(begun, 1, Joules(5_500), Instant(NOW))
    assert (done.wake_took, done.wake_used, done.wake_started) == (Seconds(40), Joules(4_500), None)


def test_the_joules_of_a_wake_that_another_process_began_are_not_known() -> None:
    begun = ServiceMemory(serving="bf16", wake_started=Instant(NOW - 40))
    assert woken(begun, 1, Joules(5_500), Instant(NOW)).wake_used is None
