"""Which GPU type serves: the one on which the load takes least, within objectives, where some are free; then rest."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fallow.domain.arrivals import Arrivals
from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import LoadPoint, VariantEnergy
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import GuardRules, HardwareRules, Mode, Policy, PrecisionRules
from fallow.domain.profiles import Profile
from fallow.domain.readings import Histogram, Readings
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint, Flow, Snapshot
from fallow.domain.units import Instant, Joules, Seconds, Watts
from fallow.domain.workloads import Objectives, ServiceMemory, Variant
from fallow.domain.zones import ZoneReading
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from fallow.planner.inventory import free_gpus
from fallow.planner.weighing import Place
from tests.support.builders import (
    BF16,
    CHAT,
    CYCLE,
    FP8,
    H100,
    L4,
    NOW,
    TIERS,
    Running,
    Scene,
    node,
    pod,
    point,
    policy,
    profile,
    readings,
    service,
    zone,
)
from tests.unit.planner.asking import planned

ON_H100 = replace(BF16, name="h100", products=(H100,))
ON_L4 = replace(BF16, name="l4", products=(L4,))
FP8_ON_H100 = replace(FP8, products=(H100,))
MATCH = HardwareRules()
BLIND = GuardRules(objective_veto=False)
GREEN = policy(hardware=MATCH, guards=BLIND)
RECOMMENDED = replace(GREEN, mode=Mode.RECOMMEND)
OBJECTIVES = Objectives(Seconds(2), Seconds(0.1))
BOTH = service(ON_H100, ON_L4, concurrency=None, objectives=OBJECTIVES)

# (concurrency, tokens/s, W, ITL): about 8B in BF16
LARGE = profile(
    ON_H100, (1, 140, 290, 0.007), (8, 1050, 330, 0.0076), (64, 5800, 520, 0.011), (256, 11_600, 690, 0.022),
    product=H100, prefill_rate=40_000.0, context_watts=Watts(121.6), idle_watts=Watts(71.8), load_seconds=Seconds(60),
)  # fmt: skip
SMALL = profile(
    ON_L4, (1, 16, 66, 0.0625), (8, 115, 68, 0.07), (32, 380, 71, 0.084),
    product=L4, prefill_rate=4_000.0, context_watts=Watts(30), idle_watts=Watts(17), load_seconds=Seconds(60),
)  # fmt: skip
PROFILES = (LARGE, SMALL)
PROMPT, OUTPUT = 400.0, 100.0


def came(rate: float) -> Arrivals:
    """Half an hour of Poisson arrivals."""
    seconds = 1800.0
    count = rate * seconds
    return Arrivals(seconds, count, count, count, count * PROMPT, count * OUTPUT)


def flow(rate: float) -> Flow:
    return Flow(rate, rate, rate, rate * PROMPT, rate * OUTPUT)


def seen(rate: float, ready: int = 1, *, peak: float | None = None) -> tuple[DemandPoint, ...]:
    """Seven minutes of that rate; the peak is of the first two."""
    return tuple(
        point(Instant(NOW - CYCLE * back), rate, ready, flow=flow(rate if peak is None or back < 20 else peak))
        for back in range(28, -1, -1)
    )


def scene(rate: float = 0.2, serving: str = "h100", count: int = 1, **more: Any) -> Scene:
    product = next((one.products[0] for one in (*more.get("service", BOTH).variants,) if one.name == serving), H100)
    plain = Scene(
        service=BOTH,
        variants={serving: Running(count, running=0.5, product=product)},
        memory=ServiceMemory(serving=serving, changed_at=Instant(NOW - 3600)),
        policy=GREEN,
        profiles=PROFILES,
        arrivals=came(rate),
        history=seen(rate, count),
    )
    return replace(plain, **more)


def begun(plan: ServicePlan) -> str | None:
    return plan.memory.switching_to


def test_at_little_load_the_small_gpu_serves() -> None:
    plan = planned(scene(0.2))
    assert begun(plan) == "l4"
    assert plan.replicas == {"h100": 1, "l4": 1}
    assert (plan.standing.lever, plan.standing.reason) == ("Hardware", Reason.LESS_POWER)
    assert plan.standing.message == (
        "h100 to l4: 0.2 requests/s take 354 W on NVIDIA-H100-80GB-HBM3 and 248 W on NVIDIA-L4, hosts, PUE and all,"
        " with 1 replicas for the peak of 0.2/s"
    )
    # GPUs that stand empty draw on: the smaller of the two savings is told, as the computers draw
    assert plan.standing.saves is not None
    assert plan.standing.saves.value == pytest.approx((354 - 248) / 1.2 - (71.8 - 17), abs=1)


def test_at_much_load_the_large_gpu_serves() -> None:
    assert begun(planned(scene(20.0, count=1))) is None
    back = planned(scene(20.0, "l4", 8))
    assert begun(back) == "h100"
    assert back.replicas == {"l4": 8, "h100": 1}


def small_hosts(watts: float = 10) -> ZoneReading:
    one = zone()
    return replace(one, zone=replace(one.zone, host_per_gpu=Figure.exact(Watts(watts))))


def test_as_many_replicas_come_as_the_recent_peak_asks_for() -> None:
    few, many = (planned(scene(history=seen(0.2, peak=peak), zone=small_hosts())) for peak in (0.2, 1.0))
    assert few.replicas["l4"] == 1
    assert many.replicas["l4"] == 2


def test_hosts_are_counted_as_they_are_booked() -> None:
    """A load that wants two small GPUs instead of a large one."""
    assert begun(planned(scene(1.0, zone=small_hosts()))) == "l4"
    assert begun(planned(scene(1.0))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": policy()},
        {"policy": policy(hardware=HardwareRules(0.5), guards=BLIND)},
        {"profiles": (LARGE,)},
        {"profiles": (SMALL,)},
        {"profiles": (LARGE, replace(SMALL, prefill_rate=None))},
        {"profiles": (LARGE, replace(SMALL, points=()))},
        {"profiles": (LARGE, replace(SMALL, load_energy=Joules(1e9)))},
        {"service": replace(BOTH, objectives=Objectives(itl_p95=Seconds(0.06)))},
        {"service": replace(BOTH, objectives=Objectives(ttft_p95=Seconds(0.4)))},
        {"service": replace(BOTH, variants=(ON_H100, replace(ON_L4, quality=0.999)))},
        {"service": replace(BOTH, variants=(ON_H100, replace(ON_L4, precision="FP8")))},
        {"service": replace(BOTH, target="chat")},
        {"nodes": (node(),)},
        {"arrivals": Arrivals()},
        {"arrivals": came(20.0)},
        {"history": seen(0.2, peak=15.0)},
    ],
    ids=[
        "where no policy asks for it",
        "for less than the hysteresis",
        "without a profile of the other",
        "without a profile of what serves",
        "without its prefill",
        "without its points",
        "where loading is not paid back in a day",
        "where its gaps are too long",
        "where its prompts take too long",
        "to a lesser quality",
        "to another precision",
        "of an adopted Deployment",
        "to nodes that are not there",
        "before anything is known of the load",
        "for a pause of a busy half hour",
        "for a pause after a peak",
    ],
)
def test_nothing_is_switched(changes: dict[str, Any]) -> None:
    assert begun(planned(scene(**changes))) is None


def full(free: int) -> Snapshot:
    """All GPUs of the L4 node but some are held by others."""
    one = scene(0.2).snapshot()
    others = replace(pod("other", "x", node="node-l4", gpus=8 - free), service=None, variant=None)
    return replace(one, cluster=replace(one.cluster, pods={**one.cluster.pods, others.ref: others}))


def test_a_switch_waits_until_gpus_are_free() -> None:
    plan = planned(full(0))
    assert begun(plan) is None
    assert plan.standing.reason is Reason.NO_FREE_GPUS
    assert "1 replicas of l4 need NVIDIA-L4, and there is room for 0" in plan.standing.message
    assert begun(planned(full(1))) == "l4"


def test_whole_gpus_of_ready_nodes_are_free_beside_those_that_others_wait_for() -> None:
    cluster = scene().cluster()
    waits = pod("waits", "l4", node="", scheduled=False, ready=False, gpus=3)
    parts = pod("parts", "x", node="node-mig", instances={"1g.10gb": 1})
    more = (replace(node("node-off", L4), ready=False), replace(node("node-turns", L4), in_turns=True))
    found = free_gpus(
        replace(
            cluster,
            pods={**cluster.pods, waits.ref: waits, parts.ref: parts},
            nodes={**cluster.nodes, **{one.name: one for one in (*more, node("node-mig", L4))}},
        )
    )
    assert found.nodes == {H100: (7,), L4: (8,)}
    # what waits may run on L4 alone; two GPUs of a replica must be on one node
    assert (found.room(L4, 1), found.room(L4, 2), found.room(H100, 2), found.room("A100", 1)) == (5, 2, 3, 0)


def test_instances_that_pods_ask_for_as_gpus_are_counted_and_have_their_share_of_the_host() -> None:
    product, cluster = f"{H100}-MIG-3g.40gb", scene().cluster()
    parts = replace(node("parts", product, gpus=8), instances=16)
    held = pod("held", "x", node="parts", gpus=1)
    found = free_gpus(replace(cluster, pods={held.ref: held}, nodes={parts.name: parts}))
    assert found.nodes == {product: (15,)}
    assert Place(product).host.value == pytest.approx(Place(H100).host.value * 3 / 7)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"memory": ServiceMemory(serving="h100", changed_at=Instant(NOW - 60))}, Reason.DWELL),
        ({"variants": {"h100": Running(2, ready=1, running=0.5)}}, Reason.PENDING_CAPACITY),
        ({"readings": readings({"h100": Running(1)}, at=Instant(NOW - 300))}, Reason.DATA_MISSING),
        ({"history": seen(0.2)[-8:]}, Reason.WINDOW_NOT_FULL),
        ({"policy": policy(hardware=MATCH, guards=replace(BLIND, most_a_day=0))}, Reason.ENOUGH_TODAY),
    ],
    ids=["within the dwell", "while replicas start", "while metrics are stale", "unwatched", "often enough today"],
)
def test_a_switch_that_would_pay_waits(changes: dict[str, Any], reason: Reason) -> None:
    today = replace(scene().memory, reductions=0, reduced_on="2027-01-15")
    plan = planned(replace(scene(memory=today), **changes))
    assert begun(plan) is None
    assert reason in {veto.reason for veto in plan.vetoes} | {plan.standing.reason}


def test_a_service_of_which_objectives_are_missed_or_not_measured_comes_to_carry_no_less() -> None:
    sighted = policy(hardware=MATCH)
    plan = planned(scene(policy=sighted))
    assert (begun(plan), plan.standing.reason) == (None, Reason.OBJECTIVE_VETO)
    assert begun(planned(scene(20.0, "l4", 8, policy=sighted))) == "h100"


def missing(one: Scene) -> Snapshot:
    """First tokens took 2.5 to 5 s in the last minute."""
    now = one.snapshot()
    before = replace(answering(now.readings, 0), at=Instant(NOW - 60))
    return replace(now, readings=answering(now.readings, 90), earlier=before)


def answering(shown: Readings, count: float) -> Readings:
    told = Histogram((2.5, 5.0, inf), (0, count, count))
    return replace(shown, engines={pod: replace(engine, ttft=told) for pod, engine in shown.engines.items()})


def test_a_service_that_misses_its_objectives_waits_for_nothing_to_come_to_carry_more() -> None:
    lately = ServiceMemory(serving="l4", changed_at=Instant(NOW - 30))
    late = scene(20.0, "l4", 8, policy=policy(hardware=MATCH), memory=lately)
    assert begun(planned(late)) is None
    assert begun(planned(missing(late))) == "h100"
    assert begun(planned(missing(scene(0.2, policy=policy(hardware=MATCH))))) is None


def test_the_reference_comes_back_by_what_is_booked() -> None:
    """As things stand the empty machines of two small GPUs would go on, and one more large one come to work."""
    back = planned(scene(2.5, "l4", 3))
    assert begun(back) == "h100"


def test_a_switch_is_ended_like_any_other_and_by_its_own_name() -> None:
    start = planned(scene())
    two = {"h100": Running(1, running=0.5), "l4": Running(1, product=L4)}
    waits = planned(scene(variants={**two, "l4": Running(1, ready=0, product=L4)}, memory=start.memory))
    assert (waits.replicas, waits.serving, waits.standing.lever) == ({"h100": 1, "l4": 1}, "h100", "Hardware")
    done = planned(scene(variants=two, memory=start.memory))
    assert (done.replicas, done.serving, begun(done)) == ({"h100": 0, "l4": 1}, "l4", None)
    assert (done.standing.lever, done.standing.reason) == ("Hardware", Reason.SWITCH_COMPLETE)


def test_a_switch_that_a_person_approved_is_ended() -> None:
    two = {"h100": Running(1, running=0.5), "l4": Running(1, product=L4)}
    memory = ServiceMemory(serving="h100", switching_to="l4", changed_at=Instant(NOW - 60))
    plan = planned(scene(variants=two, memory=memory, policy=RECOMMENDED))
    assert (plan.replicas, plan.serving) == ({"h100": 0, "l4": 1}, "l4")


def test_a_switch_that_a_person_rejects_after_all_is_ended() -> None:
    proposed = planned(scene(policy=RECOMMENDED))
    assert proposed.pending is not None
    name = proposed.pending.proposed.id
    start = planned(scene(policy=RECOMMENDED, memory=proposed.memory, service=replace(BOTH, approved=name)))
    assert (begun(start), start.memory.approval) == ("l4", name)
    two = {"h100": Running(1, running=0.5), "l4": Running(1, ready=0, product=L4)}
    ends = scene(variants=two, memory=start.memory, policy=RECOMMENDED)
    assert begun(planned(ends)) == "l4"
    plan = planned(replace(ends, service=replace(BOTH, rejected=name)))
    assert (plan.replicas, plan.serving, begun(plan)) == ({"h100": 1, "l4": 0}, "h100", None)
    assert plan.standing.reason is Reason.REJECTED


@pytest.mark.parametrize("rules", [None, policy(), replace(GREEN, mode=Mode.OBSERVE)])
def test_a_switch_is_called_off_when_the_policy_no_longer_asks_for_it(rules: Policy | None) -> None:
    two = {"h100": Running(1, running=0.5), "l4": Running(1, ready=0, product=L4)}
    memory = ServiceMemory(serving="h100", switching_to="l4", changed_at=Instant(NOW - 60))
    plan = planned(scene(variants=two, memory=memory, policy=rules))
    assert (plan.replicas, plan.serving, begun(plan)) == ({"h100": 1, "l4": 0}, "h100", None)


def test_without_the_rule_any_more_the_reference_comes_back() -> None:
    plan = planned(scene(0.2, "l4", policy=policy()))
    assert (begun(plan), plan.replicas["h100"]) == ("h100", 1)
    assert begun(planned(scene(0.2, "l4"))) is None


def test_a_proposal_says_what_is_risked() -> None:
    plan = planned(scene(policy=RECOMMENDED))
    assert plan.replicas == {"h100": 1}
    assert plan.pending is not None
    assert plan.pending.risk == (
        "answers come from l4, as good, at the pace of other GPUs: within objectives by its profile"
    )


DIRTY = zone(400)
TIERED = policy(hardware=MATCH, guards=BLIND, precision=PrecisionRules(TIERS, require_measured_advantage=False))
WITH_FP8 = replace(BOTH, variants=(ON_H100, ON_L4, FP8_ON_H100))


def test_a_tier_that_asks_for_a_lesser_variant_goes_first() -> None:
    tried = scene(service=WITH_FP8, policy=TIERED)
    assert begun(planned(replace(tried, zone=DIRTY))) == "fp8"
    assert begun(planned(tried)) == "l4"
    assert begun(planned(scene(0.2, "l4", service=WITH_FP8, policy=TIERED))) is None
    fp8 = scene(0.2, "fp8", service=WITH_FP8, policy=TIERED)
    assert begun(planned(replace(fp8, zone=DIRTY))) is None
    assert begun(planned(fp8)) == "h100"


def test_a_tier_of_which_the_service_has_no_variant_does_not_hold_hardware_up() -> None:
    assert begun(planned(scene(policy=TIERED, zone=DIRTY))) == "l4"


def test_what_a_tier_brings_is_compared_with_what_serves() -> None:
    """FP8 takes less than BF16 on the same GPU and more than BF16 on the small one at this load."""
    fp8 = replace(LARGE, name="fp8", model=FP8.model, precision="FP8")
    small = replace(SMALL, points=tuple(replace(one, watts=one.watts * 0.3) for one in SMALL.points))
    rules = replace(GREEN, precision=PrecisionRules(TIERS))
    plan = planned(scene(0.2, "l4", service=WITH_FP8, policy=rules, zone=DIRTY, profiles=(LARGE, small, fp8)))
    assert begun(plan) is None
    assert plan.standing.reason is Reason.NO_MEASURED_ADVANTAGE


EIGHT = replace(FP8_ON_H100, quality=1.0)
EIGHTS = policy(hardware=HardwareRules(precisions=frozenset({"FP8"})), guards=BLIND)
IN_BOTH = replace(BOTH, variants=(ON_H100, EIGHT))
# Faster by a third for the same watts, and with prompts by half.
FASTER = replace(
    LARGE,
    name="fp8",
    model=FP8.model,
    precision="FP8",
    prefill_rate=60_000.0,
    points=tuple(
        replace(
            one,
            tokens_per_second=one.tokens_per_second * 1.33,
            itl=None if one.itl is None else Seconds(one.itl * 0.75),
        )
        for one in LARGE.points
    ),
)


def eight(rate: float = 130.0, **more: Any) -> Scene:
    """A load that takes several replicas in either precision."""
    plain = scene(rate, count=3, service=IN_BOTH, policy=EIGHTS, profiles=(LARGE, FASTER))
    return replace(plain, **more)


def weighed(scene: Scene, **energies: VariantEnergy) -> ServicePlan:
    """With what was measured of these variants."""
    snapshot = scene.snapshot()
    return decide(snapshot, estimate(snapshot, Concluded(energies={CHAT: energies}))).services[CHAT]


def test_another_precision_that_is_as_good_serves_where_it_takes_less() -> None:
    plan = weighed(eight(), h100=measured(H100, 121.6, 1.316, 100.0))
    assert (begun(plan), plan.standing.lever, plan.standing.reason) == ("fp8", "Hardware", Reason.LESS_POWER)
    assert "on NVIDIA-H100-80GB-HBM3 as h100 and" in plan.standing.message
    assert "on NVIDIA-H100-80GB-HBM3 as fp8," in plan.standing.message
    assert begun(planned(eight(variants={"fp8": Running(3, running=0.5)}, memory=ServiceMemory(serving="fp8")))) is None


def test_another_precision_waits_until_it_is_known_what_the_one_takes_that_serves() -> None:
    plan = planned(eight())
    assert (begun(plan), plan.standing.lever, plan.standing.reason) == (None, "Hardware", Reason.NO_HISTORY)
    assert "h100 is not measured yet at this load, by which fp8 could be seen to be worse" in plan.standing.message


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": GREEN},
        {"service": replace(IN_BOTH, variants=(ON_H100, replace(EIGHT, quality=0.999)))},
        {"profiles": (LARGE, replace(LARGE, model=FP8.model, precision="FP8"))},
        {"policy": replace(EIGHTS, precision=PrecisionRules((replace(TIERS[0], allow=frozenset({"BF16"})),)))},
    ],
    ids=["where only hardware may change", "of lesser quality", "that takes as much", "that a tier leaves out"],
)
def test_a_precision_does_not_serve(changes: dict[str, Any]) -> None:
    assert begun(weighed(eight(**changes), h100=measured(H100, 121.6, 1.316, 100.0))) is None


@pytest.mark.parametrize(("eights", "target"), [(1.316, None), (1.324, "h100")])
def test_the_reference_comes_back_as_soon_as_the_other_is_seen_to_take_more(eights: float, target: str | None) -> None:
    """By less than the hysteresis, and than counters are sure of."""
    served = eight(
        variants={"fp8": Running(3, running=0.5)},
        memory=ServiceMemory(serving="fp8", changed_at=Instant(NOW - 3600)),
        profiles=(LARGE, replace(LARGE, model=FP8.model, precision="FP8")),
    )
    plan = weighed(served, h100=measured(H100, 121.6, 1.316, 100.0), fp8=measured(H100, 121.6, eights, 100.0))
    assert begun(plan) == target


@pytest.mark.parametrize(("tokens", "target"), [(PROMPT / 10, None), (PROMPT * 4, "fp8")])
def test_prompts_count_by_the_rate_at_which_they_are_computed(tokens: float, target: str | None) -> None:
    """FP8 computes them twice as fast here, and answers no faster."""
    quick = replace(LARGE, model=FP8.model, precision="FP8", prefill_rate=80_000.0)
    rate, seconds = 20.0, 1800.0
    count = rate * seconds
    long = Arrivals(seconds, count, count, count, count * tokens, count * OUTPUT)
    one = eight(rate, profiles=(LARGE, quick), arrivals=long)
    plan = weighed(one, h100=measured(H100, 121.6, 1.316, 30.0))
    assert begun(plan) == target


@pytest.mark.parametrize(("eights", "target"), [(60_000.0, "fp8"), (40_000.0, None), (30_000.0, None)])
def test_engines_that_compute_prompts_alone_are_compared_by_how_fast_they_do(eights: float, target: str | None) -> None:
    """They have no objective for gaps, and each of their answers is one token: no step says anything of them."""
    rate, seconds = 60.0, 1800.0
    count = rate * seconds
    prompts = Arrivals(seconds, count, count, count, count * 2000, count)
    fast = replace(LARGE, model=FP8.model, precision="FP8", prefill_rate=eights)
    alone = eight(
        rate,
        service=replace(IN_BOTH, objectives=Objectives(ttft_p95=Seconds(1))),
        profiles=(LARGE, fast),
        arrivals=prompts,
        variants={"h100": Running(4, running=3, product=H100)},
        history=seen(rate, 4),
    )
    assert begun(weighed(alone, h100=measured(H100, 121.6, 30.0, 3.0))) == target


STEPPING = replace(EIGHTS, scaling=replace(EIGHTS.scaling, limits_steps=True))
TIGHT = replace(IN_BOTH, objectives=Objectives(Seconds(1), Seconds(0.025)))


def test_engines_are_compared_as_they_would_be_started_whatever_runs_now() -> None:
    """Sixteen replicas carry more of these prompts in pieces, and eight do not."""
    rate, seconds = 60.0, 1800.0
    came = rate * seconds
    many = Arrivals(seconds, came, came, came, came * 1000, came * 100)

    def words(count: int, tokens: int | None) -> str:
        """What each takes."""
        one = eight(
            rate,
            service=replace(TIGHT, scaling=replace(TIGHT.scaling, max_replicas=32)),
            policy=STEPPING,
            arrivals=many,
            variants={"h100": Running(count, running=5)},
            history=seen(rate, count),
            step_tokens=tokens,
            nodes=(node(gpus=64),),
        )
        plan = weighed(one, h100=measured(H100, 121.6, 1.316, 20.0))
        assert begun(plan) == "fp8"
        return plan.standing.message

    assert len({words(count, tokens) for count in (8, 24) for tokens in (None, 400)}) == 1


def test_the_reference_comes_back_where_its_precision_takes_less() -> None:
    served: dict[str, Any] = {
        "variants": {"fp8": Running(3, running=0.5)},
        "memory": ServiceMemory(serving="fp8", changed_at=Instant(NOW - 3600)),
    }
    slower = replace(LARGE, name="bf16", model=FP8.model, precision="FP8")
    quick = replace(FASTER, name="quick", model=BF16.model, precision="BF16")
    plan = planned(eight(profiles=(quick, slower), **served))
    assert (begun(plan), plan.standing.lever) == ("h100", "Hardware")
    # or where the policy no longer lets the other serve
    assert begun(planned(eight(policy=GREEN, **served))) == "h100"


def test_a_proposal_says_that_precision_is_what_changes() -> None:
    plan = weighed(eight(policy=replace(EIGHTS, mode=Mode.RECOMMEND)), h100=measured(H100, 121.6, 1.316, 100.0))
    assert plan.pending is not None
    assert plan.pending.risk == "answers come from fp8, as good, at the pace of FP8: within objectives by its profile"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (GREEN, "or allow FP8 in hardware.precisions"),
        (
            replace(EIGHTS, precision=PrecisionRules((replace(TIERS[0], allow=frozenset({"BF16"})),))),
            "or allow FP8 in each tier of precision that allows BF16",
        ),
    ],
)
def test_what_keeps_a_precision_out_is_told(rules: Policy, words: str) -> None:
    found = planned(eight(policy=rules)).silences
    assert any("no other variant as good ever serves it" in one and words in one for one in found), found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"service": service(ON_H100)}, "only one variant has the precision and the quality of h100"),
        ({"service": replace(BOTH, target="chat")}, "Deployment chat is adopted"),
        ({"profiles": (LARGE,)}, "no ModelProfile of meta-llama/Llama-3.1-8B-Instruct in BF16 on 1 NVIDIA-L4 for l4"),
        ({"profiles": (SMALL,)}, "no ModelProfile of meta-llama/Llama-3.1-8B-Instruct in BF16 on 1 NVIDIA-H100"),
        ({"nodes": (node(),)}, "no node has whole GPUs that l4 may run on (NVIDIA-L4)"),
        ({"profiles": (LARGE, replace(SMALL, prefill_rate=None))}, "has no prefillTokensPerSecond"),
    ],
    ids=["one variant", "adopted", "no profile", "none of what serves", "no nodes", "no prefill"],
)
def test_why_no_other_gpu_ever_serves_is_told(changes: dict[str, Any], words: str) -> None:
    found = planned(scene(**changes)).silences
    assert any("no other variant as good ever serves it" in one and words in one for one in found), found
    assert not any("variant as good" in one for one in planned(scene()).silences)


def measured(product: str, idle: float, cost: float, concurrency: float) -> VariantEnergy:
    """Here, at 100 tokens/s: loaded idle, and J of a token with it."""
    figure = Figure(Joules(cost * 0.99), Joules(cost), Joules(cost * 1.01))
    vague = Missing(Reason.NOT_IDENTIFIABLE, "one load")
    seen_point = LoadPoint(
        concurrency, figure, vague, 100.0, cost * 100, 100.0, prompts=4.0, last_seen=Instant(NOW - 60)
    )
    idle_watts = Figure(Watts(idle * 0.98), Watts(idle), Watts(idle * 1.02))
    return VariantEnergy(product, vague, (seen_point,), idle=idle_watts)


@pytest.mark.parametrize(
    ("serving", "small", "target"), [("h100", 0.9, "l4"), ("h100", 2.5, None), ("l4", 0.9, None), ("l4", 2.5, "h100")]
)
def test_what_was_measured_of_both_goes_before_what_is_declared(serving: str, small: float, target: str | None) -> None:
    """By their profiles the small GPU takes less at this load. Loaded and idle it draws 30 or 200 W here."""
    idle = 30.0 if small < 1 else 200.0
    plan = weighed(scene(serving=serving), h100=measured(H100, 121.6, 3.0, 1.1), l4=measured(L4, idle, small, 1.9))
    assert begun(plan) == target
    if target is not None:
        assert "as measured here" in plan.standing.message


curves = st.tuples(st.floats(20, 300), st.floats(0.003, 0.08), st.floats(1.0, 6.0), st.floats(1.05, 3.0))
loads = st.floats(0.02, 30)
TWO = replace(BF16, name="two", gpus=2, products=(H100,))


def drawn(variant: Variant, product: str, curve: tuple[float, float, float, float]) -> Profile:
    """Idle watts, seconds of a step, how much longer it is at 64 requests, and how much more is drawn there."""
    idle, step, longer, more = curve
    return profile(
        variant,
        (1, 1 / step, idle * 1.3, step),
        (8, 8 / (step * longer**0.5), idle * (1.3 + more) / 2, step * longer**0.5),
        (64, 64 / (step * longer), idle * 1.3 * more, step * longer),
        product=product,
        prefill_rate=200 / step,
        context_watts=Watts(idle),
        idle_watts=Watts(idle * 0.6),
    )


@settings(deadline=None, max_examples=60)
@given(st.tuples(curves, curves, curves, curves), loads, st.sampled_from([200.0, 400.0]), st.booleans(), st.booleans())
def test_whatever_the_profiles_and_the_load_say_a_service_comes_to_rest(
    four: tuple[tuple[float, float, float, float], ...], rate: float, grams: float, measured: bool, eights: bool
) -> None:
    """Three variants as good as each other and one in FP8, as good or not, under tiers: at most two changes."""
    variants = (ON_H100, ON_L4, TWO, EIGHT if eights else FP8_ON_H100)
    products = (H100, L4, H100, H100)
    profiles = tuple(drawn(*one) for one in zip(variants, products, four, strict=True))
    rules = replace(EIGHTS, precision=PrecisionRules(TIERS, require_measured_advantage=measured))
    of = service(*variants, concurrency=None, objectives=OBJECTIVES, maximum=500)
    nodes = (node(gpus=4000), node("node-l4", L4, 4000))
    serving, count, served = "h100", 1, ["h100"]
    for _ in range(20):
        plan = planned(
            scene(rate, serving, count, service=of, policy=rules, profiles=profiles, nodes=nodes, zone=zone(grams))
        )
        before, serving = (serving, count), begun(plan) or serving
        count = plan.replicas[serving]
        if serving != served[-1]:
            served.append(serving)
        # the next plan would be the same one
        if (serving, count) == before:
            break
    event(f"{len(served)} served")
    assert len(served) <= 3, served
