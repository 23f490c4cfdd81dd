"""A variant whose profile promises too much, on the simulated fleet: by steps less is lost until it is given up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fallow.app.simulation.priors import profile_of
from fallow.app.simulation.steering import steered
from fallow.domain.policies import PrecisionRules, ShiftRules, Tier
from fallow.domain.units import GramsPerKWh, Seconds
from fallow.domain.workloads import Objectives
from fallow.domain.zones import IntensitySource, Zone
from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.predict import Query
from fallow.twin.calibration.store import shipped
from fallow.twin.simulation.grid import constant
from fallow.twin.simulation.ports import Declared, GridCarbon
from fallow.twin.simulation.predicting import predicted_table
from fallow.twin.simulation.result import Outcome
from fallow.twin.simulation.setup import NodeKind, ServiceSetup, Setup, Start, VariantSetup
from fallow.twin.simulation.table import EngineTable
from tests.support.builders import BF16, FP8, policy, service
from tests.support.fleets import CHAT, H100, TOLD, Written, poisson

PROMPT, OUTPUT = 500.0, 100.0
TTFT, ITL = 2.0, 0.03
COUNT, RATE, LENGTH = 6, 90.0, 1800
TIERS = PrecisionRules((Tier(GramsPerKWh(0), frozenset({"FP8"})),))
STEPS = ShiftRules((0.1, 0.5), Seconds(300))
START = Start(pull=20, load=40, compile_=10, sigma=0.0)


def table() -> EngineTable:
    query: Query = query_of(Described(name=BF16.model), Work(gpu="H100 80GB HBM3", gpus=1, precision="BF16"), shipped())
    return predicted_table(replace(query, context=PROMPT + OUTPUT / 2, output=OUTPUT))


def eights(of: EngineTable, *, watts: float = 1.0, steps: float = 1.0) -> EngineTable:
    """FP8 takes this share of the watts above idle of BF16, and so many times as long for a step."""
    drawn = of.context + watts * (of.watts - of.context)
    prompts = of.context + watts * (of.prefill_watts - of.context)
    return replace(of, watts=drawn, prefill_watts=prompts, step=np.asarray(of.step * steps))


def drive(truth: EngineTable, rules: ShiftRules | None) -> Outcome:
    """A grid that always asks for FP8, of which a profile says that it takes 70 % of the watts in as long."""
    plain = table()
    setup = Setup(
        nodes=(NodeKind(H100, "NVIDIA H100 80GB HBM3", 71.8, 8, 2, "home"),),
        services=(
            ServiceSetup(
                CHAT,
                (VariantSetup("bf16", 1, {H100: plain}, START), VariantSetup("fp8", 1, {H100: truth}, START)),
                TTFT,
                ITL,
                COUNT,
                COUNT,
                COUNT,
            ),
        ),
    )
    chat = service(
        BF16, FP8, key=CHAT, minimum=COUNT, maximum=COUNT, concurrency=None,
        objectives=Objectives(Seconds(TTFT), Seconds(ITL)),
    )  # fmt: skip
    profiles = [profile_of(BF16, H100, plain), profile_of(FP8, H100, eights(plain, watts=0.7))]
    rule = policy(idle_after=None, precision=TIERS, shift=rules)
    zone = Zone("home", IntensitySource(GridCarbon.KIND, {"zone": "home"}), is_default=True)
    declared = Declared([chat], [rule], [zone], profiles)
    demand = Written(poisson(RATE, LENGTH), prompt=PROMPT, output=OUTPUT)
    return steered(setup, demand, {"home": constant(400.0)}, declared, told=TOLD)


def steps(outcome: Outcome) -> list[dict[str, int]]:
    return [dict(one.after) for one in outcome.decisions]


def test_a_variant_that_keeps_its_promise_comes_by_steps_and_nothing_is_lost() -> None:
    truth = eights(table(), watts=0.7)
    at_once, by_steps = drive(truth, None), drive(truth, STEPS)
    assert steps(by_steps) == [{"fp8": 1}, {"bf16": 5}, {"fp8": 3}, {"bf16": 3}, {"fp8": 6}, {"bf16": 0}]
    assert by_steps.decisions[-1].reason == "SwitchComplete"
    (one,), (other,) = at_once.services, by_steps.services
    assert other.attainment == pytest.approx(1, abs=0.001)
    # the price of looking first: a quarter of an hour in which some of BF16 still serves
    assert one.facility.value < other.facility.value < 1.06 * one.facility.value


def test_by_steps_fewer_requests_are_late_with_a_variant_that_is_slower_than_promised() -> None:
    truth = eights(table(), watts=0.7, steps=2.5)
    at_once, by_steps = drive(truth, None), drive(truth, STEPS)
    (one,), (other,) = at_once.services, by_steps.services
    assert one.requests - one.good > 0.9 * one.requests
    assert other.requests - other.good < 0.01 * other.requests
    assert by_steps.decisions[1].reason == "MeasuredWorse"
    assert "above objectives.itl of 30 ms" in by_steps.decisions[1].message
    assert other.replica_hours["fp8"] < 0.1


def test_by_steps_less_is_drawn_with_a_variant_that_takes_more_than_promised() -> None:
    truth = eights(table(), watts=1.3)
    at_once, by_steps = drive(truth, None), drive(truth, STEPS)
    (one,), (other,) = at_once.services, by_steps.services
    assert other.facility.value < 0.9 * one.facility.value
    given_up = next(done for done in by_steps.decisions if done.reason == "MeasuredWorse")
    assert "as measured here" in given_up.message
    assert steps(by_steps)[-1] == {"fp8": 0}
    assert other.attainment == pytest.approx(1, abs=0.001)
