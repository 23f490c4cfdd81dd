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
from fallow.domain.readings import PodRef
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


def beside(
    scene: Scene, *, ready: bool = True, since: float = 60.0, key: ServiceKey = OTHER, calm: bool = False
) -> Snapshot:
    """With another service of the policy, one replica of which is ready or not; or one that is as calm as the first."""
    one = scene.snapshot()
    cluster = one.cluster
    if calm:
        pods = [replace(each, ref=PodRef("llm", f"x-{each.ref.name}"), service=key) for each in cluster.pods.values()]
        others = [replace(each, service=key) for each in cluster.workloads]
    else:
        pods = [pod("other-0", key=key, ready=ready, started=Instant(NOW - since))]
        others = [workload("bf16", 1, key=key)]
    seen = one.readings
    engines = {PodRef("llm", f"x-{ref.name}"): engine for ref, engine in seen.engines.items()} if calm else {}
    gpus = {
        f"x-{uuid}": replace(gpu, uuid=f"x-{uuid}", holder=gpu.holder and PodRef("llm", f"x-{gpu.holder.name}"))
        for uuid, gpu in (seen.gpus.items() if calm else ())
    }
    return replace(
        one,
        cluster=replace(
            cluster,
            services={**cluster.services, key: service(key=key)},
            pods={**cluster.pods, **{each.ref: each for each in pods}},
            workloads=(*cluster.workloads, *others),
        ),
        readings=replace(seen, engines={**seen.engines, **engines}, gpus={**seen.gpus, **gpus}),
        history={**one.history, key: one.history[CHAT]},
    )


def whole(snapshot: Snapshot) -> Plan:
    return decide(snapshot, estimate(snapshot, Concluded()))


def test_without_such_a_limit_everything_goes_its_way() -> None:
    plan = whole(beside(rules(), ready=False)).services[CHAT]
    assert (plan.standing.action, plan.total) == ("ScaleDown", 2)


def test_a_reduction_waits_while_as_many_others_change_as_may() -> None:
    plan = whole(beside(rules(most_at_once=1), ready=False)).services[CHAT]
    assert (plan.standing.action, plan.standing.reason, plan.total) == ("Hold", Reason.CHANGES_ELSEWHERE, 3)
    assert plan.vetoes[0].message == "replicas of 1 other services come or go, guards.maxConcurrentChanges is 1"
    assert whole(beside(rules(most_at_once=2), ready=False)).services[CHAT].total == 2
    assert whole(beside(rules(most_at_once=1))).services[CHAT].total == 2


def test_a_replica_that_does_not_come_makes_nobody_wait_for_ever() -> None:
    assert whole(beside(rules(most_at_once=1), ready=False, since=1_801)).services[CHAT].total == 2


def test_of_two_that_could_be_reduced_one_is() -> None:
    plan = whole(beside(rules(most_at_once=1), calm=True))
    assert sorted(one.total for one in plan.services.values()) == [2, 3]


def test_growth_and_wakes_never_wait() -> None:
    busy = replace(rules(most_at_once=1, most_a_day=1), variants={"bf16": Running(3, running=60)})
    memory = ServiceMemory(serving="bf16", reductions=9, reduced_on=day_of(NOW, ZoneInfo("UTC")))
    assert whole(beside(replace(busy, memory=memory), ready=False)).services[CHAT].total > 3
    resting = replace(
        busy,
        service=service(minimum=0, wake=WAKE),
        variants={"bf16": Running(0)},
        memory=replace(memory, resting=True),
        readings=readings({"bf16": Running(0)}, waiting=[held_series(1)]),
        history=watched(0, 0),
    )
    assert whole(beside(resting, ready=False)).services[CHAT].standing.action == "Wake"


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
