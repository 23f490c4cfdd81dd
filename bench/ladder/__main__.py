"""`python -m bench.ladder`: services that work for minutes between silences, under each ladder, on two fleets.

What could be saved at most knows every silence beforehand: the clocks go down as fast as the driver lets them, or the
replica is gone and loaded anew in time, whichever takes less. A node that empties is powered off by the cluster's
autoscaler, whose delays it has to live with, as Fallow has.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.scoreboard.work import PRODUCT, START, assembled
from fallow.app.simulation.assembling import Assembled
from fallow.app.simulation.running import FALLOW, How, all_run
from fallow.domain.policies import IdleRules, Mode, Policy
from fallow.domain.units import Seconds
from fallow.domain.workloads import ServiceKey
from fallow.twin.demand.generated import Generated, Stream
from fallow.twin.demand.lengths import Lengths
from fallow.twin.demand.together import Together
from fallow.twin.demand.weeks import DAY, Sporadic
from fallow.twin.physics.constants import FALL_SECONDS
from fallow.twin.simulation.demand import Array, Demand
from fallow.twin.simulation.ports import Declared
from fallow.twin.simulation.result import Outcome
from fallow.twin.simulation.setup import PowerOff, Sleep
from fallow.twin.simulation.table import EngineTable

# Requests per second and seconds of a spell of work; minutes of a silence in the mean.
RATE, BUSY = 0.5, 300.0
SILENCES = (5.0, 30.0, 240.0)
SHORT = Lengths(600.0, 150.0)
# Of the time between two requests an answer takes so many seconds: 150 tokens at 7 ms.
ANSWER = 1.05
LADDERS = {
    "none": IdleRules(release=False),
    "Throttle": IdleRules(release=False, throttle=True),
    "Release": IdleRules(),
    "Throttle, Release": IdleRules(throttle=True),
    "Throttle, Release within 20 s": IdleRules(throttle=True, wake_within=Seconds(20)),
    "none, engines sleep after a minute": IdleRules(release=False),
}
# No rung of Fallow's: an activator in front of the engines has them sleep.
SLEEP = {"none, engines sleep after a minute": Sleep(after=60.0)}
# Of a node of one GPU. Cluster-autoscaler's default delay; a boot takes minutes: assumed.
OFF = PowerOff(after=600.0, boot=240.0)


@dataclass(frozen=True, slots=True)
class Row:
    """`saved` in joules of the whole fleet against no ladder at all, `most` of what could be."""

    ladder: str
    silence: float
    used: float
    saved: float
    most: float
    in_time: float
    ttft_p95: float
    starts: int


def silent(seeds: Sequence[int], silence: float, days: float) -> Demand:
    return Together(
        [
            Generated(
                [Stream(ServiceKey("sporadic", f"seed-{seed}"), Sporadic(RATE, BUSY, silence * 60.0, seed), SHORT)],
                int(days * DAY),
                seed=seed,
            )
            for seed in seeds
        ]
    )


def fleet(demand: Demand, rules: IdleRules, off: PowerOff | None, sleep: Sleep | None) -> Assembled:
    """One GPU a node, one replica a service; only a ladder with Release may take that one away."""
    one = assembled(demand)
    count = len(demand.services)
    kinds = tuple(replace(kind, gpus=1, count=count) for kind in one.setup.nodes)
    minimum = 0 if rules.release else 1
    services = [
        replace(service, scaling=replace(service.scaling, min_replicas=minimum, max_replicas=1))
        for service in one.declared.services.values()
    ]
    policy = Policy("ladder", mode=Mode.ENFORCE, idle=rules)
    return replace(
        one,
        setup=replace(
            one.setup,
            nodes=kinds,
            services=tuple(
                replace(service, minimum=minimum, maximum=1, start_replicas=1, sleep=sleep)
                for service in one.setup.services
            ),
            power_off=off,
        ),
        declared=Declared(services, [policy], one.declared.zones, one.declared.profiles),
    )


def silences_of(demand: Demand) -> list[Array]:
    """Seconds between two requests, of each service."""
    times: list[list[Array]] = [[] for _ in demand.services]
    for start in range(0, demand.seconds, 3600):
        arrivals = demand.block(start, min(start + 3600, demand.seconds)).arrivals
        for row, found in zip(arrivals, times, strict=True):
            found.append(start + np.flatnonzero(row).astype(np.float64))
    return [np.diff(np.concatenate([np.array([0.0]), *rows, np.array([float(demand.seconds)])])) for rows in times]


def most_saved(gaps: Array, table: EngineTable, off: PowerOff | None) -> float:
    """Joules, with every silence known beforehand."""
    parked = (table.context - table.bare) * np.maximum(gaps - ANSWER - FALL_SECONDS, 0.0)
    if off is None:
        return float(parked.sum())
    load = START.load + START.pull + START.compile_
    dark = np.maximum(gaps - off.after - off.boot - load, 0.0) * table.bare
    loading = (table.loading - table.bare) * load
    return float(np.maximum(parked, parked + dark - loading).sum())


def rows(seeds: Sequence[int], days: float, off: PowerOff | None) -> Iterator[Row]:
    for silence in SILENCES:
        demand = silent(seeds, silence, days)
        gaps = silences_of(demand)
        outcomes: dict[str, Outcome] = {}
        for name, rules in LADDERS.items():
            one = fleet(demand, rules, off, SLEEP.get(name))
            outcomes[name] = all_run(one, [FALLOW], lambda *_: None, How(0))[0]
            table = one.setup.services[0].variants[0].tables[PRODUCT]
            most = sum(most_saved(row, table, off) for row in gaps)
            yield _row(name, silence, outcomes["none"], outcomes[name], most)


def _row(name: str, silence: float, without: Outcome, found: Outcome, most: float) -> Row:
    ended = sum(one.done + one.failed for one in found.services)
    return Row(
        ladder=name,
        silence=silence,
        used=found.fleet.value,
        saved=without.fleet.value - found.fleet.value,
        most=most,
        in_time=sum(one.good for one in found.services) / ended,
        ttft_p95=max(one.ttft_p95 or 0.0 for one in found.services),
        starts=sum(one.starts for one in found.services),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ladder", description=__doc__)
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--seeds", default="1,2,3")
    given = parser.parse_args()
    seeds = tuple(int(seed) for seed in given.seeds.split(","))
    for words, off in (("Nodes stay on", None), ("Empty nodes are powered off", OFF)):
        print(f"### {words}\n")
        print("| silences | ladder | kWh | saved | of what could be | in time | p95 of first tokens | starts |")
        print("|---|---|---|---|---|---|---|---|")
        for row in rows(seeds, given.days, off):
            print(
                f"| {row.silence:g} min | {row.ladder} | {row.used / 3.6e6:.2f} | {row.saved / 3.6e6:.2f} |"
                f" {row.saved / row.most:.0%} | {row.in_time:.2%} | {row.ttft_p95:.2f} s | {row.starts} |",
                flush=True,
            )
        print()


if __name__ == "__main__":
    main()
