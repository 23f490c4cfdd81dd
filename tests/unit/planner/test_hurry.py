"""Between two cycles: who cannot wait, and that queues seen meanwhile only ever ask for more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy
from fallow.domain.policies import Mode, ScalingRules
from fallow.domain.readings import Queue, Queues
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceMemory
from fallow.planner.decide import decide
from fallow.planner.demand import outside_waiting
from fallow.planner.estimate import conclude, estimate
from fallow.planner.hurry import Standing, hurried, may_need_more, standing, waited_for
from tests.support.budgets import account, books, budget, budgeted, step
from tests.support.builders import (
    CHAT,
    NOW,
    WAKE,
    Running,
    Scene,
    held_series,
    pods_of,
    policy,
    readings,
    service,
)
from tests.unit.planner.asking import estimated, planned

TWO = Running(2, running=12)
RESTS = ServiceMemory(serving="bf16", resting=True)


def queues(*in_flight: float, at: float = NOW, held: float = 0.0) -> Queues:
    pods = pods_of("bf16", Running(max(len(in_flight), 1)))
    found = {pod.ref: Queue(running, 0.0) for pod, running in zip(pods, in_flight, strict=False)}
    return Queues(Instant(at), found, (held_series(held),) if held else ())


def scene(**more: Any) -> Scene:
    return replace(Scene(variants={"bf16": TWO}), **more)


def test_twice_of_what_runs_cannot_wait() -> None:
    # ten requests a replica
    assert hurried(scene().cluster(), queues(15, 15)) == {}
    assert hurried(scene().cluster(), queues(16, 15)) == {
        CHAT: "31 requests in flight need 4 replicas where 2 are asked for"
    }
    # the one that answers is enough to know it
    assert CHAT in hurried(scene().cluster(), queues(31))


def test_who_gets_no_more_for_a_budget_is_neither_looked_at_nor_hurried() -> None:
    rules = budgeted(budget(step(0.5, Remedy.CAP_REPLICAS), energy=100))
    crowded = Running(2, running=60)
    found = {}
    for used in (40, 100):
        snapshot = scene(policy=rules, variants={"bf16": crowded}).snapshot()
        held = standing(decide(snapshot, estimate(snapshot, conclude(books(account(used))))))
        cluster = snapshot.cluster
        found[used] = (held.stuck, len(may_need_more(cluster, held)), bool(hurried(cluster, queues(50, 50), held)))
    assert found == {40: (frozenset(), 2, True), 100: (frozenset({CHAT}), 0, False)}


def test_who_was_hurried_for_lately_waits_for_that_to_show() -> None:
    assert CHAT in hurried(scene().cluster(), queues(31))
    assert hurried(scene().cluster(), queues(31), lately=frozenset({CHAT})) == {}


def test_lowered_clocks_go_up_before_a_replica_has_as_many_in_flight_as_it_should() -> None:
    slowed = Standing(slowed=frozenset({CHAT}))
    one = scene(service=service(maximum=2)).cluster()
    assert len(may_need_more(one, slowed)) == 2
    assert hurried(one, queues(9, 9), slowed) == {}
    assert hurried(one, queues(10, 9), slowed) == {CHAT: "19 requests in flight on 2 replicas whose clocks are lowered"}


def test_doors_are_looked_at_while_a_service_rests_that_requests_can_wake() -> None:
    nothing = {"bf16": Running(0)}
    resting = Scene(service=service(minimum=0, wake=WAKE), variants=nothing, memory=RESTS)
    assert waited_for(resting.cluster())
    assert not waited_for(replace(resting, service=service(minimum=0)).cluster())
    assert not waited_for(scene().cluster())


@pytest.mark.parametrize(
    "more",
    [
        {"policy": None},
        {"policy": policy(Mode.OBSERVE)},
        {"policy": policy(Mode.RECOMMEND)},
        {"policy": replace(policy(), scaling=ScalingRules(enabled=False))},
        {"service": replace(service(), paused=True)},
        {"service": service(maximum=2)},
        {"service": service(requested=0)},
    ],
    ids=["no policy", "observes", "recommends", "no scaling", "paused", "at its most", "stopped"],
)
def test_what_fallow_would_not_grow_is_not_hurried(more: dict[str, Any]) -> None:
    one = scene(**more).cluster()
    assert hurried(one, queues(50, 50)) == {}


def test_engines_are_looked_at_where_replicas_may_grow() -> None:
    assert {pod.ref for pod in may_need_more(scene().cluster())} == {pod.ref for pod in pods_of("bf16", TWO)}
    assert may_need_more(scene(policy=policy(Mode.OBSERVE)).cluster()) == ()
    assert may_need_more(scene(service=service(maximum=2)).cluster()) == ()


@pytest.mark.parametrize("mode", list(Mode))
def test_a_request_that_waits_for_a_resting_service_cannot_wait(mode: Mode) -> None:
    nothing = {"bf16": Running(0)}
    resting = Scene(service=service(minimum=0, wake=WAKE), policy=policy(mode), variants=nothing, memory=RESTS)
    assert hurried(resting.cluster(), queues(held=2)) == {CHAT: "2 requests wait for it while it rests"}
    assert hurried(resting.cluster(), queues()) == {}
    awake = replace(resting, variants={"bf16": Running(1)}, memory=ServiceMemory(serving="bf16"))
    assert hurried(awake.cluster(), queues(held=2)) == {}


def test_the_hurried_cycle_acts_on_what_was_seen() -> None:
    seen = replace(readings({"bf16": TWO}), queues=queues(28, 22, at=NOW + 1))
    assert planned(scene(readings=seen)).replicas == {"bf16": 4}
    assert planned(scene(readings=replace(seen, queues=None))).replicas == {"bf16": 2}


@given(
    load=st.floats(0, 60),
    seen=st.lists(st.floats(0, 100), max_size=2),
    later=st.floats(-30, 30),
    held=st.floats(0, 9),
)
def test_queues_never_make_a_load_less(load: float, seen: list[float], later: float, held: float) -> None:
    plain = Scene(service=service(wake=WAKE), variants={"bf16": Running(2, running=load)})
    known = readings(plain.variants)
    fresher = replace(plain, readings=replace(known, queues=queues(*seen, at=NOW + later, held=held)))
    before, after = estimated(plain).demand, estimated(fresher).demand
    assert not isinstance(before, Missing)
    assert not isinstance(after, Missing)
    assert after.in_flight >= before.in_flight - 1e-9
    outside = [outside_waiting(one.snapshot(), one.service, Seconds(90)) for one in (plain, fresher)]
    assert not any(isinstance(value, Missing) for value in outside)
    assert outside[1] >= outside[0]  # type: ignore[operator]
