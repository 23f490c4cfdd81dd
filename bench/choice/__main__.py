"""`python -m bench.choice`: how near the fast way of sharing too few GPUs comes to the best, and what both take.

The gap is that of the first score in which the two differ, of the best: scores are, from the highest priority down,
GPUs kept of those that a class had and how much of what it wants it is served (bench/choice/exact.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from bench.choice.clusters import drawn
from bench.choice.exact import best
from fallow.planner.sharing import dealt, scores


def gap(got: Sequence[float], optimum: Sequence[float]) -> float:
    return next(
        ((most - has) / most for has, most in zip(got, optimum, strict=False) if abs(most - has) > 1e-5 * most), 0.0
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.choice", description=__doc__)
    parser.add_argument("--services", default="10,40,100,1000")
    parser.add_argument("--seeds", type=int, default=20, help="clusters of each size")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each program of the exact method")
    parser.add_argument("--equal", action="store_true", help="all services are of one priority")
    parser.add_argument("--chosen", action="store_true", help="the best may choose which replicas go")
    asked = parser.parse_args(arguments)
    print("| services | GPUs | clusters | gap, median | p95 | most | first class | fast, ms | exact, s | proven |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for services in map(int, asked.services.split(",")):
        gaps, firsts, fast, slow, gpus, proven = [], [], [], [], [], 0
        for seed in range(1, asked.seeds + 1):
            cluster = drawn(services, seed, equal=asked.equal)
            began = time.process_time()
            counts = dealt(cluster.free, cluster.claims)
            fast.append(time.process_time() - began)
            began = time.perf_counter()
            optimum = best(cluster, asked.limit, chosen=asked.chosen)
            slow.append(time.perf_counter() - began)
            got = scores(cluster.claims, counts)
            gaps.append(gap(got, optimum.scores))
            firsts.append(gap(got[:2], optimum.scores))
            gpus.append(len(cluster.nodes) * 8)
            proven += optimum.proven
        print(
            f"| {services:,} | {median(gpus):,.0f} | {asked.seeds} | {median(gaps):.2%} | {np.quantile(gaps, 0.95):.2%}"
            f" | {max(gaps):.2%} | {max(firsts):.2%} | {median(fast) * 1e3:.1f} | {median(slow):.1f}"
            f" | {proven} of {asked.seeds} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
