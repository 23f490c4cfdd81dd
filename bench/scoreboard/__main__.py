"""`make bench`: every controller on every trace and seed, on the same simulated fleet."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.scoreboard.roles import role_rows
from bench.scoreboard.table import ALL, bound_rows, markdown, rows_of
from bench.scoreboard.tuned import tuned_rows
from bench.scoreboard.work import Rows, assembled, bounds_by_service, recorded, weeks
from fallow.app.simulation.running import FALLOW, How, all_run
from fallow.twin.baselines.named import BASELINES
from fallow.twin.simulation.demand import Demand

OUT = Path("bench/out")
SEEDS, QUICK_SEEDS = (1, 2, 3), (1,)
PARTS = 2


def main() -> None:
    given = _arguments()
    demand, rows = _work(given)
    began = time.perf_counter()
    print(f"{len(rows.traces)} services over {demand.seconds / 86_400:g} days; reading their demand", flush=True)
    one = assembled(demand)
    bounds = bounds_by_service(one)
    names = [FALLOW, *BASELINES]
    told: dict[str, int] = {}

    def shown(name: str, share: float) -> None:
        tenth = int(share * 10)
        if tenth > told.get(name, 0):
            told[name] = tenth
            print(f"{time.perf_counter() - began:6.0f} s  {name} {tenth * 10} %", flush=True)

    outcomes = all_run(one, names, shown, How(0, every=given.cycle, without=("steps",)))
    found = [row for outcome in outcomes for row in rows_of(outcome, rows, bounds)]
    free = assembled(demand, one.seen, all_levers=True)
    freed = bounds_by_service(free, all_levers=True)
    (best,) = all_run(free, [FALLOW], lambda _, share: shown(f"{FALLOW}{ALL}", share), How(0, given.cycle, PARTS))
    found += rows_of(replace(best, controller=f"{FALLOW}{ALL}"), rows, freed)
    asked = (one.seen.requests, one.seen.output)
    found += bound_rows(rows, bounds, *asked) + bound_rows(rows, freed, *asked, ALL)
    found += role_rows(demand, rows, shown, every=given.cycle, parts=PARTS)
    if given.tuned:
        print(f"{time.perf_counter() - began:6.0f} s  autoscalers at every setting", flush=True)
        found += tuned_rows(demand, rows)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "scoreboard.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = markdown(found)
    machine = (
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()},"
        f" seeds {', '.join(str(seed) for seed in sorted(set(rows.seeds)))}, {demand.seconds / 86_400:g} days,"
        f" {time.perf_counter() - began:.0f} s"
    )
    (given.out / "scoreboard.md").write_text(f"{text}\n{machine}\n", encoding="utf-8")
    print(f"\n{text}\n{machine}\nwritten to {given.out}/scoreboard.json")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scoreboard", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one working day and one seed: some minutes")
    parser.add_argument("--trace", type=Path, help="a trace instead of the weeks, in the format of Azure's")
    parser.add_argument("--scale", type=float, default=1.0, help="so many requests for each of the trace")
    parser.add_argument("--days", type=float, help="instead of a week")
    parser.add_argument("--seeds", help="instead of 1,2,3")
    parser.add_argument("--cycle", type=int, default=15, help="seconds between two of Fallow's cycles")
    parser.add_argument(
        "--tuned", action="store_true", help="also autoscalers at the best setting of each, by hindsight"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def _work(given: argparse.Namespace) -> tuple[Demand, Rows]:
    if given.trace is not None:
        if not given.trace.exists():
            sys.exit(f"{given.trace} is not there: write TRACE=FILE.csv with Azure's columns")
        return recorded(given.trace, given.scale)
    if given.quick:
        return weeks(QUICK_SEEDS, given.days or 1.0)
    seeds = SEEDS if given.seeds is None else tuple(int(seed) for seed in given.seeds.split(","))
    return weeks(seeds, given.days or 7.0)


if __name__ == "__main__":
    main()
