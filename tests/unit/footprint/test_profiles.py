"""What was learned of several services is one profile's, and is held against what is declared of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.domain.learned import Learned, LoadBin, Placement
from fallow.domain.profiles import LearnedProfile, ProfileKey
from fallow.domain.units import Instant, Watts
from fallow.domain.workloads import Service, ServiceKey, Variant
from fallow.footprint.bins import ENOUGH, binned
from fallow.footprint.profiles import differences, learned_profiles
from fallow.footprint.steps import ALARM, learned_from
from tests.support.builders import BF16, CHAT, FP8, H100, L4, profile, service
from tests.support.learning import learned, placed, window

CODE = ServiceKey("llm", "code")
KEY = ProfileKey(BF16.model, "BF16", H100, 1)
TWO = {CHAT: service(), CODE: service(key=CODE)}


def minutes(
    batch: float, per_token: float, count: int = 30, *, steps: float = 3000, prompts: float = 1.0
) -> dict[int, LoadBin]:
    """A bin of so many minutes in which each token took so much, idle draw and all."""
    bins: dict[int, LoadBin] = {}
    tokens = batch * steps
    for number in range(count):
        one = window(
            per_token * tokens,
            prompt=prompts * tokens,
            generated=tokens,
            iterations=steps,
            requests=9,
            start=60.0 * number,
        )
        bins = dict(binned(bins, one))
    return bins


def taught(bins: dict[int, LoadBin], gpus: int = 1, **more: Any) -> Learned:
    return Learned(gpus, Instant(0), bins=bins, **more)


def together(known: dict[Placement, Learned], services: dict[ServiceKey, Service] | None = None) -> LearnedProfile:
    return learned_profiles(known, services or TWO)[KEY]


def test_services_that_run_the_same_are_taken_together() -> None:
    known = {placed(CHAT, "bf16"): taught(minutes(8, 0.4, 30)), placed(CODE, "bf16"): taught(minutes(8, 0.6, 60))}
    one = together(known)
    (point,) = one.points
    assert point.windows == pytest.approx(90)
    assert point.joules_per_token.best.value == pytest.approx((0.4 * 30 + 0.6 * 60) / 90)
    assert one.services == 2


@pytest.mark.parametrize(
    "other",
    [
        {CODE: service(FP8, key=CODE)},
        {CODE: service(replace(BF16, model="another/model"), key=CODE)},
        {CODE: service(replace(BF16, gpus=2), key=CODE)},
        {},
    ],
    ids=["another precision", "another model", "another count of GPUs", "a service that is gone"],
)
def test_what_is_something_else_is_left_out(other: dict[ServiceKey, Service]) -> None:
    known = {placed(CHAT, "bf16"): taught(minutes(8, 0.4)), placed(CODE, "bf16"): taught(minutes(8, 4.0))}
    assert together(known, {CHAT: service(), **other}).points[0].joules_per_token.best.value == pytest.approx(0.4)


def test_another_gpu_type_is_another_profile() -> None:
    known = {placed(CHAT, "bf16"): taught(minutes(8, 0.4)), placed(CHAT, "bf16", L4): taught(minutes(8, 4.0))}
    found = learned_profiles(known, TWO)
    assert {key.gpu_product: one.points[0].joules_per_token.best.value for key, one in found.items()} == {
        H100: pytest.approx(0.4),
        L4: pytest.approx(4.0),
    }


def test_a_bin_with_few_minutes_is_no_point() -> None:
    assert together({placed(CHAT, "bf16"): taught(minutes(8, 0.4, int(ENOUGH) - 1))}).points == ()


def test_the_loaded_idle_draw_is_the_mean_of_what_was_seen_else_the_constant() -> None:
    none = together({placed(CHAT, "bf16"): taught({})})
    assert (none.idle_seen, none.idle.best) == (False, Watts(121.6))
    seen = together(
        {
            placed(CHAT, "bf16"): taught({}, idle_watts=120.0, idle_windows=10.0),
            placed(CODE, "bf16"): taught({}, idle_watts=150.0, idle_windows=20.0),
        }
    )
    assert (seen.idle_seen, seen.idle.best) == (True, Watts(140.0))


# 8 requests at once on 400 W and 800 tokens/s: 0.5 J/token, of which 0.348 above the 121.6 W of a loaded H100
DECLARED = profile(BF16, (1, 100, 200), (8, 800, 400), (64, 4000, 650))


@pytest.mark.parametrize(("per_token", "differs"), [(0.5, False), (0.55, False), (0.65, True), (0.35, True)])
def test_a_bin_outside_its_interval_of_the_declared_point_is_named(per_token: float, differs: bool) -> None:
    # 800 tokens/s here too: 48,000 a minute
    one = together({placed(CHAT, "bf16"): taught(minutes(8, per_token, steps=6000))})
    found = differences(DECLARED, one)
    assert bool(found) is differs
    for difference in found:
        assert difference.declared.value == pytest.approx(0.348)
        assert difference.seen.best.value == pytest.approx(per_token - 121.6 / 800)


def test_idle_moments_contradict_nothing() -> None:
    """The same work in a fifth of the time: four fifths of each minute the replica only stands loaded."""
    work, tokens = 0.348, 48_000 / 5
    per_token = work + 121.6 * 60 / tokens
    assert per_token > 2 * 0.5
    one = together({placed(CHAT, "bf16"): taught(minutes(8, per_token, steps=6000 / 5))})
    assert differences(DECLARED, one) == ()


def test_outside_the_declared_points_nothing_is_contradicted() -> None:
    one = together({placed(CHAT, "bf16"): taught(minutes(100, 5.0))})
    assert differences(DECLARED, one) == ()


def test_after_a_drift_the_old_bins_price_nothing_any_more() -> None:
    """J5: the alarm of the drift test empties the bins of its placement."""
    steady = [
        window(24_000, prompt=48_000, generated=48_000, iterations=6000, requests=9, start=60.0 * n) for n in range(60)
    ]
    known = learned(steady)
    assert together({placed(CHAT, "bf16"): known}).points[0].joules_per_token.best.value == pytest.approx(0.5)
    for number in range(60, 60 + int(2 * ALARM)):
        known = learned_from(
            known,
            window(40_000, prompt=48_000, generated=48_000, iterations=6000, requests=9, start=60.0 * number),
        )
        if known.steps is not None and known.steps.refits:
            break
    assert known.steps is not None
    assert known.steps.refits == 1
    assert together({placed(CHAT, "bf16"): known}).points == ()


def test_a_variant_of_another_service_by_the_same_name_is_told_apart() -> None:
    other = Variant("bf16", "org/other", "BF16")
    known = {placed(CHAT, "bf16"): taught(minutes(8, 0.4)), placed(CODE, "bf16"): taught(minutes(8, 0.9))}
    found = learned_profiles(known, {CHAT: service(), CODE: service(other, key=CODE)})
    assert sorted(key.model for key in found) == sorted([BF16.model, "org/other"])
