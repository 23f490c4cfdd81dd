"""A power cap on the simulated fleet, under the operator's own cycle: demand grows by half and the cap holds."""

from __future__ import annotations

import pytest

from bench.powercap.__main__ import BEFORE, HIGH, longest, ran
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.result import Outcome

CAP = 4_000.0


def tokens(one: Outcome, key: ServiceKey) -> float:
    return next(service.generated_tokens for service in one.services if service.service == key)


@pytest.mark.long
def test_a_step_in_demand_stays_under_the_cap_and_costs_high_priority_nothing() -> None:
    free, held = ran(1, None), ran(1, CAP)
    watts = held.series.watts.sum(axis=1)[BEFORE:]

    assert free.series.watts.sum(axis=1)[BEFORE:].max() > CAP * 1.15
    assert longest(watts > CAP) <= 40
    assert tokens(held, HIGH) > 0.99 * tokens(free, HIGH)
