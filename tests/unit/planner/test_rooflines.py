"""How work is bound: by variant, over the window, and what it may keep from beginning. It never begins anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.learned import VariantEnergy
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Policy, PrecisionRules, Tier
from fallow.domain.profiles import Profile, ProfilePoint, ProfileSource
from fallow.domain.readings import Operations, Readings
from fallow.domain.reasons import Reason
from fallow.domain.rooflines import Regime, Roofline
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import GramsPerKWh, Instant, Watts
from fallow.domain.workloads import ServiceMemory, Variant
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from tests.support.builders import (
    BF16,
    CHAT,
    FP8,
    INT4,
    L4,
    NOW,
    Running,
    Scene,
    policy,
    profile,
    readings,
    service,
    zone,
)
from tests.unit.planner.asking import estimated
from tests.unit.planner.test_pricing import own, seen

EARLIER = Instant(NOW - 120)
COMPUTE, MEMORY = 900.0, 20.0
TIERS = (Tier(GramsPerKWh(350), frozenset({"FP8", "INT4"})),)
TRUSTING = policy(precision=PrecisionRules(TIERS, require_measured_advantage=False))
# J/token at 10 requests a replica: 0.5 as BF16, 0.4 as the lesser variant
BASE = profile(BF16, (1, 100, 200), (10, 800, 400), (100, 4000, 650))
LESS = {one.name: profile(one, (1, 100, 200), (10, 1000, 400), (100, 6000, 650)) for one in (FP8, INT4)}


def untold(declared: Policy) -> Mapping[str, Roofline | Missing]:
    snapshot = Scene(policy=declared).snapshot()
    return estimate(snapshot, Concluded(), told=False).services[CHAT].rooflines


def test_where_nobody_is_told_it_is_known_for_tiers_alone() -> None:
    assert untold(policy()) == {}
    assert untold(TRUSTING).keys() == {"bf16"}


def counting(variants: dict[str, Running], flops: float, moved: float, at: Instant = NOW) -> Readings:
    told = readings(variants, at=at)
    return replace(
        told,
        engines={ref: replace(one, operations=Operations(flops, moved)) for ref, one in told.engines.items()},
    )


def scene(intensity: float | None = COMPUTE, lesser: Variant = INT4, **more: Any) -> Scene:
    """Two replicas of BF16 that computed so many FLOP a byte; a tier asks for the lesser variant."""
    variants = {"bf16": Running(2, running=19)}
    plain = Scene(
        service=service(BF16, lesser),
        variants=variants,
        memory=ServiceMemory(serving="bf16", changed_at=Instant(NOW - 3600)),
        policy=policy(precision=PrecisionRules(TIERS)),
        zone=zone(400),
        profiles=(BASE, LESS[lesser.name]),
        readings=None if intensity is None else counting(variants, intensity * 1e12, 1e12),
        earlier=None if intensity is None else counting(variants, 0, 0, EARLIER),
    )
    return replace(plain, **more)


def planned(one: Scene, energies: dict[str, VariantEnergy] | None = None) -> ServicePlan:
    snapshot = one.snapshot()
    found = decide(snapshot, estimate(snapshot, Concluded(energies={CHAT: energies or {}}))).services[CHAT]
    assert found.standing.reason is not Reason.PLAN_FAILED, found.standing.message
    return found


def begun(one: Scene, energies: dict[str, VariantEnergy] | None = None) -> str | None:
    return planned(one, energies).memory.switching_to


def at(told: Scene | Snapshot) -> float:
    found = estimated(told).rooflines["bf16"]
    assert isinstance(found, Roofline)
    return found.intensity.best.value


def test_each_variant_that_serves_has_its_own() -> None:
    variants = {"bf16": Running(1, running=5), "int4": Running(1, running=5)}
    told = scene(variants=variants, readings=counting(variants, COMPUTE, 1), earlier=counting(variants, 0, 0, EARLIER))
    found = estimated(told).rooflines
    regimes = {name: one.regime for name, one in found.items() if isinstance(one, Roofline)}
    assert regimes == {"bf16": Regime.COMPUTE, "int4": Regime.COMPUTE}
    assert found["bf16"] != found["int4"]


def test_a_variant_without_replicas_has_none() -> None:
    assert set(estimated(scene()).rooflines) == {"bf16"}


def test_replicas_count_by_what_each_computed_and_one_that_was_not_read_then_not_at_all() -> None:
    told = scene()
    now, before = told.readings, told.earlier
    assert now is not None
    assert before is not None
    one, other = sorted(now.engines)
    work = {one: Operations(100e12, 1e12), other: Operations(100e12, 3e12)}
    now = replace(now, engines={ref: replace(now.engines[ref], operations=done) for ref, done in work.items()})
    assert at(replace(told, readings=now)) == pytest.approx(50)
    unread = replace(before, engines={one: before.engines[one]})
    assert at(replace(told, readings=now, earlier=unread)) == pytest.approx(100)


def test_the_first_readings_after_a_start_tell_what_engines_did_since_theirs() -> None:
    """Else a restart of the operator would let begin what was held back before."""
    assert at(replace(scene().snapshot(), earlier=None)) == pytest.approx(COMPUTE)


def test_without_the_counters_the_reason_is_told() -> None:
    found = estimated(scene(None)).rooflines["bf16"]
    assert isinstance(found, Missing)
    assert "--enable-mfu-metrics" in found.detail


def test_replicas_on_two_types_of_gpu_have_no_ridge_in_common() -> None:
    told = scene().snapshot()
    pods = {
        ref: replace(pod, node="node-l4" if ref.name.endswith("1") else pod.node)
        for ref, pod in told.cluster.pods.items()
    }
    found = estimated(replace(told, cluster=replace(told.cluster, pods=pods))).rooflines["bf16"]
    assert isinstance(found, Missing)
    assert L4 in found.detail


def test_weights_alone_do_not_shrink_for_a_declared_advantage_where_arithmetic_is_the_limit() -> None:
    plan = planned(scene())
    assert plan.memory.switching_to is None
    assert plan.standing.reason is Reason.COMPUTE_BOUND
    assert plan.standing.message == (
        "int4 stays out: its advantage is only declared, INT4 makes weights smaller, not arithmetic faster, and "
        "bf16 is compute-bound: 900 (720 to 1800) FLOP a byte, the ridge of its GPU is at 295 (148 to 354)"
    )


@pytest.mark.parametrize(
    ("told", "target"),
    [
        (scene(None), "int4"),
        (scene(MEMORY), "int4"),
        (scene(300), "int4"),
        (scene(lesser=FP8), "fp8"),
        (scene(policy=TRUSTING), "int4"),
    ],
    ids=[
        "no counters",
        "bound by memory",
        "not clear by what",
        "a precision that the GPU computes faster",
        "a policy that asks for no advantage",
    ],
)
def test_a_switch_begins_as_before(told: Scene, target: str) -> None:
    assert begun(told) == target


def test_one_that_serves_already_stays() -> None:
    variants = {"int4": Running(2, running=19)}
    told = scene(
        variants=variants,
        memory=ServiceMemory(serving="int4", changed_at=Instant(NOW - 3600)),
        readings=counting(variants, 3000e12, 1e12),
        earlier=counting(variants, 0, 0, EARLIER),
    )
    found = estimated(told).rooflines["int4"]
    assert isinstance(found, Roofline)
    assert found.regime is Regime.COMPUTE
    plan = planned(told)
    assert (plan.serving, plan.memory.switching_to) == ("int4", None)


@pytest.mark.parametrize(
    ("level", "target"), [(9.5, "int4"), (14.0, "int4"), (18.0, None)], ids=["there", "near", "at twice the requests"]
)
def test_what_was_measured_at_hand_has_the_last_word(level: float, target: str | None) -> None:
    """At twice the requests a price is carried over along the declared points: that is no measurement at hand."""
    energies = {"bf16": own(seen(0.5, level)), "int4": own(seen(0.3, level))}
    assert begun(scene(), energies) == target
    assert begun(scene(None), energies) == "int4"


def test_what_was_measured_in_another_cluster_was_measured_on_other_prompts() -> None:
    def carried(one: Profile, watts: float) -> Profile:
        point = ProfilePoint(9.5, 800, Watts(watts), source=ProfileSource.LEARNED)
        return replace(one, points=(), carried=(point,))

    profiles = (carried(BASE, 400), carried(LESS["int4"], 300))
    assert begun(scene(None, profiles=profiles)) == "int4"
    plan = planned(scene(profiles=profiles))
    assert plan.standing.reason is Reason.COMPUTE_BOUND
    assert "as measured in another cluster, but not at this load" in plan.standing.message


@given(
    intensity=st.floats(1, 5000),
    lesser=st.sampled_from([FP8, INT4]),
    serving=st.booleans(),
    grams=st.sampled_from([100.0, 400.0]),
    watts=st.floats(150, 700),
    is_measured=st.booleans(),
)
def test_knowing_how_work_is_bound_only_ever_holds_back(
    *, intensity: float, lesser: Variant, serving: bool, grams: float, watts: float, is_measured: bool
) -> None:
    name = lesser.name if serving else "bf16"
    variants = {name: Running(2, running=19)}
    blind = scene(
        None,
        lesser,
        variants=variants,
        memory=ServiceMemory(serving=name, changed_at=Instant(NOW - 3600)),
        zone=zone(grams),
        profiles=(BASE, profile(lesser, (1, 100, watts), (100, 4000, watts))),
    )
    told = replace(
        blind,
        readings=counting(variants, intensity * 1e12, 1e12),
        earlier=counting(variants, 0, 0, EARLIER),
        previous=counting(variants, 0, 0, Instant(NOW - 15)),
    )
    energies = {"bf16": own(seen(0.5)), lesser.name: own(seen(watts / 800))} if is_measured else None
    without, knowing = planned(blind, energies), planned(told, energies)
    assert knowing.memory.switching_to in {None, without.memory.switching_to}
    held = knowing.memory.switching_to != without.memory.switching_to
    assert not (held and is_measured)
    assert held == (knowing.standing.reason is Reason.COMPUTE_BOUND)
