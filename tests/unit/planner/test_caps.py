"""Power caps: limits that hold whatever comes, by priority, and replicas only where limits are not enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.plans import GpuLimits, Plan, ServicePlan
from fallow.domain.policies import Mode, Policy, PowerRules
from fallow.domain.readings import GpuReading, PowerLimit, Readings
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Watts
from fallow.domain.workloads import ServiceKey
from fallow.planner.caps import Draw, ceilings, limits
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from fallow.planner.limiting import gpu_limits
from tests.support.builders import CHAT, NOW, Running, Scene, beside, policy, readings, service, watched

LOWEST, HIGHEST = 350.0, 700.0
HIGH, LOW = ServiceKey("front", "high"), ServiceKey("batch", "low")


@st.composite
def fleets(draw: st.DrawFn) -> list[Draw]:
    count = draw(st.integers(1, 5))
    return [_drawn(draw, number) for number in range(count)]


def _drawn(draw: st.DrawFn, number: int) -> Draw:
    now = draw(st.sampled_from([LOWEST, 400.0, 550.0, HIGHEST]))
    gpus = draw(st.integers(0, 12))
    current = draw(st.integers(0, 12))
    return Draw(
        key=ServiceKey("llm", f"s{number}"),
        priority=draw(st.sampled_from([0, 0, 10, 100])),
        gpus=gpus,
        watts=draw(st.floats(80.0, now)) if gpus else 0.0,
        now=now if gpus else 0.0,
        lowest=LOWEST if gpus else 0.0,
        highest=HIGHEST if gpus else 0.0,
        loose=draw(st.sampled_from([0.0, 300.0])),
        coming=draw(st.integers(0, 2)),
        current=current,
        wanted=draw(st.integers(0, 16)),
        floor=draw(st.integers(1, 3)),
        claim=LOWEST if gpus else draw(st.sampled_from([0.0, 300.0])),
    )


def least(fleet: list[Draw]) -> float:
    return sum(one.fixed + one.gpus * one.lowest for one in fleet)


CAPS = st.floats(100.0, 20_000.0)


@given(fleets(), CAPS)
def test_limits_together_stay_below_the_cap_whatever_is_drawn(fleet: list[Draw], most: float) -> None:
    found = limits(most, fleet)
    together = sum(one.fixed + one.gpus * found.get(one.key, HIGHEST) for one in fleet if one.gpus or one.fixed)
    assert together <= max(most, least(fleet)) + 1e-6


@given(fleets(), CAPS)
def test_no_gpu_is_limited_below_its_lowest_nor_above_its_highest(fleet: list[Draw], most: float) -> None:
    assert all(LOWEST <= watts <= HIGHEST for watts in limits(most, fleet).values())


@given(fleets(), CAPS)
def test_nobody_gets_more_than_the_lowest_before_those_of_higher_priority_have_their_room(
    fleet: list[Draw], most: float
) -> None:
    fresh = [replace(one, now=HIGHEST) for one in fleet]  # so that nothing stands
    found = limits(most, fresh)
    limited = [one for one in fresh if one.key in found]
    for one in limited:
        above = [other for other in limited if other.priority > one.priority]
        if found[one.key] >= LOWEST + 5:
            assert all(found[other.key] > other.expected - 5 - 1e-6 for other in above)


@given(fleets(), CAPS, st.floats(0.0, 5_000.0))
def test_a_larger_cap_limits_nobody_further(fleet: list[Draw], most: float, more: float) -> None:
    fresh = [replace(one, now=HIGHEST) for one in fleet]
    before, after = limits(most, fresh), limits(most + more, fresh)
    assert all(after.get(key, HIGHEST) >= watts - 1e-6 for key, watts in before.items())


@given(fleets(), CAPS)
def test_limits_that_hold_stand(fleet: list[Draw], most: float) -> None:
    """Whoever is limited draws at most that, and asks for more only where it is at its limit."""
    found = limits(most, fleet)
    after = [
        replace(one, now=found.get(one.key, HIGHEST), watts=min(one.watts, 0.9 * found.get(one.key, HIGHEST)))
        for one in fleet
    ]
    if found and least(fleet) <= most:
        assert limits(most, after) == {key: found[key] for key in found}


@given(fleets(), CAPS)
def test_the_replicas_that_a_cap_leaves_are_paid_for_and_no_floor_is_broken(fleet: list[Draw], most: float) -> None:
    found = ceilings(most, fleet)
    counts = {one.key: found.get(one.key, one.wanted) for one in fleet}
    floors = sum(min(one.wanted, one.floor) * one.claim for one in fleet)
    assert sum(counts[one.key] * one.claim for one in fleet) <= max(most, floors) + 1e-6
    assert all(counts[one.key] >= min(one.wanted, one.floor) for one in fleet)
    assert all(counts[one.key] < one.wanted for one in fleet if one.key in found)


@given(fleets())
def test_a_cap_beyond_everything_leaves_everything(fleet: list[Draw]) -> None:
    assert not limits(1e9, fleet)
    assert not ceilings(1e9, fleet)


def test_a_step_in_demand_is_provided_for_at_high_priority_and_paid_by_low() -> None:
    high = Draw(HIGH, 100, gpus=4, watts=450.0, now=HIGHEST, lowest=LOWEST, highest=HIGHEST)
    low = Draw(LOW, 0, gpus=4, watts=450.0, now=HIGHEST, lowest=LOWEST, highest=HIGHEST)
    assert limits(4_200.0, [low, high]) == {HIGH: 675.0, LOW: 375.0}


def test_more_replicas_wait_until_those_that_go_have_gone() -> None:
    """Eight of low priority draw on while they drain: high priority gets as many as the rest pays for."""
    high = Draw(HIGH, 100, 4, 600.0, HIGHEST, LOWEST, HIGHEST, current=4, wanted=8, claim=LOWEST)
    low = Draw(LOW, 0, 8, 350.0, LOWEST, LOWEST, HIGHEST, current=8, wanted=8, claim=LOWEST)
    assert ceilings(4_900.0, [high, low]) == {HIGH: 6, LOW: 1}


# in the plan


def capped(watts: float, **more: Any) -> Policy:
    return replace(policy(**more), power=PowerRules(Watts(watts)))


def limitable(seen: Readings, now: float = HIGHEST) -> Readings:
    bounds = PowerLimit(Watts(now), Watts(200.0), Watts(HIGHEST), NOW)
    gpus: Mapping[str, GpuReading] = {uuid: replace(one, limit=bounds) for uuid, one in seen.gpus.items()}
    return replace(seen, gpus=gpus)


def scene(rules: Policy, run: Running, *, agents: bool = True, **more: Any) -> Scene:
    seen = readings({"bf16": run})
    history = watched(run.running, run.is_ready, desired=run.replicas)
    return Scene(
        service=service(**more),
        policy=rules,
        variants={"bf16": run},
        history=history,
        readings=limitable(seen) if agents else seen,
    )


def whole(one: Scene | Snapshot) -> tuple[Snapshot, Plan]:
    snapshot = one.snapshot() if isinstance(one, Scene) else one
    return snapshot, decide(snapshot, estimate(snapshot, Concluded()))


def plan_of(one: Scene) -> ServicePlan:
    return whole(one)[1].services[CHAT]


def test_the_gpus_of_a_service_are_limited_so_that_the_cap_holds() -> None:
    snapshot, plan = whole(scene(capped(1_000.0), Running(2, running=12)))

    assert plan.services[CHAT].power_limit == Watts(490.0)
    assert gpu_limits(snapshot, plan) == {
        "node-a": {"GPU-bf16-0": GpuLimits(Watts(490.0)), "GPU-bf16-1": GpuLimits(Watts(490.0))}
    }


def test_a_cap_that_does_not_bind_lifts_the_limits() -> None:
    snapshot, plan = whole(scene(capped(9_000.0), Running(2, running=12)))

    assert plan.services[CHAT].power_limit is None
    assert gpu_limits(snapshot, plan) == {"node-a": {}}


def test_a_node_that_was_not_seen_keeps_its_limits() -> None:
    one = scene(capped(1_000.0), Running(2, running=12))
    unseen = replace(one.readings or Readings(NOW), gpus={}, gpu_fault=Missing(Reason.SOURCE_UNREACHABLE, "refused"))

    assert gpu_limits(*whole(replace(one, readings=unseen))) == {}


def test_replicas_do_not_grow_beyond_what_the_cap_pays_for_at_the_lowest_limits() -> None:
    plan = plan_of(scene(capped(1_100.0), Running(2, running=60)))

    assert plan.replicas == {"bf16": 3}
    again = plan_of(scene(capped(1_100.0), Running(3, running=60)))
    assert (again.standing.action, again.standing.reason) == ("Hold", Reason.POWER_CAP)
    assert "the power cap of green pays for 3" in again.standing.message


def test_replicas_go_where_even_their_lowest_limits_exceed_the_cap() -> None:
    plan = plan_of(scene(capped(800.0), Running(4, running=38)))

    assert plan.replicas == {"bf16": 2}
    assert plan.standing.message == "the power cap of 0.8 kW of green leaves it 2 replicas"


def test_no_replica_goes_for_a_cap_on_readings_that_are_missing() -> None:
    one = scene(capped(800.0), Running(4, running=38))
    blind = replace(one.readings or Readings(NOW), engines={}, engine_fault=Missing(Reason.BAD_ANSWER, "HTTP 500"))

    plan = plan_of(replace(one, readings=blind))

    assert plan.replicas == {"bf16": 4}


def test_a_cap_leaves_every_service_its_least_replicas() -> None:
    assert plan_of(scene(capped(100.0), Running(4, running=38), minimum=3)).replicas == {"bf16": 3}


def test_the_gpus_of_a_paused_service_are_left_as_they_are_and_counted() -> None:
    both = beside(scene(capped(2_000.0), Running(2, running=12), priority=10).snapshot(), LOW)
    services = {key: replace(service, paused=key == LOW) for key, service in both.cluster.services.items()}
    snapshot, plan = whole(replace(both, cluster=replace(both.cluster, services=services)))

    assert plan.services[LOW].power_limit is None
    assert plan.services[CHAT].power_limit == Watts(480.0)
    assert not any(uuid.startswith("x-") for uuid in gpu_limits(snapshot, plan)["node-a"])


def test_a_cap_that_is_only_recommended_limits_nothing() -> None:
    plan = plan_of(scene(capped(800.0, mode=Mode.RECOMMEND), Running(4, running=38)))

    assert (plan.power_limit, plan.replicas) == (None, {"bf16": 4})


def test_without_an_agent_a_cap_is_held_by_replicas_alone() -> None:
    plan = plan_of(scene(capped(1_600.0), Running(3, running=60), agents=False))

    assert plan.power_limit is None
    assert (plan.standing.reason, plan.replicas) == (Reason.POWER_CAP, {"bf16": 3})


def test_a_service_of_lower_priority_gives_way() -> None:
    _, plan = whole(beside(scene(capped(2_000.0), Running(2, running=12), priority=10).snapshot(), LOW))

    first, second = plan.services[CHAT].power_limit, plan.services[LOW].power_limit
    assert first is not None
    assert second is not None
    assert first > second
    assert 2 * (first + second).value <= 2_000.0


def test_the_same_cap_again_changes_nothing() -> None:
    run = Running(2, running=12)
    first = scene(capped(1_000.0), run)
    limit = plan_of(first).power_limit
    assert limit is not None
    seen = limitable(readings({"bf16": run}, watts=limit.value * 0.9, at=Instant(NOW)), limit.value)

    assert plan_of(replace(first, readings=seen)).power_limit == limit


def test_a_gpu_that_a_node_hands_out_in_turns_is_not_limited_for_one_of_those_on_it() -> None:
    one = scene(capped(1_000.0), Running(2, running=12)).snapshot()
    nodes = {name: replace(each, in_turns=True) for name, each in one.cluster.nodes.items()}
    snapshot, plan = whole(replace(one, cluster=replace(one.cluster, nodes=nodes)))

    assert plan.services[CHAT].power_limit is None
    assert gpu_limits(snapshot, plan) == {"node-a": {}}
