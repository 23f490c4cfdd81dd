"""What a token costs in either variant: by one yardstick, with its interval, and without switching to and fro."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import LoadBin, LoadPoint, VariantEnergy
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import PrecisionRules
from fallow.domain.profiles import LearnedProfile, Profile, ProfileKey, ProfilePoint, ProfileSource
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Joules, Watts
from fallow.domain.workloads import ServiceMemory, Variant
from fallow.footprint.bins import binned, load_points
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, Taught, estimate
from fallow.planner.pricing import BELIEVED
from tests.support.builders import BF16, FP8, H100, L4, NOW, TIERS, Running, Scene, policy, profile, service, zone
from tests.support.learning import window

VAGUE = Missing(Reason.NOT_IDENTIFIABLE, "the load has varied too little")
IDLE = Figure(Watts(119.2), Watts(121.6), Watts(124.0))
RULES = policy(precision=PrecisionRules(TIERS))
RATE = 800.0
# at 10 requests a replica and 800 tokens/s: 0.5 J/token as BF16, 0.4 as FP8; 0.348 and 0.248 above loaded idle
BASE = profile(BF16, (1, 100, 200), (10, 800, 400), (100, 4000, 650))
BETTER = profile(FP8, (1, 100, 190), (10, 800, 320), (100, 4000, 550))
WORSE = profile(FP8, (1, 100, 210), (10, 800, 440), (100, 4000, 690))


def seen(cost: float, concurrency: float = 9.5, *, reach: float = 0.01, **more: Any) -> LoadPoint:
    """A bin in which a token took so much, loaded idle and all."""
    plain: dict[str, Any] = {
        "joules_per_request": VAGUE,
        "tokens_per_second": RATE,
        "watts": cost * RATE,
        "windows": 100.0,
        "prompts": 2.0,
        "last_seen": Instant(NOW - 60),
    }
    figure = Figure(Joules(cost * (1 - reach)), Joules(cost), Joules(cost * (1 + reach)))
    return LoadPoint(concurrency, figure, **{**plain, **more})


def own(*points: LoadPoint, product: str = H100, relearning: bool = False) -> VariantEnergy:
    return VariantEnergy(product, VAGUE, points, idle=IDLE, relearning=relearning)


def everyone(variant: Variant, *points: LoadPoint) -> dict[ProfileKey, LearnedProfile]:
    key = ProfileKey(variant.model, variant.precision, H100, variant.gpus)
    return {key: LearnedProfile(points, IDLE, idle_seen=True, services=3)}


def plan(
    serving: str = "bf16",
    *,
    energies: dict[str, VariantEnergy] | None = None,
    merged: dict[ProfileKey, LearnedProfile] | None = None,
    profiles: tuple[Profile, ...] = (),
    load: float = 9.5,
    tokens: float = 0.0,
) -> ServicePlan:
    scene = Scene(
        service=service(BF16, FP8),
        variants={serving: Running(2, running=load * 2, tokens=tokens)},
        memory=ServiceMemory(serving=serving, changed_at=Instant(NOW - 3600)),
        policy=RULES,
        zone=zone(400),
        profiles=profiles,
    )
    snapshot = scene.snapshot()
    key = scene.service.key
    known = Concluded(energies={key: energies or {}}, taught=Taught(profiles=merged or {}))
    found = decide(snapshot, estimate(snapshot, known)).services[key]
    assert found.standing.reason is not Reason.PLAN_FAILED, found.standing.message
    return found


def begun(found: ServicePlan) -> str | None:
    return found.memory.switching_to


def both(bf16: float, fp8: float, **more: Any) -> dict[str, VariantEnergy]:
    return {"bf16": own(seen(bf16, **more)), "fp8": own(seen(fp8, **more))}


def test_what_was_measured_of_both_is_believed_more_than_what_is_declared() -> None:
    assert begun(plan(energies=both(0.5, 0.4), profiles=(BASE, WORSE))) == "fp8"
    assert begun(plan(energies=both(0.4, 0.5), profiles=(BASE, BETTER))) is None


def test_it_is_told_where_the_prices_come_from_and_how_sure_they_are() -> None:
    told = plan(energies=both(0.5, 0.4), profiles=(BASE, WORSE)).standing.message
    assert "0.500 J/token as bf16 at 10 requests a replica, 0.400 as fp8 at 10, as measured here to 0.01" in told


def test_a_variant_that_turns_out_to_have_no_advantage_gives_way() -> None:
    assert begun(plan("fp8", energies=both(0.4, 0.5), profiles=(BASE, BETTER))) == "bf16"


@pytest.mark.parametrize("measured", ["bf16", "fp8"])
def test_one_that_is_measured_is_never_compared_with_one_that_is_declared(measured: str) -> None:
    """Long prompts make the measured one look dear, whichever it is: the declared pair decides."""
    energies = {measured: own(seen(0.9))}
    assert begun(plan(energies=energies, profiles=(BASE, BETTER))) == "fp8"
    assert begun(plan(energies=energies, profiles=(BASE, WORSE))) is None
    assert begun(plan("fp8", energies=energies, profiles=(BASE, BETTER))) is None


@pytest.mark.parametrize(
    "energies",
    [
        {"bf16": own(seen(0.4, windows=19.0)), "fp8": own(seen(0.5))},
        {"bf16": own(seen(0.4)), "fp8": own(seen(0.5, last_seen=Instant(NOW - BELIEVED - 1)))},
        {"bf16": own(seen(0.4), product=L4), "fp8": own(seen(0.5))},
        {"bf16": own(seen(0.4, 40.0)), "fp8": own(seen(0.5))},
        {"bf16": own(seen(0.4, prompts=0.1)), "fp8": own(seen(0.5, prompts=4.0))},
        {"bf16": own(seen(0.1)), "fp8": own(seen(0.5))},
    ],
    ids=["few minutes", "long ago", "another GPU", "another load", "other prompts", "all of it idle draw"],
)
def test_what_is_not_known_of_both_alike_leaves_the_declared_points_to_decide(
    energies: dict[str, VariantEnergy],
) -> None:
    assert begun(plan(energies=energies, profiles=(BASE, BETTER))) == "fp8"


def test_without_declared_points_what_is_known_of_one_alone_moves_nothing() -> None:
    found = plan(energies={"bf16": own(seen(0.9))})
    assert begun(found) is None
    assert found.standing.reason is Reason.NO_MEASURED_ADVANTAGE
    assert "no ModelProfile tells the J/token of both bf16 and fp8" in found.standing.message


@pytest.mark.parametrize(("reach", "target"), [(0.05, "fp8"), (0.2, None)])
def test_an_advantage_must_be_clear_of_the_interval(reach: float, target: str | None) -> None:
    assert begun(plan(energies=both(0.5, 0.42, reach=reach))) == target


def test_an_advantage_within_its_interval_keeps_the_variant_that_serves() -> None:
    assert begun(plan("fp8", energies=both(0.5, 0.49, reach=0.2))) is None


def test_a_quiet_night_makes_no_variant_look_dear() -> None:
    """FP8 was measured on busy days, BF16 serves at night: most of its joules are those of standing loaded."""
    night = seen(0.348 + 121.6 / 80, tokens_per_second=80.0)
    fp8 = seen(0.398 + 121.6 / RATE)
    assert night.joules_per_token.best > fp8.joules_per_token.best
    assert begun(plan(energies={"bf16": own(night), "fp8": own(fp8)})) is None
    assert begun(plan("fp8", energies={"bf16": own(night), "fp8": own(fp8)})) == "bf16"


def test_what_other_services_taught_helps_one_that_has_not_tried_yet() -> None:
    merged = everyone(BF16, seen(0.4)) | everyone(FP8, seen(0.5))
    assert begun(plan(merged=merged, profiles=(BASE, BETTER))) is None
    assert begun(plan(merged=everyone(BF16, seen(0.5)) | everyone(FP8, seen(0.4)))) == "fp8"


def test_a_service_s_own_minutes_come_before_those_of_others() -> None:
    merged = everyone(BF16, seen(0.4)) | everyone(FP8, seen(0.5))
    assert begun(plan(energies=both(0.5, 0.4), merged=merged)) == "fp8"


def carried(variant: Variant, cost: float) -> Profile:
    point = ProfilePoint(10, RATE, Watts(cost * RATE), source=ProfileSource.LEARNED)
    return replace(profile(variant), carried=(point,), context_watts=Watts(121.6))


def test_what_another_cluster_taught_is_a_start() -> None:
    assert begun(plan(profiles=(carried(BF16, 0.5), carried(FP8, 0.3)))) == "fp8"
    assert begun(plan(profiles=(carried(BF16, 0.5), carried(FP8, 0.49)))) is None
    assert begun(plan(profiles=(carried(BF16, 0.5), carried(FP8, 0.3)), energies=both(0.4, 0.5))) is None


def test_beyond_what_was_measured_the_declared_points_give_the_way() -> None:
    """Measured at 6 of BF16 and at 10 of FP8, asked at 10: BF16 is cheaper there than it was at 6."""
    energies = {"bf16": own(seen(0.62, 6.0)), "fp8": own(seen(0.5, 10.0))}
    told = plan(energies=energies, profiles=(BASE, BETTER), load=10.0).standing.message
    price = float(told.split(" J/token as bf16")[0].split()[-1])
    assert 0.4 < price < 0.58


def test_while_the_serving_variant_is_measured_anew_after_a_drift_nothing_moves() -> None:
    energies = {"bf16": own(relearning=True), "fp8": own(seen(0.5))}
    found = plan(energies=energies, profiles=(BASE, BETTER))
    assert begun(found) is None
    assert "bf16 is measured anew since its energy drifted away" in found.standing.message
    other = {"fp8": own(relearning=True), "bf16": own(seen(0.5))}
    assert begun(plan("fp8", energies=other, profiles=(BASE, WORSE))) is None


def test_a_variant_that_drifted_and_serves_no_more_is_tried_again_as_declared() -> None:
    energies = {"bf16": own(seen(0.5)), "fp8": own(relearning=True)}
    assert begun(plan(energies=energies, profiles=(BASE, BETTER))) == "fp8"


def test_the_saving_is_the_difference_of_what_work_takes() -> None:
    """Whatever the replicas draw while they stand loaded, they draw in either variant."""
    scene_plan = plan(energies=both(0.5, 0.4))
    assert scene_plan.standing.reason is Reason.CARBON_TIER


costs = st.floats(0.2, 0.6)


@settings(deadline=None, max_examples=25)
@given(costs, costs, costs, st.sampled_from([0.0, 0.03, 0.10]), st.integers(0, 9))
def test_whatever_is_declared_and_whatever_is_true_a_service_settles(
    reference: float, declared: float, true: float, noise: float, seed: int
) -> None:
    """Work above loaded idle in J/token: FP8 as declared and as it is. After half an hour of BF16 two switches at most,
    and then the better one, unless what lies between them is less than can be known.
    """
    chance, standing = random.Random(seed), 121.6 / RATE
    profiles = tuple(
        profile(variant, (9.5, RATE, (work + standing) * RATE))
        for variant, work in ((BF16, reference), (FP8, declared))
    )
    bins: dict[str, dict[int, LoadBin]] = {"bf16": {}, "fp8": {}}
    serving, switches = "bf16", 0
    for minute in range(100):
        work = (reference if serving == "bf16" else true) * chance.lognormvariate(0.0, noise)
        tokens = RATE * 60
        one = window(
            (work + standing) * tokens,
            prompt=tokens,
            generated=tokens,
            iterations=tokens / 9.5,
            requests=9,
            start=NOW - 6000 + 60.0 * minute,
        )
        bins[serving] = dict(binned(bins[serving], one))
        energies = {name: own(*load_points(known)) for name, known in bins.items()}
        target = begun(plan(serving, energies=energies, profiles=profiles)) if minute >= 30 else None
        if target is not None:
            serving, switches = target, switches + 1
    assert switches <= 2
    if switches and abs(true / reference - 1.0) > 0.15:
        assert serving == ("fp8" if true < reference else "bf16")
