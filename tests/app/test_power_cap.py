"""A power cap on the simulated fleet, under the operator's own cycle: demand grows by half and the cap holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.powercap.__main__ import BEFORE, HIGH, LOW, Stepped, capped, longest, ran
from bench.scoreboard.work import MONDAY
from fallow.app.simulation.steering import steered
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.result import Outcome

CAP, LOOSER = 4_000.0, 5_450.0


def tokens(one: Outcome, key: ServiceKey) -> float:
    return next(service.generated_tokens for service in one.services if service.service == key)


@pytest.mark.long
def test_a_step_in_demand_stays_under_the_cap_and_costs_high_priority_nothing() -> None:
    free, held = ran(1, None), ran(1, CAP)
    watts = held.series.watts.sum(axis=1)[BEFORE:]

    assert free.series.watts.sum(axis=1)[BEFORE:].max() > CAP * 1.15
    assert longest(watts > CAP) <= 40
    assert tokens(held, HIGH) > 0.99 * tokens(free, HIGH)


@pytest.mark.long
def test_a_lesser_variant_makes_more_tokens_under_the_same_cap_for_low_priority_alone() -> None:
    plain, lesser = ran(1, LOOSER), ran(1, LOOSER, lesser=True)

    assert longest(lesser.series.watts.sum(axis=1) > LOOSER) == 0
    assert tokens(lesser, LOW) > 1.05 * tokens(plain, LOW)
    assert tokens(lesser, HIGH) == pytest.approx(tokens(plain, HIGH), rel=1e-3)
    assert {key for key, to in switches(lesser) if to == "fp8"} == {LOW}
    assert not switches(plain)


class Falling(Stepped):
    """After a quarter of an hour demand is less than before the step."""

    def __init__(self, seed: int, after: int) -> None:
        super().__init__(seed, after)
        calm = slice(BEFORE + 900, None)
        self._arrivals[:, calm] = np.random.default_rng(seed).poisson(10.0, self._arrivals[:, calm].shape)


@pytest.mark.long
def test_the_best_variant_comes_back_when_demand_has_fallen_and_the_cap_holds_all_the_while() -> None:
    after = 4500
    one = replace(capped(1, LOOSER, after=after, lesser=True), demand=Falling(1, after))
    outcome = steered(one.setup, one.demand, one.grid, one.declared, told=Run("fallow", 1, MONDAY, sample=1))

    assert longest(outcome.series.watts.sum(axis=1) > LOOSER) == 0
    assert switches(outcome) == [(LOW, "fp8"), (LOW, "bf16")]
    last: dict[str, int] = {}
    for decided in outcome.decisions:
        if decided.service == LOW:
            last |= decided.after
    assert last["fp8"] == 0
    assert last["bf16"] > 0


def switches(one: Outcome) -> list[tuple[ServiceKey, str]]:
    """Which services began to switch, and to what."""
    began = [decided for decided in one.decisions if decided.lever == "Precision" and " to " in decided.message]
    return [
        (decided.service, decided.message.split(" to ")[1].split(":")[0])
        for decided in began
        if decided.reason in {"PowerCap", "TierEnded"}
    ]
