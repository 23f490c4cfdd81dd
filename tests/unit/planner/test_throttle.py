"""Throttle: the clocks of idle engines fall where the policy says so, it pays, and nobody is left waiting for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import IdleRules, Mode, Policy
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Flow, Snapshot
from fallow.domain.units import Instant, Seconds, Watts
from fallow.domain.workloads import UNBOOSTED, Objectives, Service, ServiceKey, ServiceMemory
from fallow.planner.levers.throttle import DRIVER_LABEL, driver_of
from fallow.planner.pauses import FALL, idle_share
from tests.support.builders import (
    BF16,
    NOW,
    WAKE,
    Running,
    Scene,
    node,
    point,
    policy,
    readings,
    service,
    watched,
    workload,
)
from tests.unit.planner.asking import planned

RUNG = IdleRules(release=False, throttle=True)
ON, OFF = replace(policy(), idle=RUNG), replace(policy(), idle=IdleRules(release=False))
KEPT = service(minimum=2, objectives=Objectives(Seconds(1), Seconds(0.05)))
ITSELF = {"name": UNBOOSTED, "value": "1"}
OTHER = ServiceKey("llm", "other")
UNREAD = Missing(Reason.SOURCE_UNREACHABLE, "refused")


def scene(rules: Policy = ON, svc: Service = KEPT, **more: Any) -> Scene:
    return replace(Scene(service=svc, policy=rules, variants={"bf16": Running(2)}), **more)


def plan_of(one: Scene | Snapshot) -> tuple[str, Reason, bool]:
    plan = planned(one)
    return plan.standing.action, plan.standing.reason, plan.throttled


def test_idle_engines_are_replaced_by_such_whose_clocks_fall() -> None:
    plan = planned(scene())
    assert plan.decision is not None
    assert (plan.decision.action, plan.decision.lever, plan.decision.reason) == (
        "Throttle",
        "Throttle",
        Reason.IDLE_CLOCKS,
    )
    assert plan.decision.saves == Watts(2 * (121.6 - 71.8))
    assert (plan.throttled, plan.replicas, plan.memory.changed_at) == (True, {"bf16": 2}, NOW)


@pytest.mark.parametrize("throttled", [False, True])
def test_where_it_is_as_the_policy_says_nothing_is_done(throttled: bool) -> None:
    one = scene(ON if throttled else OFF, throttled=throttled)
    assert plan_of(one) == ("Hold", Reason.STEADY, throttled)


def test_off_the_ladder_the_clocks_stay_up_again() -> None:
    assert plan_of(scene(OFF, throttled=True)) == ("Unthrottle", Reason.IDLE_CLOCKS, False)


@pytest.mark.parametrize(
    "rules",
    [None, replace(ON, mode=Mode.OBSERVE), replace(OFF, mode=Mode.OBSERVE), replace(OFF, mode=Mode.RECOMMEND)],
    ids=["no policy", "it observes", "it observes without the rung", "it recommends"],
)
@pytest.mark.parametrize("throttled", [False, True])
def test_without_a_policy_that_acts_engines_stay_as_they_are(rules: Policy | None, throttled: bool) -> None:
    assert planned(replace(scene(throttled=throttled), policy=rules)).throttled is throttled


def test_a_policy_that_recommends_proposes_it_with_its_risk() -> None:
    plan = planned(scene(replace(ON, mode=Mode.RECOMMEND)))
    assert plan.pending is not None
    assert plan.pending.proposed.what == "Throttle to bf16 2"
    assert plan.pending.risk == "engines are replaced; a first request after a pause takes up to 0.22 s longer"
    assert not plan.throttled

    approving = replace(KEPT, approved=plan.pending.proposed.id)
    after = planned(scene(replace(ON, mode=Mode.RECOMMEND), approving, memory=plan.memory))
    assert (after.throttled, after.decision is not None and after.decision.action) == (True, "Throttle")
    next_one = planned(scene(replace(ON, mode=Mode.RECOMMEND), approving, memory=after.memory, throttled=True))
    assert (next_one.throttled, next_one.pending) == (True, None)


@pytest.mark.parametrize(
    ("change", "veto"),
    [
        ({"readings": replace(readings({"bf16": Running(2)}), engines={}, engine_fault=UNREAD)}, Reason.DATA_MISSING),
        ({"readings": replace(readings({"bf16": Running(2)}), gpus={}, gpu_fault=UNREAD)}, Reason.DATA_MISSING),
        ({"variants": {"bf16": Running(2, ready=1)}}, Reason.PENDING_CAPACITY),
        ({"history": watched(0.0, 2, seconds=120)}, Reason.WINDOW_NOT_FULL),
        ({"memory": ServiceMemory(serving="bf16", changed_at=Instant(NOW - 10))}, Reason.DWELL),
    ],
    ids=[
        "no engine is read",
        "no GPU is read",
        "a replica is starting",
        "it was just begun",
        "something was just done",
    ],
)
def test_every_guard_can_say_no(change: dict[str, Any], veto: Reason) -> None:
    plan = planned(scene(**change))
    assert not plan.throttled
    assert veto in {one.reason for one in plan.vetoes}


def test_one_service_at_a_time() -> None:
    snapshot = scene().snapshot()
    rolling = workload(key=OTHER, rolling=True)
    crowded = replace(snapshot, cluster=replace(snapshot.cluster, workloads=(*snapshot.cluster.workloads, rolling)))
    plan = planned(crowded)
    assert not plan.throttled
    assert plan.standing.message.endswith("the engines of llm/other are being replaced")
    assert [one.reason for one in plan.vetoes] == [Reason.ROLLING_ELSEWHERE]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"svc": replace(KEPT, objectives=Objectives(Seconds(0.4)))}, "more than half of objectives.ttft (0.4 s)"),
        ({"svc": replace(KEPT, variants=(replace(BF16, env=(ITSELF,)),))}, f"sets {UNBOOSTED}"),
        ({"svc": replace(KEPT, engine=replace(KEPT.engine, env=({**ITSELF, "value": "0"},)))}, f"sets {UNBOOSTED}"),
        (
            {"svc": replace(KEPT, template={"spec": {"containers": [{"name": "vllm", "env": [ITSELF]}]}})},
            f"sets {UNBOOSTED}",
        ),
        ({"svc": replace(KEPT, target="legacy")}, "Deployment legacy is adopted"),
        ({"nodes": (replace(node(), in_turns=True),)}, "its GPUs are shared"),
        (
            {"nodes": (replace(node(), labels={DRIVER_LABEL: "570.124.06"}),)},
            "node-a is 570.124.6; 580.105.08 or newer",
        ),
    ],
    ids=["too little time", "variant's own", "engine's own", "overlay's own", "adopted", "shared", "old driver"],
)
def test_what_cannot_be_throttled_says_what_to_write(change: dict[str, Any], words: str) -> None:
    plan = planned(scene(**change))
    assert (plan.throttled, plan.decision) == (False, None)
    silence = next(one for one in plan.silences if one.startswith("its idle engines keep their clocks up: "))
    assert words in silence


@pytest.mark.parametrize(
    ("labels", "version"),
    [
        ({}, None),
        ({DRIVER_LABEL: "580.126.09"}, (580, 126, 9)),
        ({DRIVER_LABEL: "unknown"}, None),
        (
            {
                f"nvidia.com/cuda.driver.{part}": value
                for part, value in (("major", "570"), ("minor", "86"), ("rev", "1"))
            },
            (570, 86, 1),
        ),
    ],
)
def test_the_driver_is_read_from_its_labels(labels: dict[str, str], version: tuple[int, ...] | None) -> None:
    assert driver_of(replace(node(), labels=labels)) == version


def test_a_busy_service_is_left_alone() -> None:
    busy = {"bf16": Running(2, running=16)}
    assert plan_of(scene(variants=busy, history=watched(16.0, 2))) == ("Hold", Reason.STEADY, False)


def test_a_service_at_zero_starts_as_the_policy_wants_it() -> None:
    nothing = {"bf16": Running(0)}
    for rules, wanted in ((ON, True), (OFF, False), (replace(ON, mode=Mode.RECOMMEND), False)):
        assert planned(scene(rules, variants=nothing, history=())).throttled is wanted


@pytest.mark.parametrize("throttled", [False, True])
def test_a_service_that_wakes_comes_as_the_policy_wants_it(throttled: bool) -> None:
    resting = ServiceMemory(serving="bf16", resting=True)
    asked = service(minimum=0, wake=WAKE, requested=1)
    plan: ServicePlan = planned(
        scene(svc=asked, variants={"bf16": Running(0)}, memory=resting, history=(), throttled=throttled)
    )
    assert (plan.replicas, plan.throttled) == ({"bf16": 1}, True)


@given(running=st.floats(0, 100), came=st.floats(0, 50), ready=st.integers(1, 20))
def test_the_idle_share_is_one_and_falls_with_work(running: float, came: float, ready: int) -> None:
    def share(running: float, came: float) -> float:
        return idle_share([point(running=running, ready=ready, flow=Flow(came, came, came, 0.0, 0.0))])

    assert 0.0 <= share(running, came) <= 1.0
    assert share(0.0, 0.0) == 1.0
    assert share(running + 1.0, came) < share(running, came) or share(running, came) < 1e-12
    assert share(running, came + 1.0 / FALL) <= share(running, came)


def test_nothing_is_known_of_a_service_that_was_never_watched() -> None:
    assert idle_share([]) == 0.0
