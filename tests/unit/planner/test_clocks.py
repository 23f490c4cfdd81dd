"""Clocks that follow the load: lowered where replicas have room, at their highest while anything is in doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.plans import GpuLimits
from fallow.domain.policies import ClockRules, Mode
from fallow.domain.readings import ClockRange, Readings
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Hertz, Instant
from fallow.domain.workloads import Objectives, ServiceMemory
from fallow.planner.arrivals import noted
from fallow.planner.capacity import pace, rate_within
from fallow.planner.clocks import at_clock
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from fallow.planner.limiting import gpu_limits
from tests.support.builders import NOW, Running, Scene, guards, point, policy, readings, service, watched
from tests.unit.planner.asking import planned
from tests.unit.planner.test_crests import OBJECTIVES, flow, like
from tests.unit.planner.test_pieces import KNOWN

HIGHEST = 1.98e9
FOLLOW = replace(policy(guards=guards(objective_veto=False)), clocks=ClockRules(0.7))


def clocked(seen: Readings, share: float = 1.0) -> Readings:
    known = ClockRange(Hertz(share * HIGHEST), Hertz(0.2 * HIGHEST), Hertz(HIGHEST))
    return replace(seen, gpus={uuid: replace(one, clock=known) for uuid, one in seen.gpus.items()})


def scene(*, rate: float = 4.0, share: float = 1.0, in_flight: float = 4.0, **more: Any) -> Scene:
    """Two replicas that share so many requests per second, of some 25 that each carries."""
    run = Running(2, running=in_flight)
    told: dict[str, Any] = {"flow": flow(rate), "tokens_per_second": rate * 100}
    found = Scene(
        service=service(concurrency=40.0, objectives=OBJECTIVES, minimum=2),
        variants={"bf16": run},
        policy=FOLLOW,
        profiles=(KNOWN,),
        arrivals=like(2, rate=rate),
        history=watched(in_flight, 2, desired=2, **told),
        readings=clocked(readings({"bf16": run}), share),
    )
    return replace(found, **more)


def clock(one: Scene | Snapshot) -> float | None:
    return planned(one).clock


def test_clocks_are_lowered_step_by_step_down_to_the_lowest() -> None:
    assert [clock(scene(share=share)) for share in (1.0, 0.95, 0.9, 0.75, 0.7)] == pytest.approx(
        [0.95, 0.9, 0.85, 0.7, 0.7]
    )


def test_a_driver_that_sets_clocks_in_its_own_steps_is_followed() -> None:
    assert clock(scene(share=1875 / 1980)) == pytest.approx(0.9)


def test_under_load_they_are_as_high_as_they_go() -> None:
    assert clock(scene(rate=48.0)) == 1.0
    assert clock(scene(rate=48.0, share=0.7)) == 1.0


def test_between_them_the_load_decides() -> None:
    found = [clock(scene(rate=rate, share=0.75)) for rate in (4.0, 14.0, 20.0, 26.0, 32.0, 40.0)]
    known = [one for one in found if one is not None]
    assert known == sorted(known)
    assert len(set(known)) > 2


@pytest.mark.parametrize(
    "doubt",
    [
        {"readings": replace(clocked(readings({"bf16": Running(2, running=4)}), 0.8), engines={})},
        {"readings": clocked(readings({"bf16": Running(2, running=4, waiting=1)}), 0.8)},
        {"variants": {"bf16": Running(3, 2, running=4)}, "readings": None},
        {"variants": {"bf16": Running(2, running=80)}, "readings": None},
        {"arrivals": like(2, rate=0.0001)},
        {"memory": ServiceMemory(serving="bf16", switching_to="fp8")},
    ],
    ids=["no readings", "a queue", "a replica starts", "many in flight", "nothing learned", "a switch"],
)
def test_in_doubt_they_are_at_their_highest(doubt: dict[str, Any]) -> None:
    one = scene(share=0.8)
    changed = replace(one, **doubt)
    if changed.readings is None:
        changed = replace(changed, readings=clocked(readings(changed.variants), 0.8))
    assert clock(one) == pytest.approx(0.75)
    assert clock(changed) == 1.0


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ({"service": service(objectives=Objectives(), minimum=2)}, "spec.objectives has no itl"),
        ({"profiles": ()}, "no ModelProfile with points and prefillTokensPerSecond"),
        ({"step_tokens": 400}, "its prompts are computed in pieces"),
        ({"readings": readings({"bf16": Running(2, running=4)})}, "set agent.clocks in the chart"),
    ],
)
def test_where_they_are_never_lowered_it_says_why(why: dict[str, Any], words: str) -> None:
    plan = planned(scene(**why))
    assert plan.clock is None
    assert any("its clocks are not lowered" in one and words in one for one in plan.silences)


@pytest.mark.parametrize("rules", [policy(), replace(FOLLOW, mode=Mode.RECOMMEND), replace(FOLLOW, mode=Mode.OBSERVE)])
def test_without_such_a_policy_in_force_nothing_is_set(rules: Any) -> None:
    assert clock(scene(policy=rules)) is None


def test_at_the_fewest_replicas_late_requests_decide() -> None:
    def found(*, late: float, minimum: int = 2) -> float | None:
        told: dict[str, Any] = {"flow": flow(18.0), "tokens_per_second": 1800, "late": late}
        one = scene(rate=18.0, share=0.75, history=watched(4, 2, desired=2, **told))
        return clock(
            replace(one, service=replace(one.service, scaling=replace(one.service.scaling, min_replicas=minimum)))
        )

    none, some, many = found(late=0.0), found(late=0.05), found(late=1.0)
    assert none is not None
    assert some is not None
    assert many is not None
    assert none < some < many
    assert found(late=0.0, minimum=1) == many


def test_orders_name_the_clock_of_each_gpu_and_none_at_the_highest() -> None:
    def ordered(one: Scene) -> Any:
        snapshot = one.snapshot()
        return gpu_limits(snapshot, decide(snapshot, estimate(snapshot, Concluded())))

    lowered = GpuLimits(clock=Hertz(0.95 * HIGHEST))
    assert ordered(scene()) == {"node-a": {"GPU-bf16-0": lowered, "GPU-bf16-1": lowered}}
    assert ordered(scene(rate=48.0, share=0.8)) == {"node-a": {}}
    paused = scene()
    assert ordered(replace(paused, service=replace(paused.service, paused=True))) == {"node-a": {}}


def test_replicas_are_sized_as_at_the_highest_clock() -> None:
    for share in (1.0, 0.7):
        assert planned(scene(rate=20.0, share=share)).replicas == {"bf16": 2}


def test_a_step_at_a_lower_clock_teaches_nothing_of_how_long_steps_take() -> None:
    before = noted(like(1), point(Instant(NOW - 15), 4, 1, flow=flow(4.0)), 15)
    slowed = noted(before, point(NOW, 9, 1, flow=flow(4.0)), 15, timed=False)
    assert (slowed.working, slowed.replicas, slowed.made) == (before.working, before.replicas, before.made)
    assert slowed.open_requests > before.open_requests
    assert pace(KNOWN, slowed) == pytest.approx(pace(KNOWN, before))


@given(st.floats(0.4, 1.0), st.floats(50, 8000), st.floats(5, 500))
def test_a_slower_engine_never_carries_more(share: float, prompt: float, output: float) -> None:
    at = [rate_within(at_clock(KNOWN, one), prompt, output, OBJECTIVES.itl_p95, 64) for one in (share, 1.0)]
    assert at[0] is not None
    assert at[1] is not None
    assert at[0] <= at[1] * (1 + 1e-9)
