"""`python -m bench.plan`: seconds on one core to book, estimate and decide, and memory, for more and more services.

Each service has ten replicas of one GPU under load, read by a cycle every 15 s; the median of the last cycles counts.
Memory is that of the whole process, the simulated fleet included.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import time
from dataclasses import replace
from math import ceil
from statistics import median

from bench.scoreboard.work import assembled
from fallow.app.bookkeeping import Bookkeeper
from fallow.app.cycle import Cycle, Sources
from fallow.app.simulation.steering import CYCLE, WINDOW
from fallow.domain.ledger import Ledger
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey
from fallow.planner.decide import decide
from fallow.twin.demand.generated import Generated, Stream
from fallow.twin.demand.lengths import AZURE_CONVERSATION
from fallow.twin.rates import Piecewise
from fallow.twin.simulation.ports import Books, FleetCluster, FleetMetrics, GridCarbon
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.run import Simulation

REPLICAS, RATE = 10, 60.0
# Cycles until windows are full, and those that count.
FIRST, COUNTED = 24, 8


class TimedBooks(Bookkeeper):
    """`spent`: seconds of the last booking."""

    spent = 0.0

    async def book(self, snapshot: Snapshot) -> Ledger | None:
        began = time.process_time()
        ledger = await super().book(snapshot)
        self.spent = time.process_time() - began
        return ledger


async def costs(services: int) -> tuple[float, float, float]:
    """Seconds to book, to estimate and to decide, as the medians of some cycles."""
    seconds = (FIRST + COUNTED + 1) * CYCLE
    rate = Piecewise(((0.0, RATE),))
    streams = [Stream(ServiceKey("bench", f"s{number}"), rate, AZURE_CONVERSATION) for number in range(services)]
    one = assembled(Generated(streams, seconds, seed=1))
    ready = tuple(replace(service, start_replicas=REPLICAS, maximum=REPLICAS) for service in one.setup.services)
    nodes = tuple(replace(kind, count=ceil(services * REPLICAS / kind.gpus)) for kind in one.setup.nodes)
    setup = replace(one.setup, services=ready, nodes=nodes)
    simulation = Simulation(setup, one.demand, one.grid, Run("bench", 1, one.began))
    books = TimedBooks(Books(), Seconds(300))
    cycle = Cycle(
        Sources(FleetCluster(simulation, one.declared), FleetMetrics(simulation, one.declared), GridCarbon(simulation)),
        books,
        (),
        window=WINDOW,
        clock=lambda: one.began + simulation.now,
    )
    found: list[tuple[float, float, float]] = []
    for _ in range(FIRST + COUNTED):
        snapshot = await cycle.observe(Instant(one.began + simulation.now))
        began = time.process_time()
        snapshot, estimates = await cycle.estimate(snapshot)
        middle = time.process_time()
        plan = decide(snapshot, estimates)
        found.append((books.spent, middle - began - books.spent, time.process_time() - middle))
        await cycle.report(snapshot, estimates, plan, ())
        simulation.advance(simulation.now + CYCLE)
        simulation.in_flight.clear()
    booking, estimating, deciding = (median(part) for part in zip(*found[FIRST:], strict=True))
    return booking, estimating, deciding


def measured(services: int) -> None:
    booking, estimating, deciding = asyncio.run(costs(services))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    whole = estimating + deciding
    print(
        f"| {services:,} | {services * REPLICAS:,} | {booking:.3f} s | {estimating:.3f} s | {deciding:.3f} s |"
        f" {whole:.3f} s | {whole / services * 1e3:.2f} ms | {peak:.0f} MiB |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plan", description=__doc__)
    parser.add_argument("--services", default="10,100,1000")
    given = parser.parse_args()
    print("| services | GPUs | book | estimate | decide | a plan | a service | peak memory |")
    print("|---|---|---|---|---|---|---|---|")
    for services in given.services.split(","):
        # a process of its own, so that memory is its own
        worker = multiprocessing.get_context("fork").Process(target=measured, args=(int(services),))
        worker.start()
        worker.join()


if __name__ == "__main__":
    main()
