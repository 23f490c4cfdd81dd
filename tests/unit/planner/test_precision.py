"""Which variant serves: tiers with hysteresis, quality, a measured advantage; made before the old one is broken."""

from dataclasses import replace

import pytest

from fallow.domain.figures import Missing
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode, Policy, PrecisionRules, Tier
from fallow.domain.profiles import Profile
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant, Seconds, Watts
from fallow.domain.workloads import Objectives, Service, ServiceMemory, Variant
from tests.support.builders import (
    BF16,
    FP8,
    H100,
    INT4,
    L4,
    NOW,
    PRECISION,
    TIERS,
    Running,
    Scene,
    point,
    policy,
    profile,
    readings,
    service,
    watched,
    zone,
)
from tests.unit.planner.asking import planned

GREEN = policy(precision=PRECISION)
MEASURED = policy(precision=PrecisionRules(TIERS))
BF16_SERVES = ServiceMemory(serving="bf16", changed_at=Instant(NOW - 3600))
FP8_SERVES = ServiceMemory(serving="fp8", changed_at=Instant(NOW - 3600))
BOTH = service(BF16, FP8)


def scene(
    grams: float | Missing, serving: str = "bf16", *, rules: Policy = GREEN, count: int = 2, **more: object
) -> Scene:
    """Two replicas of the serving variant at a load that asks for no change of replicas."""
    plain = Scene(
        service=BOTH,
        variants={serving: Running(count, running=9.5 * count)},
        memory=BF16_SERVES if serving == "bf16" else FP8_SERVES,
        policy=rules,
        zone=zone(grams),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def begun(plan: ServicePlan) -> str | None:
    return plan.memory.switching_to


@pytest.mark.parametrize(
    ("grams", "serving", "target"),
    [
        (349, "bf16", None),
        (350, "bf16", "fp8"),
        (349, "fp8", None),
        (333, "fp8", None),
        (332, "fp8", "bf16"),
    ],
    ids=[
        "below the tier",
        "at the tier's threshold",
        "just below it, a lesser variant serving",
        "still within the hysteresis",
        "below the hysteresis",
    ],
)
def test_tiers_are_entered_at_their_threshold_and_left_below_the_hysteresis(
    grams: float, serving: str, target: str | None
) -> None:
    assert begun(planned(scene(grams, serving))) == target


ALL = service(BF16, FP8, INT4)
STEPS = PrecisionRules(
    (
        Tier(GramsPerKWh(350), frozenset({"FP8"})),
        Tier(GramsPerKWh(500), frozenset({"INT4"})),
    ),
    require_measured_advantage=False,
)


@pytest.mark.parametrize(
    ("grams", "serving", "target"),
    [
        (480, "bf16", "fp8"),
        (480, "fp8", None),
        (500, "fp8", "int4"),
        (480, "int4", None),
        (470, "int4", "fp8"),
        (340, "fp8", None),
        (100, "int4", "bf16"),
        (100, "fp8", "bf16"),
    ],
    ids=[
        "the middle tier from the reference",
        "hysteresis never enters a dirtier tier early",
        "the dirtiest tier",
        "the dirtiest tier within its hysteresis",
        "back by one tier",
        "the middle tier within its hysteresis",
        "below all thresholds the reference, from the least",
        "below all thresholds the reference, from the middle",
    ],
)
def test_several_tiers_each_have_their_own_hysteresis(grams: float, serving: str, target: str | None) -> None:
    memory = replace(FP8_SERVES, serving=serving)
    assert begun(planned(scene(grams, serving, rules=policy(precision=STEPS), service=ALL, memory=memory))) == target


def test_the_best_quality_that_the_tier_allows_serves() -> None:
    assert begun(planned(scene(400, service=service(BF16, INT4, FP8)))) == "fp8"


def test_a_variant_below_the_quality_floor_never_serves() -> None:
    floor = policy(precision=replace(PRECISION, quality_floor=0.98))
    plan = planned(scene(400, rules=floor, service=service(BF16, INT4)))
    assert begun(plan) is None
    assert plan.standing.reason is Reason.QUALITY_FLOOR
    assert "quality 0.975, the floor is 0.98" in plan.standing.message


def test_a_service_without_a_variant_of_the_tier_keeps_the_one_it_has() -> None:
    rules = policy(precision=STEPS)
    assert begun(planned(scene(600, "fp8", rules=rules))) is None
    assert begun(planned(scene(400, rules=rules, service=service(BF16, INT4)))) is None


# J/token at 10 requests a replica: 0.5 against 0.4, 0.5 against 0.6
BASE = profile(BF16, (1, 100, 200), (10, 800, 400), (100, 4000, 650))
SLIGHTLY = profile(FP8, (1, 101, 200), (10, 808, 400), (100, 4040, 650))
BETTER = profile(FP8, (1, 100, 200), (10, 1000, 400), (100, 6000, 650))
WORSE = profile(FP8, (1, 60, 200), (10, 600, 360), (100, 3000, 650))


@pytest.mark.parametrize(
    ("profiles", "target", "reason"),
    [
        ((BASE, BETTER), "fp8", Reason.CARBON_TIER),
        ((BASE, WORSE), None, Reason.NO_MEASURED_ADVANTAGE),
        ((BASE, SLIGHTLY), None, Reason.NO_MEASURED_ADVANTAGE),
        ((BASE,), None, Reason.NO_MEASURED_ADVANTAGE),
        ((BETTER,), None, Reason.NO_MEASURED_ADVANTAGE),
        ((), None, Reason.NO_MEASURED_ADVANTAGE),
        ((BASE, replace(BETTER, gpu_product=L4)), None, Reason.NO_MEASURED_ADVANTAGE),
        ((BASE, replace(BETTER, points=())), None, Reason.NO_MEASURED_ADVANTAGE),
    ],
    ids=[
        "less",
        "more",
        "less than profiles are exact to",
        "nothing of it",
        "nothing of the reference",
        "nothing at all",
        "another GPU",
        "no points",
    ],
)
def test_a_switch_needs_less_energy_per_token_as_profiled_here(
    profiles: tuple[Profile, ...], target: str | None, reason: Reason
) -> None:
    plan = planned(scene(400, rules=MEASURED, profiles=profiles))
    assert begun(plan) == target
    assert plan.standing.reason is reason


def test_the_advantage_is_told_with_its_numbers_and_what_it_saves() -> None:
    variants = {"bf16": Running(2, running=20, tokens=15_000)}
    before = readings({"bf16": Running(2, running=20)}, at=Instant(NOW - 15))
    plan = planned(scene(400, rules=MEASURED, profiles=(BASE, BETTER), variants=variants, previous=before))
    assert plan.standing.message == (
        "bf16 to fp8: grid at 400 gCO2e/kWh (tier above 350); "
        "0.500 J/token as bf16 at 10 requests a replica, 0.400 as fp8 at 10"
    )
    assert plan.standing.saves is not None
    assert plan.standing.saves.value == pytest.approx((0.5 - 0.4) * 1000)


def test_a_lesser_variant_that_turns_out_to_have_no_advantage_gives_way_although_the_grid_is_dirty() -> None:
    assert begun(planned(scene(400, "fp8", rules=MEASURED, profiles=(BASE, WORSE)))) == "bf16"


def test_each_variant_is_judged_at_the_concurrency_it_would_run_at() -> None:
    """INT4 wins at few requests a replica only, and carries four times as many: it would run where it loses."""
    int4 = replace(INT4, max_concurrency=40)
    bf16 = replace(BF16, max_concurrency=10)
    small = profile(int4, (1, 200, 200), (10, 1600, 400), (40, 900, 650))
    base = profile(bf16, (1, 100, 200), (10, 1000, 400), (40, 3000, 600))
    svc = service(bf16, int4, concurrency=None)
    load = {"bf16": Running(4, running=30)}
    plan = planned(scene(400, rules=MEASURED, service=svc, profiles=(base, small), variants=load))
    assert begun(plan) is None
    assert plan.standing.reason is Reason.NO_MEASURED_ADVANTAGE


def test_a_lesser_variant_whose_advantage_is_no_longer_known_stays_while_the_tier_lasts() -> None:
    assert begun(planned(scene(400, "fp8", rules=MEASURED))) is None


HOLD = Missing(Reason.NO_INTENSITY, "carbon source is down")


@pytest.mark.parametrize("serving", ["bf16", "fp8"])
def test_without_an_intensity_the_serving_variant_stays(serving: str) -> None:
    plan = planned(scene(HOLD, serving))
    assert begun(plan) is None
    assert plan.standing.reason is Reason.DATA_MISSING
    assert "carbon source is down" in plan.standing.message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"memory": replace(BF16_SERVES, changed_at=Instant(NOW - 60))}, Reason.DWELL),
        ({"variants": {"bf16": Running(2, ready=1, running=9)}}, Reason.PENDING_CAPACITY),
        ({"readings": readings({"bf16": Running(2)}, at=Instant(NOW - 300))}, Reason.DATA_MISSING),
    ],
    ids=["within the dwell", "while replicas start", "while metrics are stale"],
)
def test_no_switch_begins(change: dict[str, object], reason: Reason) -> None:
    plan = planned(scene(400, **change))  # type: ignore[arg-type]
    assert begun(plan) is None
    assert plan.standing.reason is reason


def test_no_switch_begins_for_a_service_with_one_variant_or_without_rules() -> None:
    assert begun(planned(scene(400, service=service(BF16)))) is None
    assert begun(planned(scene(400, rules=policy()))) is None


def test_without_rules_any_more_the_reference_comes_back() -> None:
    assert begun(planned(scene(400, "fp8", rules=policy()))) == "bf16"


@pytest.mark.parametrize("mode", [Mode.RECOMMEND, Mode.OBSERVE])
def test_only_an_enforced_policy_switches(mode: Mode) -> None:
    plan = planned(scene(400, rules=replace(GREEN, mode=mode)))
    assert plan.replicas == {"bf16": 2}
    assert begun(plan) is None
    assert plan.proposed == {"bf16": 2, "fp8": 2}
    assert plan.standing.proposal


UNDER_WAY = ServiceMemory(serving="bf16", switching_to="fp8", changed_at=Instant(NOW - 60))


def switching(fp8: Running, *, memory: ServiceMemory = UNDER_WAY, **more: object) -> Scene:
    return scene(400, variants={"bf16": Running(2, running=19), "fp8": fp8}, memory=memory, **more)  # type: ignore[arg-type]


def test_a_switch_adds_the_new_variant_and_touches_the_old_one_only_when_all_of_it_is_ready() -> None:
    start = planned(scene(400))
    assert (start.replicas, start.serving) == ({"bf16": 2, "fp8": 2}, "bf16")
    for ready in (0, 1):
        waiting = planned(switching(Running(2, ready=ready), memory=start.memory))
        assert (waiting.replicas, waiting.serving, waiting.decision) == ({"bf16": 2, "fp8": 2}, "bf16", None)
        assert waiting.standing.reason is Reason.SWITCHING
    done = planned(switching(Running(2), memory=start.memory))
    assert (done.replicas, done.serving, begun(done)) == ({"bf16": 0, "fp8": 2}, "fp8", None)
    assert done.standing.reason is Reason.SWITCH_COMPLETE


def test_a_switch_waits_when_the_old_variant_grew_meanwhile() -> None:
    grown = {"bf16": Running(4, running=38), "fp8": Running(2)}
    plan = planned(scene(400, variants=grown, memory=UNDER_WAY))
    assert plan.replicas == {"bf16": 4, "fp8": 4}
    assert (plan.serving, begun(plan)) == ("bf16", "fp8")


def test_a_switch_keeps_within_a_maximum_that_was_lowered_meanwhile() -> None:
    lowered = service(BF16, FP8, maximum=2)
    memory = replace(UNDER_WAY, goal=3)
    plan = planned(
        scene(400, service=lowered, variants={"bf16": Running(2), "fp8": Running(1, ready=0)}, memory=memory)
    )
    assert plan.replicas == {"bf16": 2, "fp8": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"readings": readings({"bf16": Running(2), "fp8": Running(2)}, at=Instant(NOW - 300))},
        {"readings": replace(readings({"bf16": Running(2), "fp8": Running(2)}), gpus={}, gpu_fault=HOLD)},
    ],
    ids=["stale metrics", "no dcgm-exporter"],
)
def test_the_old_variant_is_not_drained_while_a_signal_is_missing(change: dict[str, object]) -> None:
    plan = planned(switching(Running(2), **change))  # type: ignore[arg-type]
    assert plan.replicas == {"bf16": 2, "fp8": 2}
    assert plan.standing.reason is Reason.DATA_MISSING


LATE = replace(UNDER_WAY, changed_at=Instant(NOW - 1801))


def test_a_variant_that_does_not_get_ready_in_time_is_given_up() -> None:
    plan = planned(switching(Running(2, ready=1), memory=LATE))
    assert (plan.replicas, plan.serving, begun(plan)) == ({"bf16": 2, "fp8": 0}, "bf16", None)
    assert plan.standing.reason is Reason.NOT_READY


def test_the_deadline_does_not_take_the_only_replica_that_works() -> None:
    broken = {"bf16": Running(2, ready=0), "fp8": Running(2, ready=1, running=5)}
    plan = planned(scene(400, variants=broken, memory=LATE))
    assert plan.replicas["fp8"] == 2


def test_a_serving_deployment_deleted_in_the_middle_of_a_switch_costs_nothing_that_runs() -> None:
    plan = planned(scene(400, variants={"fp8": Running(2, ready=1, running=5)}, memory=UNDER_WAY))
    assert plan.replicas["fp8"] == 2


def test_a_switch_whose_new_deployment_was_deleted_is_over() -> None:
    plan = planned(scene(400, memory=UNDER_WAY))
    assert (plan.replicas, begun(plan)) == ({"bf16": 2}, None)


@pytest.mark.parametrize(
    "rules",
    [None, policy(), replace(GREEN, mode=Mode.OBSERVE), replace(GREEN, mode=Mode.RECOMMEND)],
    ids=["deleted", "without tiers", "observing", "recommending, and nobody approved it"],
)
def test_a_switch_to_a_lesser_variant_is_called_off_when_the_policy_no_longer_asks_for_it(
    rules: Policy | None,
) -> None:
    plan = planned(replace(switching(Running(2, ready=1)), policy=rules))
    assert (plan.replicas, plan.serving, begun(plan)) == ({"bf16": 2, "fp8": 0}, "bf16", None)


RECOMMENDED = replace(GREEN, mode=Mode.RECOMMEND)


def approved() -> tuple[ServicePlan, Service]:
    """The switch that a person let begin, and the service with that person's word."""
    proposal = planned(scene(400, rules=RECOMMENDED)).memory.proposal
    assert proposal is not None
    asking = ServiceMemory(serving="bf16", changed_at=BF16_SERVES.changed_at, proposal=proposal)
    said = replace(BOTH, approved=proposal.id)
    return planned(scene(400, rules=RECOMMENDED, memory=asking, service=said)), said


def test_an_approved_switch_is_carried_through_to_its_end() -> None:
    start, said = approved()
    assert (start.replicas, start.serving, begun(start)) == ({"bf16": 2, "fp8": 2}, "bf16", "fp8")
    memory = start.memory
    for word in (said, said, BOTH, replace(BOTH, approved="00000000", rejected="11111111")):
        waits = planned(switching(Running(2, ready=1), memory=memory, rules=RECOMMENDED, service=word))
        assert (waits.replicas, begun(waits)) == ({"bf16": 2, "fp8": 2}, "fp8")
        memory = waits.memory
    done = planned(switching(Running(2), memory=memory, rules=RECOMMENDED, service=said))
    assert (done.replicas, done.serving, begun(done)) == ({"bf16": 0, "fp8": 2}, "fp8", None)
    after = planned(scene(400, "fp8", rules=RECOMMENDED, memory=done.memory, service=said))
    assert (after.replicas, after.serving, after.pending) == ({"fp8": 2}, "fp8", None)


def test_an_approved_switch_is_given_up_like_any_other() -> None:
    start, said = approved()
    late = replace(start.memory, changed_at=Instant(NOW - 1801))
    plan = planned(switching(Running(2, ready=1), memory=late, rules=RECOMMENDED, service=said))
    assert (plan.replicas, plan.standing.reason, begun(plan)) == ({"bf16": 2, "fp8": 0}, Reason.NOT_READY, None)


@pytest.mark.parametrize("rules", [None, policy(mode=Mode.RECOMMEND), replace(GREEN, mode=Mode.OBSERVE)])
def test_an_approved_switch_ends_with_the_policy_that_proposed_it(rules: Policy | None) -> None:
    start, said = approved()
    plan = planned(replace(switching(Running(2, ready=1), memory=start.memory, service=said), policy=rules))
    assert (plan.replicas, plan.standing.reason, begun(plan)) == ({"bf16": 2, "fp8": 0}, Reason.TIER_ENDED, None)


def test_what_a_person_approved_that_person_may_take_back() -> None:
    start, said = approved()
    both = replace(said, rejected=said.approved)
    kept = planned(switching(Running(2, ready=1), memory=start.memory, rules=RECOMMENDED, service=both))
    assert begun(kept) == "fp8"
    rejected = replace(both, approved="")
    plan = planned(switching(Running(2, ready=1), memory=start.memory, rules=RECOMMENDED, service=rejected))
    assert (plan.replicas, plan.serving, begun(plan)) == ({"bf16": 2, "fp8": 0}, "bf16", None)
    assert plan.standing.message == f"the switch to fp8 is rejected ({said.approved}); bf16 keeps serving"
    assert (plan.standing.reason, plan.memory.approval) == (Reason.REJECTED, "")


def test_an_approval_of_before_is_none_for_a_switch_that_a_policy_began() -> None:
    start, said = approved()
    done = planned(switching(Running(2), memory=start.memory, rules=RECOMMENDED, service=said))
    again = planned(scene(100, "fp8", memory=replace(done.memory, changed_at=Instant(NOW - 3600)), service=said))
    assert (begun(again), again.memory.approval) == ("bf16", "")


@pytest.mark.parametrize("rules", [None, replace(GREEN, mode=Mode.OBSERVE)], ids=["deleted", "observing"])
def test_a_switch_back_to_the_reference_is_finished_whatever_became_of_the_policy(rules: Policy | None) -> None:
    back = ServiceMemory(serving="fp8", switching_to="bf16", changed_at=Instant(NOW - 60))
    variants = {"fp8": Running(2, running=19), "bf16": Running(2)}
    plan = planned(replace(scene(100, variants=variants, memory=back), policy=rules))
    assert (plan.replicas, plan.serving) == ({"fp8": 0, "bf16": 2}, "bf16")


@pytest.mark.parametrize("rules", [None, replace(GREEN, mode=Mode.OBSERVE)], ids=["deleted", "observing"])
def test_the_serving_variant_stays_when_nobody_enforces_anything(rules: Policy | None) -> None:
    plan = planned(replace(scene(100, "fp8"), policy=rules))
    assert plan.replicas == {"fp8": 2}
    assert plan.serving == "fp8"


ITL = Objectives(itl_p95=Seconds(0.05))


def test_a_variant_that_carries_less_gets_more_replicas_and_one_that_carries_more_not_fewer() -> None:
    small, large = replace(FP8, max_concurrency=5), replace(FP8, max_concurrency=100)
    bf16 = replace(BF16, max_concurrency=10)
    load = {"bf16": Running(2, running=15)}
    for fp8, expected in ((small, 4), (large, 2)):
        plan = planned(scene(400, service=service(bf16, fp8, concurrency=None), variants=load))
        assert plan.replicas == {"bf16": 2, "fp8": expected}


def test_a_switch_that_does_not_fit_under_max_replicas_does_not_begin() -> None:
    small = replace(FP8, max_concurrency=2)
    svc = service(replace(BF16, max_concurrency=10), small, concurrency=None, maximum=4)
    plan = planned(scene(400, service=svc, variants={"bf16": Running(2, running=15)}))
    assert begun(plan) is None
    assert plan.standing.reason is Reason.MAX_REPLICAS


def test_the_capacity_of_a_variant_for_another_gpu_comes_from_its_own_profile() -> None:
    awq: Variant = replace(INT4, products=(L4,))
    own = profile(awq, (1, 20, 40, 0.02), (4, 60, 60, 0.03), (16, 100, 72, 0.2), product=L4)
    base = profile(BF16, (8, 800, 400, 0.02), (32, 2400, 600, 0.03), product=H100, idle_watts=Watts(122))
    svc = service(BF16, awq, concurrency=None, objectives=ITL, maximum=100)
    load = {"bf16": Running(2, running=40)}
    plan = planned(scene(400, service=svc, profiles=(base, own), variants=load))
    assert plan.replicas["int4"] == 2 * 32 / 4


def test_the_switch_is_judged_by_what_was_watched_not_by_the_instant() -> None:
    history = (*watched(200, 2, seconds=600, now=Instant(NOW - 15)), point(running=19, ready=2))
    worse_when_full = profile(FP8, (1, 100, 200), (10, 1000, 400), (100, 2000, 650))
    plan = planned(scene(400, rules=MEASURED, profiles=(BASE, worse_when_full), history=history))
    assert begun(plan) is None
