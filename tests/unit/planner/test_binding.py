"""A lesser variant while a power cap binds: only where it is let and takes less, below the cap, and back promptly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy
from fallow.domain.plans import Plan, ServicePlan
from fallow.domain.policies import (
    Mode,
    Operator,
    Policy,
    PowerRules,
    PrecisionRules,
    Requirement,
    Selector,
    ShiftRules,
    Tier,
)
from fallow.domain.profiles import Profile
from fallow.domain.readings import PowerLimit, Readings
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import GramsPerKWh, Instant, Watts
from fallow.domain.workloads import GivenUp, Service, ServiceKey, ServiceMemory
from fallow.planner import caps
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from tests.support.builders import (
    BF16,
    CHAT,
    FP8,
    INT4,
    NOW,
    Running,
    Scene,
    beside,
    policy,
    profile,
    readings,
    service,
    watched,
    zone,
)

LOWEST, HIGHEST = 350.0, 700.0
# J/token at 10 requests a replica: 0.5 against 0.4, 0.495 and 0.6
BASE = profile(BF16, (1, 100, 200), (10, 800, 400), (100, 4000, 650))
BETTER = profile(FP8, (1, 100, 200), (10, 1000, 400), (100, 6000, 650))
SLIGHTLY = profile(FP8, (1, 101, 200), (10, 808, 400), (100, 4040, 650))
WORSE = profile(FP8, (1, 60, 200), (10, 600, 360), (100, 3000, 650))
ANY = (Tier(GramsPerKWh(0), frozenset({"BF16", "FP8", "INT4"})),)
LONG_AGO, LATELY = Instant(NOW - 3600), Instant(NOW - 400)
SHORT = ServiceMemory(serving="bf16", changed_at=LONG_AGO, cap_since=LATELY)
LESSER = ServiceMemory(serving="fp8", changed_at=LONG_AGO)


def capped(watts: float, *, lets: bool = True, mode: Mode = Mode.ENFORCE, **more: Any) -> Policy:
    power = PowerRules(Watts(watts), on_bind=(Remedy.PRECISION,) if lets else ())
    return replace(policy(mode, precision=PrecisionRules(ANY, **more)), power=power)


def limited(seen: Readings, now: float = LOWEST) -> Readings:
    bounds = PowerLimit(Watts(now), Watts(200.0), Watts(HIGHEST), NOW)
    return replace(seen, gpus={uuid: replace(one, limit=bounds) for uuid, one in seen.gpus.items()})


def scene(
    rules: Policy,
    variants: Mapping[str, Running],
    memory: ServiceMemory = SHORT,
    *,
    profiles: tuple[Profile, ...] = (BASE, BETTER),
    watts: float = 345.0,
    of: Service | None = None,
) -> Scene:
    load, ready = sum(run.running for run in variants.values()), sum(run.is_ready for run in variants.values())
    desired = sum(run.replicas for run in variants.values())
    return Scene(
        service=of or service(BF16, FP8),
        policy=rules,
        variants=dict(variants),
        memory=memory,
        profiles=profiles,
        readings=limited(readings(variants, watts=watts)),
        history=watched(load, ready, desired=desired),
    )


def plan_of(one: Scene | Snapshot) -> ServicePlan:
    plan = whole(one).services[CHAT]
    assert plan.standing.reason is not Reason.PLAN_FAILED, plan.standing.message
    return plan


def whole(one: Scene | Snapshot) -> Plan:
    snapshot = one.snapshot() if isinstance(one, Scene) else one
    return decide(snapshot, estimate(snapshot, Concluded()))


LOW = ServiceKey("batch", "low")
# three replicas at their lowest limits and no fourth; the load asks for six
THREE = 1_100.0
CROWDED = {"bf16": Running(3, running=60)}


def test_a_lesser_variant_comes_where_the_cap_pays_for_fewer_replicas_than_the_load_asks_for() -> None:
    plan = plan_of(scene(capped(THREE), CROWDED))

    assert (plan.replicas, plan.serving, plan.memory.switching_to) == ({"bf16": 2, "fp8": 0}, "bf16", "fp8")
    assert plan.standing.reason is Reason.POWER_CAP
    assert plan.standing.message == (
        "bf16 to fp8: the power cap of green pays for 3 of 6 replicas that the load asks for; 0.500 J/token as bf16 at "
        "10 requests a replica, 0.400 as fp8 at 10; the power cap does not pay for both, so a replica goes first"
    )


@pytest.mark.parametrize(
    "one",
    [
        scene(capped(THREE, lets=False), CROWDED),
        scene(replace(capped(THREE), precision=None), CROWDED),
        scene(capped(THREE, mode=Mode.RECOMMEND), CROWDED),
        scene(capped(9_000.0), CROWDED),
        scene(capped(THREE), CROWDED, replace(SHORT, cap_since=Instant(NOW - 15))),
        scene(capped(THREE), CROWDED, replace(SHORT, changed_at=Instant(NOW - 60))),
        scene(capped(THREE, quality_floor=0.999), CROWDED),
        scene(capped(THREE), CROWDED, profiles=(BASE, WORSE)),
        scene(capped(THREE, require_measured_advantage=False), CROWDED, profiles=(BASE, WORSE)),
        scene(capped(THREE), CROWDED, profiles=(BASE, SLIGHTLY)),
        scene(capped(THREE, require_measured_advantage=False), CROWDED, profiles=()),
        scene(capped(THREE), CROWDED, of=service(BF16, FP8, minimum=3)),
        scene(capped(400.0), {"bf16": Running(1, running=60)}),
    ],
    ids=[
        "not let",
        "no precision in the policy",
        "only recommended",
        "the cap does not bind",
        "short for a moment",
        "within the dwell",
        "below the quality floor",
        "more J/token at the batch at hand",
        "more J/token, although no advantage is asked for elsewhere",
        "less by no more than profiles err",
        "nothing known of it",
        "all replicas are to run",
        "no power for two, and only one there",
    ],
)
def test_no_lesser_variant_comes(one: Scene) -> None:
    plan = plan_of(one)
    assert plan.memory.switching_to is None
    assert plan.serving == "bf16"
    assert plan.replicas["bf16"] >= one.variants["bf16"].replicas


def test_a_service_that_was_stopped_during_a_switch_and_runs_nothing_is_planned_under_a_cap() -> None:
    stopped = replace(service(BF16, FP8), requested=0)
    one = Scene(service=stopped, policy=capped(1500), variants={}, memory=replace(SHORT, switching_to="fp8"))
    assert plan_of(one).total == 0


def test_that_there_is_no_power_for_both_is_told() -> None:
    plan = plan_of(scene(capped(400.0), {"bf16": Running(1, running=60)}))
    assert "does not pay for a replica of fp8 beside the 1 of bf16" in plan.standing.message


def test_nothing_moves_while_a_signal_is_missing() -> None:
    one = scene(capped(THREE), CROWDED)
    blind = replace(one.readings or Readings(NOW), engines={}, engine_fault=Missing(Reason.BAD_ANSWER, "HTTP 500"))
    plan = plan_of(replace(one, readings=blind))

    assert (plan.replicas, plan.memory.switching_to) == ({"bf16": 3}, None)
    assert plan.memory.cap_since is None


def test_it_is_noted_since_when_the_cap_binds() -> None:
    first = plan_of(scene(capped(THREE), CROWDED, replace(SHORT, cap_since=None)))
    assert first.memory.cap_since == NOW
    assert plan_of(scene(capped(9_000.0), CROWDED)).memory.cap_since is None


def test_with_power_for_both_all_of_it_is_made_ready_beside() -> None:
    """As a tier asks for it: six replicas are paid for, and a step in demand."""
    dirty = replace(capped(3_000.0), precision=PrecisionRules((Tier(GramsPerKWh(0), frozenset({"FP8"})),)))
    plan = plan_of(replace(scene(dirty, {"bf16": Running(3, running=28)}), zone=zone(400)))
    assert plan.replicas == {"bf16": 3, "fp8": 3}


def test_a_tier_too_exchanges_one_by_one_where_there_is_no_power_for_both() -> None:
    dirty = replace(capped(THREE, lets=False), precision=PrecisionRules((Tier(GramsPerKWh(0), frozenset({"FP8"})),)))
    plan = plan_of(replace(scene(dirty, {"bf16": Running(3, running=28)}), zone=zone(400)))
    assert (plan.replicas, plan.memory.switching_to) == ({"bf16": 2, "fp8": 0}, "fp8")


STEPS = ShiftRules((0.1, 0.5))
DIRTY = PrecisionRules((Tier(GramsPerKWh(0), frozenset({"FP8"})),))
ON_THE_WAY = replace(SHORT, switching_to="fp8", before=3, changed_at=Instant(NOW - 60))


@pytest.mark.parametrize(
    ("watts", "comes", "before"), [(3_000.0, {"bf16": 3, "fp8": 1}, 3), (THREE, {"bf16": 2, "fp8": 0}, None)]
)
def test_steps_are_taken_under_a_cap_with_power_for_both_and_else_it_goes_on_as_the_cap_lets_it(
    watts: float, comes: dict[str, int], before: int | None
) -> None:
    rules = replace(capped(watts, lets=False), precision=DIRTY, shift=STEPS)
    plan = plan_of(replace(scene(rules, {"bf16": Running(3, running=28)}), zone=zone(400)))
    assert (plan.replicas, plan.memory.switching_to, plan.memory.before) == (comes, "fp8", before)


def test_a_cap_that_falls_on_the_way_does_not_wait_for_the_watch() -> None:
    rules = replace(capped(THREE), shift=STEPS)
    plan = plan_of(scene(rules, {"bf16": Running(2, running=40), "fp8": Running(1, running=20)}, ON_THE_WAY))
    assert (plan.replicas, plan.memory.switching_to) == ({"bf16": 1, "fp8": 1}, "fp8")


def test_what_was_given_up_does_not_come_for_a_cap_either() -> None:
    rules = replace(capped(THREE), shift=STEPS)
    known = replace(ON_THE_WAY, given_up=GivenUp("fp8", Instant(NOW - 60), 1, "9 of 80 failed"))
    plan = plan_of(scene(rules, {"bf16": Running(2, running=40), "fp8": Running(1, running=20)}, known))
    assert (plan.serving, plan.memory.switching_to, plan.standing.reason) == ("bf16", None, Reason.MEASURED_WORSE)
    assert plan.replicas == {"bf16": 2, "fp8": 1}


@pytest.mark.parametrize("goal", [2, 3, 5])
def test_replicas_are_exchanged_one_by_one_below_the_cap_until_all_are(goal: int) -> None:
    """Each step is ready in the next cycle. At no time do more run than before, nor more than one fewer."""
    rules = capped((goal * LOWEST + 20.0) / caps.KEPT)
    counts, memory = {"bf16": goal}, SHORT
    for _ in range(4 * goal):
        variants = {name: Running(count, running=60 * count / goal) for name, count in counts.items()}
        plan = plan_of(scene(rules, variants, memory))
        counts, memory = dict(plan.replicas), plan.memory
        assert goal - 1 <= sum(counts.values()) <= goal
        if memory.serving == "fp8":
            break
    assert (counts, memory.switching_to) == ({"bf16": 0, "fp8": goal}, None)


def exchanging(bf16: Running, fp8: Running, *, watts: float = THREE, **memory: Any) -> ServicePlan:
    known = replace(SHORT, **{"switching_to": "fp8", "goal": 3, "changed_at": LATELY, **memory})
    return plan_of(scene(capped(watts), {"bf16": bf16, "fp8": fp8}, known))


def test_none_of_the_old_goes_while_one_of_the_new_starts() -> None:
    assert exchanging(Running(2, running=40), Running(1, ready=0)).replicas == {"bf16": 2, "fp8": 1}


def test_none_of_the_new_comes_while_one_of_the_old_draws_on() -> None:
    """Although the lowest limits of all would fit: the rest is what a step in demand of high priority would take."""
    known = replace(SHORT, switching_to="fp8", goal=3, changed_at=LATELY)
    one = two(capped(2_600.0), {"bf16": Running(3, running=28)}, {CHAT: known}, other=10)
    work = tuple(replace(each, replicas=2) if each.service == CHAT else each for each in one.cluster.workloads)

    def seen(*, draining: bool) -> Snapshot:
        pods = {
            ref: replace(pod, deleting=True) if ref.name == "bf16-2" else pod
            for ref, pod in one.cluster.pods.items()
            if draining or ref.name != "bf16-2"
        }
        cluster = replace(one.cluster, pods=pods, workloads=work)
        return replace(one, cluster=cluster, readings=limited(one.readings, HIGHEST))

    assert plan_of(seen(draining=True)).replicas == {"bf16": 2}
    assert plan_of(seen(draining=False)).replicas == {"bf16": 2, "fp8": 1}


def test_a_cap_that_falls_during_an_exchange_is_held() -> None:
    plan = exchanging(Running(2, running=40), Running(1, running=20), watts=800.0)
    assert (plan.replicas, plan.standing.reason) == ({"bf16": 1, "fp8": 1}, Reason.POWER_CAP)


def test_of_the_new_alone_those_that_start_go_and_nothing_of_the_old_comes_back() -> None:
    """Three replicas are paid for at their lowest limits, and a fourth starts."""
    plan = exchanging(Running(0), Running(4, ready=3, running=60))
    assert (plan.replicas, plan.standing.reason) == ({"bf16": 0, "fp8": 3}, Reason.POWER_CAP)


def test_a_deployment_of_the_old_that_was_deleted_on_the_way_is_missed_under_a_cap_as_one_without_replicas() -> None:
    memory = replace(SHORT, switching_to="fp8", changed_at=Instant(NOW - 60))
    plan = plan_of(scene(capped(THREE), {"fp8": Running(4, ready=3, running=60)}, memory))
    assert (plan.replicas, plan.standing.reason) == ({"fp8": 3}, Reason.POWER_CAP)


def test_an_exchange_that_does_not_go_on_leaves_what_serves_to_go_as_the_load_permits() -> None:
    plan = exchanging(Running(1, running=20), Running(2, ready=1, running=20), changed_at=Instant(NOW - 1801))
    assert (plan.replicas, plan.memory.switching_to) == ({"bf16": 1, "fp8": 1}, None)


# and back

CALM = {"fp8": Running(3, running=28)}
ROOM = replace(LESSER, cap_since=LATELY)


def test_the_best_variant_comes_back_once_the_cap_has_had_room_for_it() -> None:
    plan = plan_of(scene(capped(3_000.0), CALM, ROOM))

    assert (plan.memory.switching_to, plan.standing.reason) == ("bf16", Reason.TIER_ENDED)
    assert plan.replicas == {"fp8": 3, "bf16": 3}
    assert "the power cap of green has room for it" in plan.standing.message


def test_without_a_grid_too_the_lesser_variant_comes_and_goes() -> None:
    nowhere = zone(Missing(Reason.NO_ZONE, "no GridZone"))
    assert plan_of(replace(scene(capped(THREE), CROWDED), zone=nowhere)).memory.switching_to == "fp8"
    assert plan_of(replace(scene(capped(3_000.0), CALM, ROOM), zone=nowhere)).memory.switching_to == "bf16"


def test_that_it_never_acts_without_precision_in_the_policy_is_told() -> None:
    plan = plan_of(scene(replace(capped(THREE), precision=None), CROWDED))
    assert "onBind Precision never acts: the policy has no precision" in plan.silences


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (scene(capped(1_500.0), CALM, ROOM), "pays for 4 replicas of bf16, it comes back at 5"),
        (scene(capped(3_000.0), CALM, replace(ROOM, cap_since=Instant(NOW - 60))), "for less than 300 s"),
        (scene(capped(3_000.0), CALM, LESSER), "for less than 300 s"),
        (scene(capped(2_200.0), CALM, ROOM, profiles=()), "pays for 6 replicas of bf16, it comes back at 7"),
    ],
    ids=["no room for the load", "room for a minute", "room just now", "nothing known of what it would take"],
)
def test_the_lesser_variant_stays(one: Scene, words: str) -> None:
    plan = plan_of(one)
    assert (plan.memory.switching_to, plan.standing.reason) == (None, Reason.POWER_CAP)
    assert words in plan.standing.message


def test_a_lesser_variant_that_takes_more_goes_whatever_the_cap() -> None:
    assert plan_of(scene(capped(THREE), CALM, LESSER, profiles=(BASE, WORSE))).memory.switching_to == "bf16"


def test_without_the_leave_any_more_the_best_variant_comes_back() -> None:
    assert plan_of(scene(capped(THREE, lets=False), CALM, LESSER)).memory.switching_to == "bf16"


def two(
    rules: Policy,
    run: Mapping[str, Running],
    memories: Mapping[ServiceKey, ServiceMemory],
    *,
    priority: int = 0,
    other: int = 0,
) -> Snapshot:
    """CHAT, of that priority, and another beside it, alike but for their priorities and memories."""
    one = beside(scene(rules, run, of=service(BF16, FP8, priority=priority)).snapshot(), LOW)
    services = {**one.cluster.services, LOW: service(BF16, FP8, key=LOW, priority=other)}
    return replace(one, cluster=replace(one.cluster, services=services, memories=memories))


def test_services_come_back_one_at_a_time() -> None:
    plans = whole(two(capped(6_000.0), CALM, {CHAT: ROOM, LOW: ROOM})).services
    assert sorted(plan.memory.switching_to or "" for plan in plans.values()) == ["", "bf16"]
    assert "others under the power cap of green" in " ".join(plan.standing.message for plan in plans.values())


def test_of_high_priority_first() -> None:
    """High priority has had room for a moment only, low for long enough."""
    one = two(capped(6_000.0), CALM, {CHAT: LESSER, LOW: ROOM}, priority=10)
    plans = whole(one).services
    assert [plan.memory.switching_to for plan in plans.values()] == [None, None]
    assert "others under the power cap of green" in plans[LOW].standing.message


def test_what_is_free_under_a_cap_goes_to_one_switch() -> None:
    """As a tier asks both, each of one replica: there is power for one more."""
    dirty = replace(capped(1_470.0), precision=PrecisionRules((Tier(GramsPerKWh(0), frozenset({"FP8"})),)))
    one = two(dirty, {"bf16": Running(1, running=9)}, {CHAT: SHORT, LOW: SHORT})
    plans = whole(one).services
    assert sorted(sum(plan.replicas.values()) for plan in plans.values()) == [1, 2]


# laws

PROFILES = st.sampled_from([BETTER, SLIGHTLY, WORSE])


RULES = st.builds(
    capped,
    st.just(0.0),
    lets=st.sampled_from([True, True, False]),
    require_measured_advantage=st.booleans(),
    quality_floor=st.sampled_from([0.97, 0.98, 0.999]),
)


@given(RULES, st.integers(2, 6), st.sampled_from([0.7, 1.01, 1.1, 1.3]), st.floats(12.0, 25.0), PROFILES)
def test_a_lesser_variant_comes_only_where_it_is_let_takes_less_and_is_good_enough(
    rules: Policy, count: int, share: float, each: float, other: Profile
) -> None:
    """Under a cap that pays for about as many as run. Of INT4 nothing is known, and FP8 takes what its profile says at
    the batch that either would have.
    """
    assert rules.power is not None
    assert rules.precision is not None
    rules = replace(rules, power=replace(rules.power, cap=Watts(share * count * LOWEST / caps.KEPT)))
    run = {"bf16": Running(count, running=each * count)}
    plan = plan_of(scene(rules, run, profiles=(BASE, other), of=service(BF16, FP8, INT4)))
    assert plan.memory.switching_to in {None, "fp8"}
    if plan.memory.switching_to is None:
        return
    load = each * count
    batch = max(load / min(max(ceil(load / 10 - 1e-9), 1), 8), 1.0)
    known, best = other.joules_per_token(batch), BASE.joules_per_token(batch)
    assert rules.power is not None
    assert rules.precision is not None
    assert rules.power.on_bind
    assert rules.precision.quality_floor <= FP8.quality
    assert known is not None
    assert best is not None
    assert known < best * 0.978


@given(st.floats(300.0, 6_000.0), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4), st.floats(0.0, 25.0))
def test_an_exchange_never_takes_more_than_the_cap_at_the_lowest_limits(
    watts: float, old: int, new: int, ready: int, each: float
) -> None:
    """More than that run only where they do already, and then nothing is added."""
    run = {"bf16": Running(old, running=each * old), "fp8": Running(new, ready=min(ready, new))}
    known = replace(SHORT, switching_to="fp8", goal=4, changed_at=LATELY)
    plan = plan_of(scene(capped(watts), run, known))
    claimed, claims = (old + new) * LOWEST, sum(plan.replicas.values()) * LOWEST
    assert claims <= max(watts * caps.KEPT, claimed) + 1e-6


@given(st.floats(300.0, 6_000.0), st.integers(1, 6), st.floats(0.0, 9.5), st.floats(300.0, HIGHEST))
def test_what_came_back_is_not_short_at_the_same_load(watts: float, count: int, each: float, drawn: float) -> None:
    """It draws more by the ratio of J/token, as far as its limit lets it, and is not switched again."""
    rules, load = capped(watts), each * count
    back = plan_of(scene(rules, {"fp8": Running(count, running=load)}, ROOM, watts=drawn))
    if back.memory.switching_to is None:
        return
    limit = HIGHEST if back.power_limit is None else back.power_limit.value
    seen = limited(readings({"bf16": Running(count, running=load)}, watts=min(drawn * 1.25, limit)), limit)
    plan = plan_of(replace(scene(rules, {"bf16": Running(count, running=load)}), readings=seen))
    assert (plan.memory.switching_to, plan.memory.cap_since) == (None, None)


# faults


def test_a_fault_while_one_policys_cap_is_shared_out_stays_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its services keep their replicas and their limits, which the other policy would take from them."""
    one = beside(scene(capped(800.0), {"bf16": Running(4, running=60)}).snapshot(), LOW)
    rules = tuple(replace(capped(800.0), name=team, services=of_team(team)) for team in ("chat", "batch"))
    services = {key: replace(each, labels={"team": key.namespace}) for key, each in one.cluster.services.items()}
    services = {**services, CHAT: replace(services[CHAT], labels={"team": "chat"})}
    both = replace(one, cluster=replace(one.cluster, services=services, policies=rules))
    shared = caps.limits

    def limits(most: float, draws: Sequence[caps.Draw]) -> Mapping[ServiceKey, float]:
        if draws[0].key == CHAT:
            raise ZeroDivisionError("made for the test")
        return shared(most, draws)

    monkeypatch.setattr(caps, "limits", limits)
    plans = whole(both).services

    assert (plans[CHAT].replicas, plans[CHAT].power_limit) == ({"bf16": 4}, Watts(LOWEST))
    assert plans[CHAT].standing.reason is Reason.PLAN_FAILED
    assert isinstance(plans[CHAT].fault, ZeroDivisionError)
    assert (plans[LOW].replicas, plans[LOW].standing.reason) == ({"bf16": 2}, Reason.POWER_CAP)


def of_team(team: str) -> Selector:
    return Selector((Requirement("team", Operator.IN, (team,)),))
