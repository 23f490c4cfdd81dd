"""A budget on the simulated fleet: the operator's own cycle stays near it, and what that costs is seen."""

from __future__ import annotations

import pytest

from fallow.app.simulation.steering import steered
from fallow.domain.goals import Budget, BudgetPeriod, Remedy
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Objectives
from fallow.domain.zones import IntensitySource, Zone
from fallow.twin.simulation.ports import Declared, GridCarbon
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.result import Outcome
from tests.support.budgets import budget, step
from tests.support.builders import policy, service
from tests.support.fleets import CHAT, GRID, TOLD, Written, poisson, setup

ZONE = Zone("home", IntensitySource(GridCarbon.KIND, {"zone": "home"}), is_default=True)
HOUR = 3600
# the last hour of a day, in UTC
EVENING = Run("test", 0, Instant(TOLD.began + 57_600 - HOUR))
CAPS = step(0.05, Remedy.CAP_REPLICAS)


def drive(*budgets: Budget) -> Outcome:
    """30 requests a second want four replicas all evening: 3.1 kWh and 1.2 kg."""
    chat = service(key=CHAT, maximum=8, concurrency=10.0, objectives=Objectives(Seconds(2), Seconds(0.08)))
    green = policy(idle_after=120, budgets=budgets)
    declared = Declared([chat], [green], [ZONE])
    return steered(setup(replicas=2), Written(poisson(30, HOUR)), GRID, declared, told=EVENING)


@pytest.fixture(scope="module")
def unlimited() -> Outcome:
    return drive()


def test_without_a_budget_more_is_used(unlimited: Outcome) -> None:
    (chat,) = unlimited.services
    assert chat.facility.kilowatt_hours == pytest.approx(3.1, abs=0.05)
    assert chat.carbon.value == pytest.approx(1240, abs=25)
    assert chat.attainment == pytest.approx(1, abs=1e-3)


def test_a_service_stays_near_its_budget_of_energy_and_some_requests_are_late() -> None:
    outcome = drive(budget(CAPS, period=BudgetPeriod.DAY, energy=2))
    (chat,) = outcome.services
    assert chat.facility.kilowatt_hours == pytest.approx(2, rel=0.03)
    assert chat.attainment is not None
    assert 0.95 < chat.attainment < 0.999
    assert {decided.reason for decided in outcome.decisions[1:]} == {str(Reason.BUDGET_BURN)}
    assert [sum(decided.after.values()) for decided in outcome.decisions] == [4, 3, 2, 1]


def test_a_service_stays_near_its_budget_of_carbon() -> None:
    (chat,) = drive(budget(CAPS, period=BudgetPeriod.DAY, carbon=900)).services
    assert chat.carbon.value == pytest.approx(900, rel=0.03)


def test_a_budget_that_is_not_reached_changes_nothing(unlimited: Outcome) -> None:
    assert drive(budget(CAPS, period=BudgetPeriod.DAY, energy=200)).decisions == unlimited.decisions
