"""Silence explained: a lever that can never act says what to write, and one that can says nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.domain.figures import Missing
from fallow.domain.policies import IdleRules, ScalingRules
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives, Wake
from tests.support.builders import BF16, FP8, PRECISION, Running, Scene, policy, profile, service, zone
from tests.unit.planner.asking import planned

OBJECTIVES = Objectives(Seconds(1), Seconds(0.05))
READY = service(BF16, FP8, minimum=0, wake=Wake("held"), objectives=OBJECTIVES)
GREEN = policy(idle=IdleRules(), precision=PRECISION)
PROFILE = replace(profile(BF16), prefill_rate=20_000.0)


def silences(**changes: Any) -> tuple[str, ...]:
    scene = Scene(service=READY, policy=GREEN, variants={"bf16": Running(2, running=8)}, profiles=(PROFILE,))
    return planned(replace(scene, **changes)).silences


def test_where_every_lever_can_act_there_is_nothing_to_say() -> None:
    assert silences() == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": None}, "no EnergyPolicy applies to it"),
        ({"policy": replace(GREEN, idle=IdleRules(release=False))}, "idle.ladder of the policy has no Release"),
        ({"policy": replace(GREEN, idle=None)}, "idle.ladder of the policy has no Release"),
        (
            {"service": replace(READY, scaling=replace(READY.scaling, min_replicas=2))},
            "it never rests: scaling.minReplicas is 2; 0 lets it",
        ),
        ({"service": replace(READY, scaling=replace(READY.scaling, wake=None))}, "declare scaling.wake"),
        ({"policy": replace(GREEN, scaling=ScalingRules(enabled=False))}, "scaling.enabled of the policy is false"),
        (
            {"service": replace(READY, scaling=replace(READY.scaling, min_replicas=8))},
            "scaling.minReplicas and maxReplicas are both 8",
        ),
        ({"profiles": ()}, "no ModelProfile of"),
        ({"profiles": (replace(PROFILE, prefill_rate=None),)}, "has no prefillTokensPerSecond"),
        ({"service": replace(READY, variants=(BF16,))}, "spec.variants has one variant"),
        (
            {"zone": replace(zone(), intensity=Missing(Reason.NO_INTENSITY, "no token"))},
            "the grid's intensity is not known (NoIntensity: no token)",
        ),
        ({"service": replace(READY, objectives=Objectives())}, "spec.objectives has neither ttft nor itl"),
    ],
    ids=[
        "no policy",
        "no rung that releases",
        "no ladder",
        "a floor",
        "no wake metric",
        "scaling is off",
        "one number of replicas",
        "no profile",
        "no prefill",
        "one variant",
        "no intensity",
        "no objectives",
    ],
)
def test_a_lever_that_can_never_act_says_what_to_write(changes: dict[str, Any], words: str) -> None:
    assert any(words in silence for silence in silences(**changes))
