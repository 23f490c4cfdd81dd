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

INTERVAL, START, END = 30, 45, 900
SECONDS = np.arange(END)


def fleet(start_replicas: int) -> Setup:
    of = setup(minimum=0, maximum=12, start=Start(pull=1, load=START - 1, compile_=0, sigma=0.0))
    return replace(of, services=(replace(of.services[0], itl=0.025, start_replicas=start_replicas),))


def followed(needed: IntArray) -> IntArray:
    """What is needed; kept where it is needed again sooner than a start takes, and to the end."""
    kept = needed.copy()
    kept[-1] = max(kept[-2:])
    for index in range(1, len(kept) - 2):
        kept[index] = max(kept[index], min(kept[index - 1], max(kept[index + 1 : index + 3])))
    return kept


def spent(demand: Written, replicas: IntArray, *, slack: int) -> float:
    """Joules with so many replicas in each interval, which come later by `slack` seconds and leave as much earlier."""
    run = simulation(demand, fleet(int(replicas[0])))
    changes: dict[int, int] = {}
    for index in np.flatnonzero(np.diff(replicas)) + 1:
        rises = replicas[index] > replicas[index - 1]
        changes[int(index) * INTERVAL + (slack - START if rises else -slack)] = int(replicas[index])
    for at in sorted(changes):
        run.advance(at)
        run.ask(0, 0, changes[at])
    run.advance(END)
    return float(run.recorder.joules(END)[0])


CHAT, CODE = (1155.0, 211.0), (2048.0, 28.0)


@pytest.mark.parametrize(
    ("rate", "lengths"),
    [
        (18.0 * (1 + np.sin(SECONDS / 100)), CHAT),
        (np.where(SECONDS // 300 % 2, 36.0, 6.0), CODE),
        (np.where(SECONDS // 180 % 2, 4.0, 0.0), CODE),
        (np.full(END, 0.05), CHAT),
    ],
    ids=["swinging", "in steps", "on and off", "seldom"],
)
@pytest.mark.parametrize("slack", [0, 5])
def test_whoever_knows_what_comes_is_not_below_the_schedule_oracle(
    rate: Array, lengths: tuple[float, float], slack: int
) -> None:
    arrivals = np.random.default_rng(5).poisson(rate)[None].astype(np.float64)
    arrivals[:, -INTERVAL:] = 0.0  # so that all is answered before the end
    demand = Written(arrivals, prompt=lengths[0], output=lengths[1])
    load = offered(demand, seconds=INTERVAL)
    needed = cost_of(load.rate[0], load.prompt[0], load.output[0], choices(fleet(0))[0], seconds=INTERVAL).needed

    replicas = followed(needed)

    of = bounds_of(load, choices(fleet(int(replicas[0]))))

    assert of.floor <= of.integer <= of.schedule
    assert of.schedule.value <= spent(demand, replicas, slack=slack)
