"""Outcomes as figures with their unit in the name; table.py and page.py show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fallow.app.reports.figures import rounded
from fallow.domain.workloads import ServiceKey
from fallow.twin.bounds.oracles import Bounds
from fallow.twin.simulation.result import Decided, Outcome, ServiceOutcome

SCHEMA = "fallow.dev/simulation/v1"
MOST_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Saved:
    """By a lever: `joules` of the run without it less those of the run with all, and what was in time without it.
    `fleet`: the same of every GPU that was powered, held or not.
    """

    joules: float
    attainment: float | None
    fleet: float

    @property
    def words(self) -> str:
        kept = "-" if self.attainment is None else f"{self.attainment:.2%}"
        return (
            f"{self.joules / 3.6e6:+.3g} kWh, {self.fleet / 3.6e6:+.3g} of all powered GPUs (without it {kept} in time)"
        )


@dataclass(frozen=True, slots=True)
class About:
    """What was run; `inputs` are shown as they are. `asked`: the share in time that each service asks for."""

    title: str
    inputs: Sequence[tuple[str, str]]
    version: str
    asked: Mapping[ServiceKey, float]
    bounds: Bounds | None = None
    all_levers: Bounds | None = None
    savings: Mapping[str, Saved] = field(default_factory=dict)

    @property
    def shares(self) -> str:
        """What is asked for, in words."""
        found = sorted({f"{100 * share:.4g}%" for share in self.asked.values()})
        return " or ".join(found[:3]) + (" …" if len(found) > 3 else "")


def keeps(one: ServiceOutcome, about: About) -> bool:
    """Whether a service got the share in time that it asks for; one that nobody asked anything misses nothing."""
    if one.attainment is None:
        return round(one.unfinished) == 0
    return one.attainment >= about.asked[one.service]


def totals(outcome: Outcome, about: About) -> dict[str, Any]:
    """One controller; None for what is not known."""
    services = outcome.services
    costs = [one.cost for one in services]
    ended = outcome.attainment
    joules = outcome.energy.value
    gap = None if about.bounds is None else joules / about.bounds.schedule.value - 1
    return {
        "controller": outcome.controller,
        "energy_kwh": rounded(outcome.energy.kilowatt_hours),
        "facility_kwh": rounded(sum(one.facility.kilowatt_hours for one in services)),
        "carbon_kg": rounded(sum(one.carbon.value for one in services) / 1e3),
        "water_l": rounded(sum(one.water.value for one in services)),
        "cost": None if any(one is None for one in costs) else rounded(sum(one or 0.0 for one in costs)),
        "currency": outcome.currency,
        "requests": round(sum(one.requests for one in services)),
        "unfinished": round(sum(one.unfinished for one in services)),
        "failed": round(sum(one.failed for one in services)),
        "attainment": None if ended is None else rounded(ended),
        "keeps_objectives": all(keeps(one, about) for one in services),
        "joules_per_good_token": rounded(joules / outcome.good_tokens) if outcome.good_tokens > 0 else None,
        "gap_to_schedule": None if gap is None else rounded(gap),
        "replica_hours": rounded(sum(sum(one.replica_hours.values()) for one in services)),
        "starts": sum(one.starts for one in services),
        "wakes": sum(one.wakes for one in services),
        "decisions": len(outcome.decisions),
        "fleet_kwh": rounded(outcome.fleet.kilowatt_hours),
        "node_hours": rounded(outcome.node_hours),
        "took_seconds": rounded(outcome.took),
    }


def by_service(one: ServiceOutcome, about: About) -> dict[str, Any]:
    return {
        "service": str(one.service),
        "energy_kwh": rounded(one.energy.kilowatt_hours),
        "pulling_kwh": rounded(one.phases.pulling / 3.6e6),
        "loading_kwh": rounded(one.phases.loading / 3.6e6),
        "idle_kwh": rounded(one.phases.idle / 3.6e6),
        "active_kwh": rounded(one.phases.active / 3.6e6),
        "facility_kwh": rounded(one.facility.kilowatt_hours),
        "carbon_kg": rounded(one.carbon.value / 1e3),
        "water_l": rounded(one.water.value),
        "cost": None if one.cost is None else rounded(one.cost),
        "requests": round(one.requests),
        "attainment": None if one.attainment is None else rounded(one.attainment),
        "attainment_asked": about.asked[one.service],
        "keeps_objectives": keeps(one, about),
        "joules_per_good_token": None if one.joules_per_good_token is None else rounded(one.joules_per_good_token),
        "prompt_tokens": round(one.prompt_tokens),
        "generated_tokens": round(one.generated_tokens),
        "replica_hours": {name: rounded(hours) for name, hours in one.replica_hours.items()},
        "starts": one.starts,
        "wakes": one.wakes,
        "ttft_p50_s": one.ttft_p50 if one.ttft_p50 is None else rounded(one.ttft_p50),
        "ttft_p95_s": one.ttft_p95 if one.ttft_p95 is None else rounded(one.ttft_p95),
        "itl_p50_s": one.itl_p50 if one.itl_p50 is None else rounded(one.itl_p50),
        "itl_p95_s": one.itl_p95 if one.itl_p95 is None else rounded(one.itl_p95),
    }


def as_json(outcomes: Sequence[Outcome], about: About) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": about.version,
        "title": about.title,
        "inputs": dict(about.inputs),
        "bounds_kwh": {
            name: None
            if found is None
            else {
                "floor": rounded(found.floor.kilowatt_hours),
                "integer": rounded(found.integer.kilowatt_hours),
                "schedule": rounded(found.schedule.kilowatt_hours),
            }
            for name, found in (("reference", about.bounds), ("all_levers", about.all_levers))
        },
        "savings_by_lever": {
            name: {
                "kwh": rounded(one.joules / 3.6e6),
                "fleet_kwh": rounded(one.fleet / 3.6e6),
                "attainment_without": one.attainment,
            }
            for name, one in about.savings.items()
        },
        "controllers": [
            {
                **totals(outcome, about),
                "services": [by_service(one, about) for one in outcome.services],
                "series": _series(outcome),
                "decisions_made": [_decided(one) for one in outcome.decisions],
            }
            for outcome in outcomes
        ],
    }


def _decided(one: Decided) -> dict[str, Any]:
    return {
        "at_seconds": one.at,
        "service": str(one.service),
        "action": one.action,
        "before": dict(one.before),
        "after": dict(one.after),
        "lever": one.lever,
        "reason": one.reason,
        "message": one.message,
    }


def _series(outcome: Outcome) -> dict[str, Any]:
    """By service, at most MOST_SAMPLES means; the last may be of fewer samples."""
    series = outcome.series
    every = max(1, -(-len(series.times) // MOST_SAMPLES))
    ends = [*range(every - 1, len(series.times) - 1, every), len(series.times) - 1] if len(series.times) else []
    return {
        "times_seconds": [rounded(float(one)) for one in series.times[ends]],
        "services": {
            str(one.service): {
                "arrivals_per_second": thinned(series.arrivals[:, index], every),
                "in_time_per_second": thinned(series.good[:, index], every),
                "in_flight": thinned(series.in_flight[:, index], every),
                "watts": thinned(series.watts[:, index], every),
                "grams_per_kwh": thinned(series.grams[:, index], every),
                "ready": {name: thinned(ready[:, index], every) for name, ready in series.ready.items()},
                "asked": {name: thinned(asked[:, index], every) for name, asked in series.asked.items()},
            }
            for index, one in enumerate(outcome.services)
        },
    }


def thinned(values: np.ndarray[Any, np.dtype[np.float64]], every: int) -> list[float]:
    """Means of `every` samples, and of those that are left over."""
    return [rounded(float(values[at : at + every].mean())) for at in range(0, len(values), every)]
