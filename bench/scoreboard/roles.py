"""The same requests on engines apart: a service that computes prompts, and one that is given them and answers.

How it is declared and what is left out of it: docs/how-to/roles.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from bench.scoreboard.table import ALL, bound_rows, rows_of
from bench.scoreboard.work import ATTAINMENT, ITL, TTFT, Rows, assembled, bounds_by_service
from fallow.app.simulation.running import FALLOW, How, Shown, all_run
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.demand import Array, Demand, Load, Spread
from fallow.twin.simulation.result import Outcome

# A prompt that comes computed: vLLM takes up what is left of it as its last tokens.
CACHED = 0.99
# Who is set against Fallow on engines apart, with the settings that they have on whole ones.
OPPONENTS = ("static-70", "hpa", "strong")
# Of prompts the first token is all that can be late, of answers the gaps.
OBJECTIVES = ((TTFT, inf), (inf, ITL))
# Who is late in one of both is late: each may be so for half of those that may be.
EACH = (1.0 + ATTAINMENT) / 2.0


class Apart:
    """Each service's requests twice: rows of prompts first, answered by one token, then those of answers."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self.seconds = demand.seconds
        self.services = tuple(
            ServiceKey(key.namespace, f"{key.name}-{role}") for role in ("prefill", "decode") for key in demand.services
        )
        spread, none = demand.spread, np.zeros(len(demand.services))
        self.spread = Spread(
            np.tile(spread.prompt_cv, 2),
            np.concatenate((none, spread.output_cv)),
            np.concatenate((spread.cached, none + CACHED)),
        )

    def block(self, start: int, stop: int) -> Load:
        load = self._demand.block(start, stop)
        output = np.concatenate((np.ones_like(load.output), load.output))
        return Load(start, np.tile(load.arrivals, (2, 1)), np.tile(load.prompt, (2, 1)), output)


def role_rows(demand: Demand, rows: Rows, shown: Shown, *, every: int, parts: int) -> list[dict[str, Any]]:
    """Of both roles together, as traces of their own; with all levers Fallow is held against bounds that have them."""
    apart, told = Apart(demand), Rows(tuple(f"{trace}, apart" for trace in rows.traces), rows.seeds)
    limits = [limit for limit in OBJECTIVES for _ in rows.traces]
    one = assembled(apart, objectives=limits, attainment=EACH)
    bounds = _both(bounds_by_service(one))
    found = _rows(all_run(one, [FALLOW, *OPPONENTS], _named(shown, ""), How(0, every)), told, bounds)
    free = assembled(apart, one.seen, all_levers=True, objectives=limits, attainment=EACH)
    freed = _both(bounds_by_service(free, all_levers=True))
    (best,) = all_run(free, [FALLOW], _named(shown, ALL), How(0, every, parts))
    found += _rows([replace(best, controller=f"{FALLOW}{ALL}")], told, freed)
    counts, tokens = (values[len(rows.traces) :] for values in (one.seen.requests, one.seen.output))
    return found + bound_rows(told, bounds, counts, tokens) + bound_rows(told, freed, counts, tokens, ALL)


def joined(prompts: Mapping[str, Any], answers: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the two of a service. In time are at least those who are late in neither."""
    kept = max(prompts["attainment"] + answers["attainment"] - 1.0, 0.0)
    good = answers["good_tokens"] * kept / answers["attainment"] if answers["attainment"] else 0.0
    energy = prompts["energy_joules"] + answers["energy_joules"]
    added = ("replica_hours", "carbon_g", "decisions", "starts")
    return {
        **answers,
        **{name: prompts[name] + answers[name] for name in added},
        "energy_joules": energy,
        "good_tokens": good,
        "attainment": kept,
        "joules_per_good_token": energy / good if good else None,
        "over_schedule_oracle": energy / answers["schedule_oracle_joules"] - 1.0,
    }


def _rows(outcomes: Sequence[Outcome], told: Rows, bounds: Array) -> list[dict[str, Any]]:
    twice, width, found = Rows(told.traces * 2, told.seeds * 2), len(told.traces), []
    for outcome in outcomes:
        rows = rows_of(outcome, twice, np.tile(bounds, (2, 1)))
        found += [joined(*pair) for pair in zip(rows[:width], rows[width:], strict=True)]
    return found


def _both(bounds: Array) -> Array:
    """Bounds of a service: of its prompts and of its answers."""
    first, second = np.split(bounds, 2)
    return np.asarray(first + second)


def _named(shown: Shown, which: str) -> Shown:
    return lambda name, share: shown(f"{name}{which}, apart", share)
