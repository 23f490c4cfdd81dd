"""Two services on one node of eight GPUs, under the operator's own cycle: too few for both once demand has grown."""

from __future__ import annotations

from functools import cache

import numpy as np

from fallow.app.simulation.steering import steered
from fallow.domain.policies import GuardRules
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives, ServiceKey
from fallow.domain.zones import IntensitySource, Zone
from fallow.twin.simulation.ports import Declared, GridCarbon
from fallow.twin.simulation.result import Outcome
from tests.support.builders import BF16, policy, service
from tests.support.fleets import CHAT, GRID, TOLD, Written, setup

ZONE = Zone("home", IntensitySource(GridCarbon.KIND, {"zone": "home"}), is_default=True)
HIGH, LOW = CHAT, ServiceKey("llm", "s1")
SPELL = 1800
BEGIN = 2


@cache
def drive(first: int) -> Outcome:
    """LOW wants six replicas all the time, HIGH two and for half an hour six; one carries 16 requests."""
    rate = np.full((2, 3 * SPELL), 70.0)
    rate[0] = 20.0
    rate[0, SPELL : 2 * SPELL] = 70.0
    arrivals = np.random.default_rng(1).poisson(rate).astype(np.float64)
    objectives = Objectives(Seconds(2), Seconds(0.05))
    services = [
        service(BF16, key=key, maximum=7, concurrency=16, objectives=objectives, priority=priority)
        for key, priority in ((HIGH, first), (LOW, 0))
    ]
    rules = policy(idle_after=None, guards=GuardRules(gpus_short_after=Seconds(120)))
    declared = Declared(services, [rules], [ZONE])
    return steered(setup(services=2, nodes=1, replicas=BEGIN), Written(arrivals), GRID, declared, told=TOLD)


def asked(outcome: Outcome, key: ServiceKey, at: float) -> int:
    told = [sum(one.after.values()) for one in outcome.decisions if one.service == key and one.at <= at]
    return told[-1] if told else BEGIN


def in_time(outcome: Outcome, key: ServiceKey) -> float:
    return next(one.attainment or 0.0 for one in outcome.services if one.service == key)


def test_gpus_go_to_higher_priority_while_it_needs_them_and_come_back() -> None:
    outcome = drive(100)
    before, meanwhile, after = (
        (asked(outcome, HIGH, at), asked(outcome, LOW, at)) for at in (SPELL - 1, 1.5 * SPELL, 3 * SPELL)
    )

    assert before == (2, 6)
    # one of the three waits
    assert meanwhile == (6, 3)
    assert after == (2, 6)
    short = [one for one in outcome.decisions if one.reason == "GpusShort"]
    assert {one.service for one in short} == {LOW}
    assert in_time(outcome, HIGH) > in_time(drive(0), HIGH) + 0.5


def test_an_equal_keeps_what_it_has_and_nothing_waits_in_vain() -> None:
    outcome = drive(0)

    assert [asked(outcome, LOW, at) for at in (SPELL - 1, 1.5 * SPELL, 2 * SPELL)] == [6, 6, 6]
    # one replica waits, for an autoscaler of nodes to see
    assert asked(outcome, HIGH, 1.5 * SPELL) == 3
