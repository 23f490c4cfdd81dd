"""`python -m bench.clocks`: how near the fast clock comes to the event engine, and how its cost grows."""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor

from bench.clocks.cases import CASES, FULL, ROLES, SHARES, TURNS
from bench.clocks.nearness import role_row, row
from bench.clocks.sharing import shared_row
from bench.scoreboard.work import assembled
from fallow.app.simulation.running import FALLOW, How, all_run
from fallow.twin.demand.weeks import many


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
    parser.add_argument("--parts", type=int, default=2, help="processes that services and cases are dealt out to")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.parts) as pool:
        print("| engine | requests/s | prompt, answer | event kJ | fast | event in time | fast, points |")
        print("|---|---|---|---|---|---|---|")
        for line in pool.map(row, (*CASES, *FULL)):
            print(line, flush=True)
        shares = " | ".join(f"{share:.0%}" for share in SHARES)
        print(f"\n| role | prompt, answer | replicas | knee, requests/s | at {shares} | energy |")
        print("|---|---|---|---|" + "---|" * len(SHARES) + "---|")
        ones = [(role, replicas) for role in ROLES for replicas in role.knees]
        for line in pool.map(role_row, *zip(*ones, strict=True)):
            print(line, flush=True)
        print(
            "\n| services x engines on GPUs in turns | requests/s | prompt, answer | ITL, ms | event kJ | fast |"
            " event in time | fast, points |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for line in pool.map(shared_row, TURNS):
            print(line, flush=True)
    print("\n| services | days | cycle, s | requests | took | a week | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for count in given.services.split(","):
        print(cost(int(count), given.days, given.cycle, given.parts), flush=True)


if __name__ == "__main__":
    main()
