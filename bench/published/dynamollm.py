"""Savings by load and by lever as DynamoLLM (arXiv 2408.00741) reports them, in the twin's steady state.

There: Llama-2-70B, 88 H100 for Azure's conversations; the baseline runs every GPU with TP8 at the highest clock. What
is chosen instead are instances, their sharding and their clock. Published: 51 % less energy at low, 40 % at medium and
23 % at high load; by one lever alone 19 % (clock), 7 % (sharding), 4 % (instances) of the whole day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.store import shipped
from fallow.twin.simulation.predicting import predicted_table
from fallow.twin.simulation.sizing import carried
from fallow.twin.simulation.steady import steady
from fallow.twin.simulation.table import EngineTable

MODEL, GPUS = "meta-llama/Llama-3.1-70B-Instruct", 88
SHARDS, WIDEST = (4, 8), 8
# Of a request, in the mean: tokens of Azure's conversations of 2023. Seconds between tokens: five times the isolated
# latency there, which is 100 ms here.
PROMPT, OUTPUT, ITL = 1155.0, 211.0, 0.1
CLOCKS = tuple(round(0.4 + 0.05 * step, 2) for step in range(13))
LOADS: Mapping[str, float] = {"low": 0.2, "medium": 0.5, "high": 0.8}
PUBLISHED: Mapping[str, float] = {"low": 0.51, "medium": 0.40, "high": 0.234}


@dataclass(frozen=True, slots=True)
class Levers:
    """What may be chosen; without a lever it stays as the baseline has it."""

    instances: bool = True
    shards: bool = True
    clocks: bool = True


def tables() -> dict[int, EngineTable]:
    """By GPUs of an instance."""
    return {
        gpus: predicted_table(query_of(Described(name=MODEL), Work(gpu="H100", precision="BF16", gpus=gpus), shipped()))
        for gpus in SHARDS
    }


def saved(share: float, levers: Levers, known: Mapping[int, EngineTable]) -> float:
    """Of the baseline's watts, at a `share` (0..1) of what all GPUs carry with TP8 at the highest clock."""
    instances = GPUS // WIDEST
    rate = share * instances * carried(known[WIDEST], PROMPT, OUTPUT, ITL).rate
    baseline = _watts(known[WIDEST], [instances], rate)
    return 1.0 - least(rate, levers, known) / baseline


def least(rate: float, levers: Levers, known: Mapping[int, EngineTable]) -> float:
    """W of all GPUs; those without an instance draw what an empty one does."""
    found = []
    for gpus in SHARDS if levers.shards else (WIDEST,):
        for clock in CLOCKS if levers.clocks else (1.0,):
            table = known[gpus].at_clock(clock)
            most = GPUS // gpus
            fewest = max(ceil(rate / carried(table, PROMPT, OUTPUT, ITL).rate - 1e-9), 1)
            counts = range(fewest, most + 1) if levers.instances else [most] if fewest <= most else []
            if counts:
                found.append(_watts(table, counts, rate))
    return min(found)


def _watts(table: EngineTable, counts: Sequence[int], rate: float) -> float:
    """The least of any of these numbers of instances that share the rate evenly."""
    each = np.array(counts, dtype=np.float64)
    now = steady(table, rate / each, np.array(PROMPT), np.array(OUTPUT))
    empty = (GPUS - each * table.gpus) * table.bare / table.gpus
    return float(np.where(now.fits, each * now.watts + empty, np.inf).min())


def rows() -> list[str]:
    """Of Markdown."""
    known = tables()
    found = ["| load | published | here | instances | sharding | clock |", "|---|---|---|---|---|---|"]
    alone = (Levers(shards=False, clocks=False), Levers(instances=False, clocks=False), Levers(False, False))
    for name, share in LOADS.items():
        single = " | ".join(f"{saved(share, one, known):.0%}" for one in alone)
        found.append(
            f"| {name} ({share:.0%}) | {PUBLISHED[name]:.0%} | {saved(share, Levers(), known):.0%} | {single} |"
        )
    return found
