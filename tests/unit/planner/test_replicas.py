"""Replica scaling: the largest need wins, up in bounded steps, down one at a time and only on a whole quiet window."""

from dataclasses import replace
from math import exp
from typing import Any

import pytest

from fallow.domain.figures import Missing
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import IdleRules, ScalingRules
from fallow.domain.readings import Histogram, PodRef, Readings, Share, Sharing
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint, Snapshot
from fallow.domain.units import Instant, Seconds, Watts
from fallow.domain.workloads import Objectives, ServiceMemory
from fallow.planner.capacity import Capacity
from fallow.planner.levers.replicas import need
from tests.support.builders import (
    BF16,
    BUSY_WATTS,
    CYCLE,
    FP8,
    H100,
    NOW,
    WAKE,
    Running,
    Scene,
    engine,
    gpu,
    guards,
    held_series,
    node,
    point,
    policy,
    profile,
    readings,
    ref,
    service,
    watched,
)
from tests.unit.planner.asking import planned

TEN = Capacity(10, "scaling.targetConcurrency", tokens_per_second=1000)


@pytest.mark.parametrize(
    ("load", "outside", "replicas", "reason"),
    [
        (point(running=21, ready=3), 0, 3, Reason.CONCURRENCY),
        (point(running=20, ready=3), 0, 2, Reason.CONCURRENCY),
        (point(running=20, waiting=5), 0, 3, Reason.QUEUE_GROWING),
        (point(running=5), 30, 4, Reason.QUEUE_GROWING),
        (point(running=5, ready=2, kv_mean=0.9), 0, 3, Reason.KV_CACHE_FULL),
        (point(running=5, tokens_per_second=3500), 0, 4, Reason.TOKEN_RATE),
        (point(running=0), 0, 0, Reason.CONCURRENCY),
    ],
    ids=[
        "requests in flight",
        "exactly full",
        "a queue in the engines",
        "requests waiting outside",
        "a full KV cache",
        "tokens a second",
        "nothing to do",
    ],
)
def test_the_largest_of_the_needs_decides(load: DemandPoint, outside: float, replicas: int, reason: Reason) -> None:
    needed, why, words = need(load, outside, TEN)
    assert (needed, why) == (replicas, reason)
    assert words


def serving(replicas: int, running: float, *, ready: int | None = None) -> dict[str, Running]:
    return {"bf16": Running(replicas, ready, running=running)}


def told(plan: ServicePlan) -> tuple[int, Reason]:
    return plan.replicas["bf16"], plan.standing.reason


def test_more_load_than_the_replicas_carry_brings_more_of_them() -> None:
    plan = planned(Scene(variants=serving(2, 34)))
    assert told(plan) == (4, Reason.CONCURRENCY)
    assert plan.decision == plan.standing
    assert plan.standing.message == "34 requests in flight (0 waiting), 10 a replica by scaling.targetConcurrency"
    assert plan.memory.changed_at == NOW


@pytest.mark.parametrize(
    ("replicas", "history", "target"),
    [
        (1, (), 2),
        (2, (), 4),
        (4, watched(100, 2, seconds=60, desired=2), 4),
        (4, (*watched(100, 2, seconds=180, now=Instant(NOW - 61)), *watched(100, 4, seconds=45)), 8),
        (3, watched(100, 2, seconds=60, desired=2), 4),
    ],
    ids=[
        "one becomes two",
        "doubles at once",
        "waits a minute after doubling",
        "doubles again after a minute",
        "fills up the minute's step",
    ],
)
def test_growth_is_bounded_by_a_step_a_minute(replicas: int, history: tuple[DemandPoint, ...], target: int) -> None:
    plan = planned(Scene(variants=serving(replicas, 100), history=history))
    assert plan.replicas["bf16"] == target


def test_a_need_beyond_the_step_says_so() -> None:
    plan = planned(Scene(variants=serving(4, 100), history=watched(100, 2, seconds=60, desired=2)))
    assert told(plan) == (4, Reason.STEP_LIMIT)
    assert [veto.guard for veto in plan.vetoes] == ["step"]


def test_max_replicas_is_never_passed_and_the_missing_ones_are_told() -> None:
    assert planned(Scene(variants=serving(6, 200))).replicas["bf16"] == 8
    full = planned(Scene(variants=serving(8, 200)))
    assert told(full) == (8, Reason.MAX_REPLICAS)
    assert "20 replicas are needed" in full.standing.message


def test_a_change_noted_under_a_clock_that_was_ahead_does_not_hold_for_longer_than_a_dwell() -> None:
    plan = planned(Scene(variants=serving(4, 9), memory=ServiceMemory(changed_at=Instant(NOW + 86_400))))
    assert told(plan) == (4, Reason.DWELL)
    assert plan.memory.changed_at == NOW


def test_replicas_on_their_way_count_as_capacity() -> None:
    plan = planned(Scene(variants=serving(4, 34, ready=2)))
    assert told(plan) == (4, Reason.STEADY)


@pytest.mark.parametrize(
    ("high_for", "running", "target"),
    [(0, 24, 2), (15, 24, 2), (30, 24, 3), (0, 34, 4)],
    ids=["just now", "not for long enough", "for upWindow", "at once when it is twice what runs"],
)
def test_load_must_have_been_higher_for_the_up_window(high_for: float, running: float, target: int) -> None:
    before = watched(10, 2, now=Instant(NOW - high_for - CYCLE), seconds=300)
    history = (*before, *watched(running, 2, seconds=high_for))
    assert planned(Scene(variants=serving(2, running), history=history)).replicas["bf16"] == target


def test_capacity_comes_although_the_metric_of_waiting_requests_is_missing() -> None:
    seen = replace(readings(serving(2, 34)), waiting_fault=Missing(Reason.SOURCE_UNREACHABLE, "refused"))
    plan = planned(Scene(service=service(wake=WAKE), variants=serving(2, 34), readings=seen))
    assert told(plan) == (4, Reason.CONCURRENCY)


def test_capacity_comes_although_the_gpus_cannot_be_read() -> None:
    seen = replace(readings(serving(2, 34)), gpus={}, gpu_fault=Missing(Reason.SOURCE_UNREACHABLE, "refused"))
    assert told(planned(Scene(variants=serving(2, 34), readings=seen))) == (4, Reason.CONCURRENCY)


@pytest.mark.parametrize(
    ("replicas", "running", "left"),
    [(9, 9, 8), (10, 9, 8), (64, 9, 52), (64, 560, 63), (64, 500, 60)],
    ids=["one of nine", "two of ten", "a fifth of many", "the last one", "half of what is too many"],
)
def test_of_many_replicas_more_than_one_goes_and_never_half_of_what_is_needed(
    replicas: int, running: float, left: int
) -> None:
    found = planned(Scene(service=service(maximum=100), variants=serving(replicas, running)))
    assert told(found) == (left, Reason.LOAD_FELL)


def test_less_load_takes_one_replica_at_a_time_and_says_what_the_rest_carry() -> None:
    rest = profile(BF16, (10, 1000, 500), idle_watts=Watts(72), context_watts=Watts(122))
    plan = planned(Scene(variants=serving(4, 9), profiles=(rest,)))
    assert told(plan) == (3, Reason.LOAD_FELL)
    assert plan.standing.saves == Watts(50)
    assert plan.standing.message == (
        "the last 300 s needed 1 of 4 replicas; 3 carry its peak of 9 requests at 3 of 10 each"
    )


def test_a_replica_on_a_mig_instance_saves_its_share_of_what_the_board_draws_loaded() -> None:
    parts = replace(node(product=f"{H100}-MIG-3g.40gb"), instances=16)
    plan = planned(Scene(variants=serving(4, 9), nodes=(parts,)))
    assert told(plan) == (3, Reason.LOAD_FELL)
    assert plan.standing.saves is not None
    assert plan.standing.saves.value == pytest.approx((121.6 - 71.8) * 3 / 7)


def test_a_replica_whose_clocks_fall_saves_only_what_it_draws_at_work() -> None:
    plan = planned(
        Scene(variants=serving(4, 4), throttled=True, policy=replace(policy(), idle=IdleRules(throttle=True)))
    )
    assert told(plan) == (3, Reason.LOAD_FELL)
    assert plan.standing.saves is not None
    assert plan.standing.saves.value == pytest.approx((121.6 - 71.8) * (1 - exp(-1)))


TTFT = Objectives(ttft_p95=Seconds(2))
SLOW = Histogram((1.0, 4.0, float("inf")), (0, 100, 100))
FAST = Histogram((1.0, 4.0, float("inf")), (100, 100, 100))
SILENT = Histogram((1.0, 4.0, float("inf")), (0, 0, 0))


def answering(histogram: Histogram | None, at: Instant = NOW) -> Readings:
    """Four engines that generate a token a second."""
    shown = readings(serving(4, 9), at=at, counted=at)
    told = {pod: replace(one, ttft=histogram, generated_tokens=at) for pod, one in shown.engines.items()}
    return replace(shown, engines=told)


EARLIER = answering(SILENT, Instant(NOW - 120))
GAP = tuple(p for p in watched(9, 4) if not 100 < NOW - p.at < 200)
PEAK = (
    *watched(9, 4, now=Instant(NOW - 200)),
    *watched(30, 4, seconds=90, now=Instant(NOW - 100)),
    *watched(9, 4, seconds=90),
)
ASLEEP = (*watched(0, 0, seconds=600, now=Instant(NOW - 60), desired=4), *watched(9, 4, seconds=45))


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (Scene(history=watched(9, 4, seconds=0)), Reason.WINDOW_NOT_FULL),
        (Scene(history=()), Reason.WINDOW_NOT_FULL),
        (Scene(history=GAP), Reason.WINDOW_NOT_FULL),
        (Scene(history=ASLEEP), Reason.WINDOW_NOT_FULL),
        (Scene(history=PEAK), Reason.STEADY),
        (Scene(memory=ServiceMemory(changed_at=Instant(NOW - 200))), Reason.DWELL),
        (Scene(variants=serving(4, 9, ready=3)), Reason.PENDING_CAPACITY),
        (Scene(service=service(minimum=4)), Reason.STEADY),
        (
            Scene(service=service(objectives=TTFT), readings=answering(SLOW), earlier=EARLIER),
            Reason.OBJECTIVE_VETO,
        ),
        (Scene(service=service(objectives=TTFT), readings=answering(None)), Reason.OBJECTIVE_VETO),
        (Scene(policy=policy(scaling=ScalingRules(enabled=False))), Reason.LEVER_OFF),
    ],
    ids=[
        "right after a restart",
        "without any history",
        "with a gap in the window",
        "when no pod was ready for most of the window",
        "when the window's peak needs them",
        "within the dwell",
        "while replicas are starting",
        "at minReplicas",
        "while an objective is missed",
        "while an objective cannot be measured",
        "with the lever off",
    ],
)
def test_no_replica_is_removed(scene: Scene, reason: Reason) -> None:
    default = Scene().variants
    plan = planned(replace(scene, variants=serving(4, 9)) if scene.variants == default else scene)
    assert told(plan) == (4, reason)


@pytest.mark.parametrize("histogram", [FAST, SILENT], ids=["met", "without a request to measure"])
def test_an_objective_that_is_not_missed_lets_a_replica_go(histogram: Histogram) -> None:
    scene = Scene(
        service=service(objectives=TTFT), variants=serving(4, 9), readings=answering(histogram), earlier=EARLIER
    )
    assert told(planned(scene)) == (3, Reason.LOAD_FELL)


def test_the_objective_guard_can_be_switched_off() -> None:
    scene = Scene(
        service=service(objectives=TTFT),
        variants=serving(4, 9),
        readings=answering(SLOW),
        earlier=EARLIER,
        policy=policy(guards=guards(objective_veto=False)),
    )
    assert told(planned(scene)) == (3, Reason.LOAD_FELL)


MISSING = Missing(Reason.SOURCE_UNREACHABLE, "connection refused")
OLD = Instant(NOW - 300)


@pytest.mark.parametrize(
    "broken",
    [
        replace(readings(serving(4, 9)), gpus={}, gpu_fault=MISSING),
        replace(readings(serving(4, 9)), engines={}, engine_fault=MISSING),
        replace(readings(serving(4, 9)), waiting_fault=MISSING),
        readings(serving(4, 9), at=OLD),
        readings(serving(4, 9), watts=MISSING),
        readings(serving(4, 9), active=MISSING),
        replace(readings(serving(4, 9)), gpus={"GPU-x": gpu("GPU-x", at=OLD, watts=BUSY_WATTS)}),
        replace(
            readings(serving(4, 9)),
            engines={ref("bf16-0"): engine(running=9)},
            pod_faults={ref("bf16-1"): Missing(Reason.NOT_A_NUMBER, "nan")},
        ),
    ],
    ids=[
        "no dcgm-exporter",
        "no vLLM",
        "no metric of waiting requests",
        "everything is stale",
        "no watts",
        "no activity",
        "the GPUs of nobody",
        "half of the pods",
    ],
)
def test_nothing_is_removed_while_any_signal_is_missing(broken: Readings) -> None:
    plan = planned(Scene(service=service(wake=WAKE), variants=serving(4, 9), readings=broken))
    assert told(plan) == (4, Reason.DATA_MISSING)
    fresh = next(condition for condition in plan.conditions if condition.type == "MetricsFresh")
    assert fresh.status is False


def test_nothing_is_removed_while_requests_wait_outside() -> None:
    seen = replace(readings(serving(4, 9)), waiting=(held_series(1),))
    plan = planned(Scene(service=service(wake=WAKE), variants=serving(4, 9), readings=seen))
    assert plan.replicas["bf16"] == 4


def test_the_dead_band_keeps_a_replica_that_would_be_wanted_back_at_once() -> None:
    assert planned(Scene(variants=serving(3, 19))).replicas["bf16"] == 3
    assert planned(Scene(variants=serving(3, 18))).replicas["bf16"] == 2


def test_a_variant_that_neither_serves_nor_takes_over_goes_first() -> None:
    scene = Scene(
        service=service(BF16, FP8),
        variants={"bf16": Running(2, running=4), "fp8": Running(2, running=4)},
        memory=ServiceMemory(serving="bf16"),
    )
    plan = planned(scene)
    assert plan.replicas == {"bf16": 2, "fp8": 1}
    assert plan.standing.reason is Reason.LOAD_FELL


def test_a_stray_variant_that_never_gets_ready_holds_nothing_up() -> None:
    scene = Scene(
        service=service(BF16, FP8),
        variants={"bf16": Running(2, running=4), "fp8": Running(2, ready=0)},
        memory=ServiceMemory(serving="bf16"),
    )
    assert planned(scene).replicas == {"bf16": 2, "fp8": 1}


def stuck(ready: int, age: float, *, pods: bool = True, changed: float = 3600, **more: Any) -> Snapshot:
    """Four replicas of which some never get ready: their pods are that old, or were never made at all."""
    memory = ServiceMemory(serving="bf16", changed_at=Instant(NOW - changed), quiet_since=Instant(NOW - 700))
    scene = Scene(variants=serving(4, more.pop("running", 9), ready=ready), memory=memory, **more)
    snapshot = scene.snapshot()
    waiting = {key: replace(one, created=Instant(NOW - age)) for key, one in snapshot.cluster.pods.items()}
    kept = {key: one for key, one in waiting.items() if one.ready or pods}
    return replace(snapshot, cluster=replace(snapshot.cluster, pods=kept))


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (stuck(2, 1700), (4, Reason.PENDING_CAPACITY)),
        (stuck(2, 1900), (3, Reason.LOAD_FELL)),
        (stuck(2, 0, pods=False, changed=1700), (4, Reason.PENDING_CAPACITY)),
        (stuck(2, 0, pods=False, changed=1900), (3, Reason.LOAD_FELL)),
        (stuck(0, 7200), (4, Reason.PENDING_CAPACITY)),
    ],
    ids=[
        "starting for less than half an hour",
        "without room for longer",
        "no pods made yet",
        "no pods made for longer",
        "none ready at all",
    ],
)
def test_replicas_that_cannot_start_do_not_hold_the_others_for_ever(
    snapshot: Snapshot, expected: tuple[int, Reason]
) -> None:
    assert told(planned(snapshot)) == expected


def test_an_idle_service_rests_although_some_of_its_replicas_never_found_room() -> None:
    assert planned(stuck(2, 1900, service=service(minimum=0), running=0)).total == 0
    assert planned(stuck(2, 1700, service=service(minimum=0), running=0)).total == 4


def with_a_silent_engine(busy: float) -> Scene:
    """Two replicas of which one does not answer."""
    variants = serving(2, 2 * busy)
    seen = readings(variants)
    engines = {pod: reading for pod, reading in seen.engines.items() if pod.name != "bf16-0"}
    return Scene(variants=variants, readings=replace(seen, engines=engines))


def test_an_engine_that_does_not_answer_keeps_no_help_away() -> None:
    plan = planned(with_a_silent_engine(50))
    assert plan.replicas["bf16"] > 2
    assert "at least 50 requests in flight" in plan.standing.message


def test_what_the_other_engines_carry_never_asks_for_less() -> None:
    assert told(planned(with_a_silent_engine(1))) == (2, Reason.DATA_MISSING)


def test_on_shared_gpus_that_are_busy_a_service_with_little_to_do_shrinks_but_does_not_rest() -> None:
    """Whose work it is, is not measured; how many requests the service has, is."""

    def beside_a_neighbour(busy: float) -> Scene:
        variants = serving(4, busy)
        seen = readings(variants, active=0.9, watts=BUSY_WATTS)
        shared = {
            uuid: replace(one, holder=None, shares=(share_of(one.holder), share_of(ref("notebook-0", "lab"))))
            for uuid, one in seen.gpus.items()
        }
        return Scene(variants=variants, readings=replace(seen, gpus=shared), service=service(minimum=0))

    plan = planned(beside_a_neighbour(9))
    assert told(plan)[0] < 4
    assert planned(beside_a_neighbour(0)).total > 0


def share_of(pod: PodRef | None) -> Share:
    return Share(str(pod), Sharing.TURNS, pod, 0, MISSING)
