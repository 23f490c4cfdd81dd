"""`python -m bench.clocks`: how near the fast clock comes to the event engine, and how its cost grows."""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np

from bench.scoreboard.work import assembled
from fallow.app.simulation.running import FALLOW, How, all_run
from fallow.domain.workloads import ServiceKey
from fallow.twin.calibration.tasks import Precision
from fallow.twin.demand.recorded import Recorded
from fallow.twin.demand.weeks import many
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import GPUS, Gpu
from fallow.twin.physics.parts import profiles_of
from fallow.twin.pods import Division, EngineFacts, NodeFacts
from fallow.twin.rates import Piecewise
from fallow.twin.replay import Objectives, Replicas, replay
from fallow.twin.simulation.demand import Spread
from fallow.twin.simulation.engines import Engines, Pools
from fallow.twin.simulation.table import table_of
from fallow.twin.traffic import Arrival, GeneratedTraffic, Lengths

SECONDS = 1800
# Of the lengths of prompts and answers.
CV = 0.9
KEY = ServiceKey("bench", "one")


@dataclass(frozen=True, slots=True)
class Case:
    model: str
    gpus: int
    rate: float
    prompt: float
    output: float
    replicas: int
    ttft: float
    itl: float
    part: str = ""


CASES = (
    *(Case("8b", 1, rate, 1155, 211, 1, 1.0, 0.025) for rate in (0.05, 0.3, 1, 3, 6, 10, 14)),
    *(Case("8b", 1, rate, 1155, 211, 4, 1.0, 0.025) for rate in (3, 20, 40)),
    *(Case("8b", 1, rate, 2048, 28, 1, 1.0, 0.025) for rate in (0.3, 2, 4, 6)),
    *(Case("70b", 4, rate, 1155, 211, 1, 2.0, 0.05) for rate in (0.05, 1, 4)),
    # on MIG instances, two on each GPU
    *(Case("8b", 1, rate, 1155, 211, 1, 1.0, 0.05, "3g.40gb") for rate in (0.05, 1, 3)),
    Case("8b", 1, 8, 1155, 211, 4, 1.0, 0.05, "3g.40gb"),
    # the cache fills up
    *(Case("8b", 1, rate, 6000, 1500, 1, 2.0, 0.05) for rate in (0.8, 1.2)),
    Case("8b", 1, 2.5, 1000, 3000, 1, 2.0, 0.05),
)


def compared(case: Case) -> str:
    """A row of Markdown."""
    traffic = GeneratedTraffic(
        Piecewise(((0.0, case.rate),)), Lengths(case.prompt, CV), Lengths(case.output, CV), seed=1
    )
    rows = traffic.until(SECONDS)
    instance = profiles_of("H100")[case.part] if case.part else None
    division = Division()
    if instance is not None:
        division = Division(((instance,) * instance.most_on(GPUS[Gpu.H100].memory),) * 8, single=True)
    nodes = [
        NodeFacts(f"n{index}", f"n{index}", "", Gpu.H100, 8, division)
        for index in range(-(-case.replicas * case.gpus // 8))
    ]
    facts = EngineFacts(case.model, "m", Precision.BF16)
    event = replay(
        nodes,
        [Replicas(KEY, facts, case.replicas, gpus=case.gpus)],
        {KEY: rows},
        seconds=SECONDS,
        objectives={KEY: Objectives(case.ttft, case.itl)},
    ).services[0]
    # a request of one token at the start keeps the record's own beginning
    load = Recorded(KEY, [Arrival(0.0, 1, 1), *rows], seconds=SECONDS).block(0, SECONDS)
    # those who are found decoding have longer answers than those who come
    context = case.prompt + case.output * (1.0 + CV**2) / 2
    table = table_of(law_for(Gpu.H100, case.model, Precision.BF16, case.gpus, part=instance), context=context)
    spread = Spread(np.array([CV]), np.array([CV]), np.zeros(1))
    fast = Engines(Pools([table], np.array([0]), spread, np.array([case.ttft]), np.array([case.itl])))
    for _ in range(case.replicas):
        fast.join(0)
    for begin in range(0, SECONDS, 15):
        part = slice(begin, begin + 15)
        fast.advance(load.arrivals[:, part], load.prompt[:, part], load.output[:, part])
    totals = fast.after.totals
    joules = float(totals.joules.sum())
    kept = float(totals.good.sum() / totals.done.sum())
    return (
        f"| {case.model} on {case.part or case.gpus} x {case.replicas} | {case.rate:g}"
        f" | {case.prompt:.0f}, {case.output:.0f} |"
        f" {event.energy.value / 1e3:.0f} | {joules / event.energy.value - 1:+.1%} |"
        f" {event.attainment or 0:.2%} | {100 * (kept - (event.attainment or 0)):+.1f} |"
    )


def cost(count: int, days: float, cycle: int, parts: int) -> str:
    began = time.perf_counter()
    one = assembled(many(count, seed=1, days=days))
    outcome = all_run(one, [FALLOW], _quiet, How(1, every=cycle, parts=parts))[0]
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    week = (time.perf_counter() - began) * 7 / days
    requests = sum(service.requests for service in outcome.services)
    return (
        f"| {count} | {days:g} | {cycle} | {requests / 1e6:.1f} M | {time.perf_counter() - began:.0f} s |"
        f" {week / 60:.1f} min | {peak / 1024:.0f} MiB |"
    )


def _quiet(_name: str, _share: float) -> None:
    """Nobody watches."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clocks", description=__doc__)
    parser.add_argument("--services", default="10,100", help="numbers of services whose cost is measured")
    parser.add_argument("--days", type=float, default=0.25)
    parser.add_argument("--cycle", type=int, default=60)
    parser.add_argument("--parts", type=int, default=2, help="processes that services are dealt out to")
    given = parser.parse_args()
    print("| engine | requests/s | prompt, answer | event kJ | fast | event in time | fast, points |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        print(compared(case), flush=True)
    print("\n| services | days | cycle, s | requests | took | a week | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for count in given.services.split(","):
        print(cost(int(count), given.days, given.cycle, given.parts), flush=True)


if __name__ == "__main__":
    main()
