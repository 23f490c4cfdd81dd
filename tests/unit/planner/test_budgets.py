"""Budgets act: what their steps ask for as they are used up, and that nothing is asked for without knowledge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.goals import BudgetPeriod, Remedy
from fallow.domain.ledger import Ledger
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import GuardRules, IdleRules, Mode, Policy, PrecisionRules, ScalingRules, Tier
from fallow.domain.readings import PodRef
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import ClusterView, Snapshot
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.workloads import Objectives, ServiceKey, ServiceMemory
from fallow.domain.zones import IntensityKind
from fallow.planner.budgets import Ceiling, asks
from fallow.planner.decide import decide
from fallow.planner.estimate import conclude, estimate
from tests.support.budgets import FACTOR, account, books, budget, budgeted, step
from tests.support.builders import (
    BF16,
    BUSY_WATTS,
    CHAT,
    FP8,
    INT4,
    NOW,
    PRECISION,
    Running,
    Scene,
    engine,
    gpu,
    intensity,
    pod,
    policy,
    profile,
    readings,
    service,
    watched,
    workload,
    zone,
)
from tests.unit.planner.asking import planned

# from NOW to the end of the month
SECONDS_LEFT = 1_440_000
REPLICA = BUSY_WATTS * FACTOR
LAB = ServiceKey("llm", "lab")
CAPS, LESSER, CLOCKS = (step(0.5, remedy) for remedy in (Remedy.CAP_REPLICAS, Remedy.PRECISION, Remedy.THROTTLE))
BOTH = service(BF16, FP8)
FP8_SERVES = ServiceMemory(serving="fp8", changed_at=Instant(NOW - 3600))
UNREAD = Missing(Reason.SOURCE_UNREACHABLE, "refused")


def paying(replicas: float, *, used: float = 1000.0, **more: Any) -> tuple[Policy, Ledger]:
    """A budget of energy of which so much is left that it pays for some replicas that work."""
    left = replicas * REPLICA * SECONDS_LEFT / 3.6e6
    rules = budgeted(budget(step(0.01, Remedy.CAP_REPLICAS), energy=used + left), **more)
    return rules, books(account(used))


def run(replicas: float, count: int, running: float, **more: Any) -> ServicePlan:
    rules, ledger = paying(replicas, **more.pop("rules", {}))
    return planned(Scene(policy=rules, variants={"bf16": Running(count, running=running)}, **more), ledger)


def test_replicas_grow_to_what_is_left_pays_for_and_no_further() -> None:
    plan = run(3.4, 2, 80)
    assert plan.replicas == {"bf16": 3}
    full = run(3.4, 3, 80)
    assert (full.replicas, full.standing.reason) == ({"bf16": 3}, Reason.BUDGET_BURN)
    assert [veto.guard for veto in full.vetoes] == ["budget"]
    assert "of the Month energy budget is used" in full.standing.message
    assert "pays for 3.4 replicas at 750 W each" in full.standing.message


def test_more_than_a_budget_pays_for_goes_one_by_one_although_they_are_busy() -> None:
    plan = run(3.4, 6, 60)
    assert (plan.replicas, plan.standing.action) == ({"bf16": 5}, "ScaleDown")
    assert plan.standing.reason is Reason.BUDGET_BURN
    assert plan.memory.changed_at == NOW


def test_between_what_may_grow_and_what_must_go_lies_a_whole_replica() -> None:
    assert run(3.4, 4, 40).replicas == {"bf16": 4}
    assert run(3.4, 4, 80).replicas == {"bf16": 4}


@pytest.mark.parametrize(
    ("changes", "guard"),
    [
        ({"memory": ServiceMemory(changed_at=Instant(NOW - 60))}, "dwell"),
        ({"history": watched(60, 6, seconds=60)}, "window"),
        ({"readings": readings({"bf16": Running(6, running=60)}, engine_fault=UNREAD, waiting=())}, "freshness"),
    ],
    ids=["a change just now", "a load that was not watched", "an engine that is not read"],
)
def test_guards_keep_replicas_that_no_budget_pays_for(changes: dict[str, Any], guard: str) -> None:
    if "readings" in changes:
        changes["readings"] = replace(changes["readings"], engines={})
    plan = run(3.4, 6, 60, **changes)
    assert plan.replicas == {"bf16": 6}
    assert guard in [veto.guard for veto in plan.vetoes]


def test_replicas_on_their_way_are_waited_for() -> None:
    rules, ledger = paying(2)
    plan = planned(Scene(policy=rules, variants={"bf16": Running(6, 5, running=60)}), ledger)
    assert plan.replicas == {"bf16": 6}


def test_missed_objectives_keep_no_replica_that_no_budget_pays_for() -> None:
    tight = service(objectives=Objectives(Seconds(0.001), Seconds(0.001)))
    assert run(3.4, 6, 60, service=tight).replicas == {"bf16": 5}


@pytest.mark.parametrize(("minimum", "floor"), [(0, 1), (1, 1), (3, 3)])
def test_while_nothing_is_left_the_fewest_replicas_run_whatever_they_draw(minimum: int, floor: int) -> None:
    rules = budgeted(budget(step(1, Remedy.CAP_REPLICAS), energy=100))
    for count in range(floor, floor + 3):
        scene = Scene(service(minimum=minimum), {"bf16": Running(count, running=10 * count)}, rules)
        assert planned(scene, books(account(100))).replicas == {"bf16": max(count - 1, floor)}
        wanting = {"bf16": Running(count, running=90)}
        unread = replace(scene, variants=wanting, readings=readings(wanting, watts=UNREAD))
        assert planned(unread, books(account(100))).replicas == {"bf16": count}


def test_what_scale_asks_for_is_paid_for_whatever_the_budget() -> None:
    rules, ledger = paying(1)
    memory = ServiceMemory(request_seen=4, request_at=Instant(NOW - 60))
    asking = Scene(service(requested=4), {"bf16": Running(4, running=60)}, rules, memory)
    assert planned(asking, ledger).replicas == {"bf16": 4}


@pytest.mark.parametrize(
    "changes",
    [
        {"readings": readings({"bf16": Running(6, running=80)}, watts=UNREAD)},
        {"rules": {"guards": GuardRules(metrics_max_age=Seconds(90))}, "stale": True},
    ],
    ids=["watts that are not read", "watts of some minutes ago"],
)
def test_where_it_is_not_known_what_replicas_draw_nothing_is_capped(changes: dict[str, Any]) -> None:
    if changes.pop("stale", False):
        seen = readings({"bf16": Running(6, running=80)})
        old = {uuid: gpu(uuid, one.holder, at=Instant(NOW - 300), watts=BUSY_WATTS) for uuid, one in seen.gpus.items()}
        changes = {**changes, "readings": replace(seen, gpus=old)}
    plan = run(3.4, 6, 80, **changes)
    assert plan.replicas == {"bf16": 8}


def test_what_replicas_draw_is_taken_over_the_window_by_their_counters() -> None:
    variants = {"bf16": Running(6, running=60)}
    before = readings(variants, at=Instant(NOW - 120))
    now = readings(variants)
    counted = {
        uuid: gpu(uuid, one.holder, watts=9999.0, joules=120 * BUSY_WATTS, active=0.9) for uuid, one in now.gpus.items()
    }
    plan = run(3.4, 6, 60, readings=replace(now, gpus=counted), earlier=before)
    assert "at 750 W each" in plan.standing.message


def test_a_policy_that_recommends_proposes_and_one_that_observes_does_nothing() -> None:
    asked = run(3.4, 6, 60, rules={"mode": Mode.RECOMMEND})
    assert asked.replicas == {"bf16": 6}
    assert asked.pending is not None
    assert asked.pending.proposed.what == "ScaleDown to bf16 5"
    assert run(3.4, 6, 60, rules={"mode": Mode.OBSERVE}).replicas == {"bf16": 6}


def test_a_policy_that_scales_nothing_caps_nothing_and_says_so() -> None:
    plan = run(1, 6, 60, rules={"scaling": ScalingRules(enabled=False)})
    assert plan.replicas == {"bf16": 6}
    assert "onBurn CapReplicas never acts: scaling.enabled of the policy is false" in plan.silences


def test_of_carbon_the_present_intensity_tells_what_is_paid_for() -> None:
    left = 3.4 * REPLICA / 3.6e6 * 400 * SECONDS_LEFT
    rules = budgeted(budget(step(0.01, Remedy.CAP_REPLICAS), carbon=100_000 + left))
    scene = Scene(policy=rules, variants={"bf16": Running(6, running=60)}, zone=zone(400))
    ledger = books(account(10, grams=100_000))
    assert "pays for 3.4 replicas" in planned(scene, ledger).standing.message
    assert (
        "pays for 6.8 replicas"
        in planned(replace(scene, zone=zone(200), variants={"bf16": Running(8, running=80)}), ledger).standing.message
    )
    known = zone(400)
    for unknown in (Missing(Reason.NO_INTENSITY), replace(intensity(400), kind=IntensityKind.MARGINAL)):
        one = replace(scene, zone=replace(known, intensity=unknown), variants={"bf16": Running(6, running=80)})
        assert planned(one, ledger).replicas == {"bf16": 8}


def two(chat: int, lab: int, rules: Policy) -> Snapshot:
    """Chat and lab on their own GPUs, all at work."""
    counts = {CHAT: chat, LAB: lab}
    pods = [pod(f"{key.name}-{index}", key=key) for key, count in counts.items() for index in range(count)]
    seen = readings({})
    return Snapshot(
        at=NOW,
        cluster=ClusterView(
            nodes=Scene().cluster().nodes,
            pods={one.ref: one for one in pods},
            workloads=tuple(workload(replicas=count, key=key) for key, count in counts.items()),
            services={key: service(key=key) for key in counts},
            policies=(rules,),
        ),
        readings=replace(
            seen,
            gpus={f"GPU-{one.ref.name}": gpu(f"GPU-{one.ref.name}", one.ref, watts=BUSY_WATTS) for one in pods},
            engines={one.ref: engine(running=10) for one in pods},
        ),
        history={key: watched(10 * count, count) for key, count in counts.items()},
    )


def caps_of(snapshot: Snapshot, ledger: Ledger) -> dict[ServiceKey, float | None]:
    asked = asks(snapshot, estimate(snapshot, conclude(ledger)))
    return {key: one.ceiling.replicas if one.ceiling else None for key, one in asked.items()}


def test_the_services_of_a_policy_share_what_is_left_by_what_they_draw() -> None:
    rules, _ = paying(3)
    ledger = books({CHAT: account(400), LAB: account(600)})
    assert caps_of(two(4, 2, rules), ledger) == pytest.approx({CHAT: 2.0, LAB: 1.0})


def test_a_service_of_which_no_watts_are_known_is_not_capped_and_the_others_share_without_it() -> None:
    rules, _ = paying(3)
    ledger = books({CHAT: account(400), LAB: account(600)})
    known = two(4, 2, rules)
    left_out = {uuid: one for uuid, one in known.readings.gpus.items() if one.holder != PodRef("llm", "lab-1")}
    caps = caps_of(replace(known, readings=replace(known.readings, gpus=left_out)), ledger)
    assert caps == {CHAT: pytest.approx(3.0), LAB: None}


def test_the_tighter_of_two_budgets_caps() -> None:
    month, ledger = paying(5)
    day = budget(step(0.01, Remedy.CAP_REPLICAS), period=BudgetPeriod.DAY, energy=1000 + 2 * REPLICA * 57_600 / 3.6e6)
    rules = replace(month, budgets=(*month.budgets, day))
    assert (
        "Day energy budget"
        in planned(Scene(policy=rules, variants={"bf16": Running(6, running=60)}), ledger).standing.message
    )


@given(st.floats(0, 40), st.floats(0, 40), st.integers(1, 5))
def test_a_larger_budget_never_pays_for_fewer_replicas(one: float, more: float, least: int) -> None:
    smaller, larger = (
        caps_of(two(4, 2, paying(size)[0]), books({CHAT: account(400), LAB: account(600)}))
        for size in (one, one + more)
    )
    for key in (CHAT, LAB):
        low, high = smaller[key], larger[key]
        assert low is not None
        assert high is not None
        assert Ceiling(low, "").grows_to(least) <= Ceiling(high, "").grows_to(least)
        assert Ceiling(low, "").shrinks_to(least) <= Ceiling(high, "").shrinks_to(least)


@given(st.floats(0, 40), st.integers(1, 8))
def test_what_just_goes_is_not_allowed_to_come_back(pays: float, least: int) -> None:
    cap = Ceiling(pays, "")
    assert least <= cap.grows_to(least) <= cap.shrinks_to(least) <= cap.grows_to(least) + 1


@given(st.integers(1, 8), st.floats(0, 120), st.floats(0, 10))
def test_a_load_that_stays_ends_with_replicas_that_stay(count: int, load: float, pays: float) -> None:
    seen = [count, run(pays, count, load).replicas["bf16"]]
    # where a plan changes nothing the next one is the same
    while seen[-1] != seen[-2] and len(seen) < 12:
        seen.append(run(pays, seen[-1], load).replicas["bf16"])
    assert seen[-1] == seen[-2]
    assert seen[-1] <= Ceiling(pays, "").shrinks_to(1)


@given(st.integers(1, 8), st.floats(0, 120), st.floats(0, 20))
def test_no_budget_without_knowledge_changes_a_plan(count: int, running: float, pays: float) -> None:
    rules, _ = paying(pays)
    steps = (step(0.01, *Remedy),)
    rules = replace(rules, budgets=tuple(replace(one, on_burn=steps) for one in rules.budgets), precision=PRECISION)
    scene = Scene(BOTH, {"bf16": Running(count, running=running)}, rules)
    without = planned(replace(scene, policy=replace(rules, budgets=())))
    for unknown in (None, books(account(1000), since=Instant(NOW - 60))):
        plan = planned(scene, unknown)
        assert (plan.replicas, plan.throttled, plan.memory) == (without.replicas, without.throttled, without.memory)


# variants


def precise(rules: PrecisionRules | None = PRECISION, *steps: Any, **more: Any) -> Policy:
    return budgeted(budget(*(steps or (LESSER,)), energy=100), precision=rules, **more)


def serving(name: str = "bf16", **more: Any) -> Scene:
    memory = FP8_SERVES if name == "fp8" else ServiceMemory(serving=name, changed_at=Instant(NOW - 3600))
    plain = Scene(BOTH, {name: Running(2, running=19)}, precise(), memory, zone=zone(100))
    return replace(plain, **more)


def test_a_lesser_variant_serves_while_a_budget_asks_for_it_and_the_reference_again_in_the_next_period() -> None:
    begun = planned(serving(), books(account(60)))
    assert (begun.memory.switching_to, begun.standing.reason) == ("fp8", Reason.BUDGET_BURN)
    assert "60 % of the Month energy budget is used" in begun.standing.message
    held = planned(serving("fp8"), books(account(60)))
    assert (held.memory.switching_to, held.standing.reason) == (None, Reason.BUDGET_BURN)
    anew = planned(serving("fp8"), books(account(1)))
    assert (anew.memory.switching_to, anew.standing.reason) == ("bf16", Reason.TIER_ENDED)


def test_before_its_share_is_used_nothing_is_switched() -> None:
    assert planned(serving(), books(account(49))).memory.switching_to is None


@pytest.mark.parametrize("books_of", [None, books(account(60), since=Instant(NOW - 60))], ids=["unread", "too young"])
def test_while_it_is_not_known_how_much_is_used_the_variant_stays(books_of: Ledger | None) -> None:
    for name in ("fp8", "bf16"):
        plan = planned(serving(name), books_of)
        assert plan.memory.switching_to is None
        assert any("is not known" in silence for silence in plan.silences)


def test_the_quality_floor_and_the_measured_advantage_hold_for_budgets_too() -> None:
    floor = replace(PRECISION, quality_floor=0.999)
    assert planned(serving(policy=precise(floor)), books(account(60))).standing.reason is Reason.QUALITY_FLOOR
    measured = replace(PRECISION, require_measured_advantage=True)
    plan = planned(serving(policy=precise(measured)), books(account(60)))
    assert plan.standing.reason is Reason.NO_MEASURED_ADVANTAGE
    better = (profile(BF16, (8, 800, 400), (64, 3000, 600)), profile(FP8, (8, 1200, 380), (64, 4500, 550)))
    assert planned(serving(policy=precise(measured), profiles=better), books(account(60))).memory.switching_to == "fp8"


def test_only_precisions_of_some_tier_serve_by_a_budget() -> None:
    both = service(BF16, INT4)
    rules = PrecisionRules(
        (Tier(GramsPerKWh(350), frozenset({"FP8"})), Tier(GramsPerKWh(0), frozenset({"BF16"}))),
        require_measured_advantage=False,
    )
    plan = planned(serving(service=both, policy=precise(rules)), books(account(60)))
    assert plan.memory.switching_to is None


def test_where_the_intensity_is_not_known_a_budget_still_asks() -> None:
    unknown = replace(zone(), intensity=Missing(Reason.NO_INTENSITY, "no token"))
    assert planned(serving(zone=unknown), books(account(60))).memory.switching_to == "fp8"
    assert planned(serving("fp8", zone=unknown), books(account(1))).memory.switching_to is None


def test_without_precision_in_the_policy_the_remedy_never_acts_and_says_so() -> None:
    plan = planned(serving(policy=precise(None)), books(account(60)))
    assert plan.memory.switching_to is None
    assert "onBurn Precision never acts: the policy has no precision" in plan.silences


# clocks


def idle(ladder: IdleRules, *steps: Any, throttled: bool = False) -> Scene:
    rules = replace(policy(), idle=ladder, budgets=(budget(*(steps or (CLOCKS,)), energy=100),))
    kept = service(minimum=2, objectives=Objectives(Seconds(1), Seconds(0.05)))
    return Scene(kept, {"bf16": Running(2)}, rules, throttled=throttled)


def test_clocks_fall_while_a_budget_asks_for_it_and_stay_up_again_in_the_next_period() -> None:
    off = IdleRules(release=False)
    begun = planned(idle(off), books(account(60)))
    assert (begun.standing.action, begun.standing.reason) == ("Throttle", Reason.BUDGET_BURN)
    assert "Month energy budget" in begun.standing.message
    assert planned(idle(off, throttled=True), books(account(60))).standing.action == "Hold"
    assert planned(idle(off, throttled=True), books(account(1))).standing.action == "Unthrottle"


def test_while_it_is_not_known_how_much_is_used_clocks_stay_as_they_are() -> None:
    for throttled in (False, True):
        assert planned(idle(IdleRules(release=False), throttled=throttled)).throttled is throttled


def test_jobs_that_could_wait_there_are_none() -> None:
    plan = planned(idle(IdleRules(release=False), step(0.5, Remedy.DEFER)), books(account(60)))
    assert "onBurn Defer never acts: Fallow has no jobs that could wait" in plan.silences


def test_a_service_of_another_policy_is_asked_for_nothing() -> None:
    rules, _ = paying(1)
    snapshot = two(4, 2, rules)
    higher = policy(name="higher", priority=5)
    governed = replace(snapshot, cluster=replace(snapshot.cluster, policies=(rules, higher)))
    ledger = books({CHAT: account(400), LAB: account(600)})
    assert caps_of(governed, ledger) == {}
    plan = decide(governed, estimate(governed, conclude(ledger)))
    assert {key: one.total for key, one in plan.services.items()} == {CHAT: 4, LAB: 2}
