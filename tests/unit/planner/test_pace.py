"""How much may change: so many services at one time, so many reductions in a day; growth and wakes never wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fallow.api.inference_service_status import InferenceServiceStatus
from fallow.api.memory import recalled, remembered
from fallow.domain.calendars import day_of
from fallow.domain.plans import Plan
from fallow.domain.policies import GuardRules
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey, ServiceMemory
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from tests.support.builders import (
    CHAT,
    NOW,
    WAKE,
    Running,
    Scene,
    beside,
    held_series,
    pod,
    policy,
    readings,
    service,
    watched,
    workload,
)
from tests.unit.planner.asking import planned

OTHER = ServiceKey("llm", "other")
CALM = Running(3, running=4)


def rules(**guards: Any) -> Scene:
    return Scene(variants={"bf16": CALM}, policy=policy(guards=GuardRules(**guards)))


def near(scene: Scene, *, ready: bool = True, since: float = 60.0) -> Snapshot:
    """With another service of the policy, one replica of which is ready or not."""
    one = scene.snapshot()
    other = pod("other-0", key=OTHER, ready=ready, started=Instant(NOW - since))
    cluster = replace(
        one.cluster,
        services={**one.cluster.services, OTHER: service(key=OTHER)},
        pods={**one.cluster.pods, other.ref: other},
        workloads=(*one.cluster.workloads, workload("bf16", 1, key=OTHER)),
    )
    return replace(one, cluster=cluster, history={**one.history, OTHER: one.history[CHAT]})


def whole(snapshot: Snapshot) -> Plan:
    return decide(snapshot, estimate(snapshot, Concluded()))


def test_without_such_a_limit_everything_goes_its_way() -> None:
    plan = whole(near(rules(), ready=False)).services[CHAT]
    assert (plan.standing.action, plan.total) == ("ScaleDown", 2)


def test_a_reduction_waits_while_as_many_others_change_as_may() -> None:
    plan = whole(near(rules(most_at_once=1), ready=False)).services[CHAT]
    assert (plan.standing.action, plan.standing.reason, plan.total) == ("Hold", Reason.CHANGES_ELSEWHERE, 3)
    assert plan.vetoes[0].message == "replicas of 1 other services come or go, guards.maxConcurrentChanges is 1"
    assert whole(near(rules(most_at_once=2), ready=False)).services[CHAT].total == 2
    assert whole(near(rules(most_at_once=1))).services[CHAT].total == 2


def test_a_replica_that_does_not_come_makes_nobody_wait_for_ever() -> None:
    assert whole(near(rules(most_at_once=1), ready=False, since=1_801)).services[CHAT].total == 2


def test_of_two_that_could_be_reduced_one_is() -> None:
    plan = whole(beside(rules(most_at_once=1).snapshot(), OTHER))
    assert sorted(one.total for one in plan.services.values()) == [2, 3]


def test_growth_and_wakes_never_wait() -> None:
    busy = replace(rules(most_at_once=1, most_a_day=1), variants={"bf16": Running(3, running=60)})
    memory = ServiceMemory(serving="bf16", reductions=9, reduced_on=day_of(NOW, ZoneInfo("UTC")))
    assert whole(near(replace(busy, memory=memory), ready=False)).services[CHAT].total > 3
    resting = replace(
        busy,
        service=service(minimum=0, wake=WAKE),
        variants={"bf16": Running(0)},
        memory=replace(memory, resting=True),
        readings=readings({"bf16": Running(0)}, waiting=[held_series(1)]),
        history=watched(0, 0),
    )
    assert whole(near(resting, ready=False)).services[CHAT].standing.action == "Wake"


@pytest.mark.parametrize(("zone", "same"), [("UTC", True), ("Pacific/Pago_Pago", False)])
def test_a_service_that_was_reduced_often_enough_today_keeps_what_it_has(zone: str, *, same: bool) -> None:
    """Of the day of NOW in UTC; in Pago Pago it is still the one before."""
    today = day_of(NOW, ZoneInfo("UTC"))
    memory = ServiceMemory(serving="bf16", reductions=2, reduced_on=today)
    one = replace(rules(most_a_day=2), memory=memory)
    assert one.policy is not None
    plan = planned(replace(one, policy=replace(one.policy, time_zone=zone)))
    assert (plan.standing.reason is Reason.ENOUGH_TODAY) is same
    assert plan.total == (3 if same else 2)
    assert plan.memory.reductions == (2 if same else 1)


def test_reductions_are_counted_and_outlive_a_restart() -> None:
    plan = planned(rules(most_a_day=5))
    assert (plan.memory.reductions, plan.memory.reduced_on) == (1, day_of(NOW, ZoneInfo("UTC")))
    told = remembered(InferenceServiceStatus(), plan.memory)
    back = recalled(InferenceServiceStatus.model_validate(told.as_json()))
    assert (back.reductions, back.reduced_on) == (plan.memory.reductions, plan.memory.reduced_on)
