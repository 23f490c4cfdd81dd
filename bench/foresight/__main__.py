"""`python -m bench.foresight`: what a controller needs that is told the rate of the minutes to come, but no request.

Oracles know each request, and have no more than serves it. Whoever is told rates alone has to leave room for how
unevenly requests come, as Fallow has to without being told anything. Its margin is chosen by hindsight.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.scoreboard.table import rows_of
from bench.scoreboard.tuned import Repeated
from bench.scoreboard.work import SCALES, Rows, assembled, bounds_by_service
from fallow.app.simulation.assembling import Assembled
from fallow.twin.demand.weeks import week
from fallow.twin.simulation.demand import Array, Demand
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.run import Simulation, Watcher
from fallow.twin.simulation.sight import IntArray, Known, Sight
from fallow.twin.simulation.sizing import known_of

# Seconds: replicas are asked for so often, and so long before they are needed; a start takes 73 s in the mean.
PERIOD, AHEAD = 15, 90
# Seconds that the rate is a mean of, the present in their middle.
TOLD = (60, 300)
# Times the replicas that carry the rate within the objectives, each filled as one alone.
MARGINS = np.geomspace(0.9, 4.5, 36)
# Tokens of a step where prompts are computed in pieces: what Fallow chooses on that week; None is whole.
STEPS: dict[str, tuple[int | None, ...]] = {"coding": (None, 350), "conversation": (None,)}
IN_TIME = (0.990, 0.9925, 0.995, 0.996)


class Foreseeing:
    """Replicas for the highest rate until those asked for next are ready, by service times its margin."""

    period = PERIOD

    def __init__(self, known: Known, rate: Array) -> None:
        self._known, self._rate = known, rate

    def desired(self, sight: Sight) -> IntArray:
        begun = min(int(sight.at), len(self._rate) - 1)
        rate = self._rate[begun : begun + AHEAD + PERIOD].max()
        needed = np.ceil(rate * MARGINS / self._known.rate - 1e-9).astype(np.int64)
        return np.asarray(np.clip(needed, np.maximum(self._known.minimum, 1), self._known.maximum))


def rates(demand: Demand, told: int) -> Array:
    """Requests per second of the only service, in the mean of so many seconds around each second."""
    counts = np.concatenate([demand.block(at, min(at + 3600, demand.seconds)).arrivals[0] for at in _hours(demand)])
    sums = np.concatenate(([0.0], np.cumsum(counts)))
    at = np.arange(len(counts))
    first, last = np.maximum(at - told // 2, 0), np.minimum(at + told // 2, len(counts))
    return np.asarray((sums[last] - sums[first]) / (last - first))


def _hours(demand: Demand) -> range:
    return range(0, demand.seconds, 3600)


@dataclass(frozen=True, slots=True)
class Row:
    """`energy` in kWh."""

    energy: float
    in_time: float
    over: float


def lived(one: Assembled, rate: Array, tokens: int | None) -> list[Row]:
    """A row for each margin."""
    simulation = Simulation(one.setup, one.demand, one.grid, Run("foresight", 0, one.began))
    for number in range(len(MARGINS)):
        simulation.fleet.limit_steps(number, 0, tokens)
    controller, watcher = Foreseeing(known_of(one.setup, one.demand, one.seen), rate), Watcher(simulation)
    while not simulation.ended:
        wanted = controller.desired(watcher.sight())
        for service in np.flatnonzero(wanted != simulation.fleet.asked_of_reference):
            simulation.ask(int(service), 0, int(wanted[service]))
        simulation.advance(simulation.now + PERIOD)
    outcome = simulation.recorder.outcome(simulation.run, took=0.0)
    count = len(MARGINS)
    found = rows_of(outcome, Rows(("",) * count, (0,) * count), bounds_by_service(one))
    return [Row(row["energy_joules"] / 3.6e6, row["attainment"], row["over_schedule_oracle"]) for row in found]


def least(found: list[Row], in_time: float) -> Row | None:
    """Of the least energy that has this share in time."""
    kept = [row for row in found if row.in_time >= in_time]
    return min(kept, key=lambda row: row.energy) if kept else None


def table(name: str, days: float, seed: int) -> Iterator[str]:
    demand = week(name, seed=seed, scale=SCALES[name], days=days)
    one = assembled(Repeated(demand, len(MARGINS)))
    for tokens in STEPS[name]:
        for told in TOLD:
            found = lived(one, rates(demand, told), tokens)
            told_of = f"| {name} | {'whole' if tokens is None else f'{tokens} tokens'} | {told} s |"
            yield told_of + "".join(f" {_cell(least(found, share))} |" for share in IN_TIME)


def _cell(row: Row | None) -> str:
    return "-" if row is None else f"{row.energy:.0f} ({row.over:+.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.foresight", description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    shares = "".join(f" {share:.2%} in time |" for share in IN_TIME)
    print(f"kWh (over the schedule oracle), seed {given.seed}, {given.days:g} days\n")
    print(f"| week | prompts | mean rate told of |{shares}\n|---|---|---|{'---|' * len(IN_TIME)}")
    for name in STEPS:
        for row in table(name, given.days, given.seed):
            print(row, flush=True)


if __name__ == "__main__":
    main()
