"""A simulation in parts: every service once, and the same as in one piece but for the nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fallow.app.simulation.assembling import Assembled
from fallow.app.simulation.parting import parted
from fallow.app.simulation.running import FALLOW, How, all_run, levers_of
from fallow.app.simulation.scenario import ScenarioError
from fallow.domain.goals import Remedy
from fallow.domain.policies import GuardRules, Policy, PowerRules
from fallow.domain.units import Instant, Watts
from fallow.domain.zones import IntensitySource, Zone
from fallow.twin.simulation.ports import Declared, GridCarbon
from fallow.twin.simulation.sizing import survey
from tests.support.budgets import budget, budgeted, step
from tests.support.builders import policy
from tests.support.builders import service as built
from tests.support.fleets import GRID, Written, poisson, setup

COUNT = 3


def assembled(*, nodes: int = 20) -> Assembled:
    demand = Written(poisson(12, 600, seed=1, services=COUNT))
    services = [built(key=key, maximum=8, concurrency=10.0) for key in demand.services]
    zone = Zone("home", IntensitySource(GridCarbon.KIND, {"zone": "home"}), is_default=True)
    return Assembled(
        setup=setup(services=COUNT, nodes=nodes),
        demand=demand,
        seen=survey(demand),
        grid=GRID,
        declared=Declared(services, [policy()], [zone]),
        began=Instant(1_800_000_000.0),
    )


def quiet(_name: str, _share: float) -> None:
    """Nobody watches."""


def test_every_service_is_in_one_part_with_its_own_demand() -> None:
    one = assembled()
    parts = parted(one, 2)
    rows = {
        key: part.demand.block(0, 600).arrivals[index]
        for part in parts
        for index, key in enumerate(part.demand.services)
    }

    assert sorted(rows) == sorted(one.demand.services)
    np.testing.assert_array_equal(
        np.array([rows[key] for key in one.demand.services]), one.demand.block(0, 600).arrivals
    )


def test_services_that_share_a_budget_are_not_parted() -> None:
    one = assembled()
    rules = budgeted(budget(step(0.8, Remedy.CAP_REPLICAS), energy=10))
    shared = Declared(list(one.declared.services.values()), [rules], one.declared.zones)
    with pytest.raises(ScenarioError, match="budgets are of all services of a policy together"):
        parted(replace(one, declared=shared), 2)
    assert levers_of(shared) == ("replicas", "rest", "budgets")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (policy(power=PowerRules(Watts(5_000.0))), "a power cap is of all services of a policy together"),
        (policy(guards=GuardRules(most_at_once=1)), "guards.maxConcurrentChanges is of all services of a policy"),
    ],
)
def test_services_that_share_something_else_are_not_parted(rules: Policy, words: str) -> None:
    one = assembled()
    shared = Declared(list(one.declared.services.values()), [rules], one.declared.zones)
    with pytest.raises(ScenarioError, match=words):
        parted(replace(one, declared=shared), 2)


@pytest.mark.parametrize("name", [FALLOW, "hpa"])
def test_parts_decide_as_the_whole_does(name: str) -> None:
    one = assembled()
    whole, pieces = (all_run(one, [name], quiet, How(1, parts=parts))[0] for parts in (1, 2))

    assert [one.service for one in pieces.services] == [one.service for one in whole.services]
    assert pieces.energy.value == pytest.approx(whole.energy.value, rel=0.02)
    assert len(pieces.decisions) == pytest.approx(len(whole.decisions), abs=6)
    assert pieces.series.watts.shape == whole.series.watts.shape


def test_too_few_nodes_are_refused_since_services_would_compete_for_them() -> None:
    with pytest.raises(ScenarioError, match="need 3 nodes of NVIDIA-H100-80GB-HBM3, and there are 2"):
        parted(replace(assembled(nodes=2)), 2)
