"""The bounds beside the fast clock, under a controller that knows what comes and holds no more than the oracle does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fallow.twin.bounds.oracles import bounds_of
from fallow.twin.bounds.problem import choices, cost_of, offered
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.setup import Setup, Start
from fallow.twin.simulation.sight import IntArray
from tests.support.fleets import Written, setup, simulation

MINUTES, START = 20, 45
SECONDS = np.arange(60 * MINUTES)


def fleet(start_replicas: int) -> Setup:
    of = setup(minimum=0, maximum=12, start=Start(pull=1, load=START - 1, compile_=0, sigma=0.0))
    return replace(of, services=(replace(of.services[0], itl=0.025, start_replicas=start_replicas),))


def spent(demand: Written, replicas: IntArray, *, slack: int) -> float:
    """Joules with so many replicas in each minute; started `slack` seconds later, and stopped earlier, than whole."""
    run = simulation(demand, fleet(int(replicas[0])))
    changes = {
        minute * 60 - slack if replicas[minute] < replicas[minute - 1] else minute * 60 - START + slack: replicas[
            minute
        ]
        for minute in range(1, MINUTES)
        if replicas[minute] != replicas[minute - 1]
    }
    for at in sorted(changes):
        run.advance(at)
        run.ask(0, 0, int(changes[at]))
    run.advance(60 * MINUTES)
    return float(run.recorder.joules(60 * MINUTES)[0])


@pytest.mark.parametrize(
    "rate",
    [
        18.0 * (1 + np.sin(SECONDS / 100)),
        np.where(SECONDS // 300 % 2, 36.0, 6.0),
        np.where(SECONDS // 180 % 2, 4.0, 0.0),
        np.full(len(SECONDS), 0.05),
    ],
    ids=["swinging", "in steps", "on and off", "seldom"],
)
@pytest.mark.parametrize(("prompt", "output"), [(1155.0, 211.0), (2048.0, 28.0)], ids=["chat", "code"])
@pytest.mark.parametrize("slack", [0])
def test_whoever_knows_what_comes_is_not_below_the_schedule_oracle(
    rate: Array, prompt: float, output: float, slack: int
) -> None:
    arrivals = np.random.default_rng(5).poisson(rate)[None].astype(np.float64)
    arrivals[:, -60:] = 0.0  # so that all is answered before the end
    demand = Written(arrivals, prompt=prompt, output=output)
    load = offered(demand)
    needed = cost_of(load.rate[0], load.prompt[0], load.output[0], choices(fleet(0))[0], seconds=60).needed

    of = bounds_of(load, choices(fleet(int(needed[0]))))

    assert of.floor <= of.integer <= of.schedule
    assert of.schedule.value <= spent(demand, needed, slack=slack)
