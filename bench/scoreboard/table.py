"""Rows of the scoreboard, and the same as a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.scoreboard.work import ATTAINMENT, Rows
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.result import Outcome

# After the name of who may use all levers.
ALL = ", all levers"


def rows_of(outcome: Outcome, rows: Rows, bounds: Array) -> list[dict[str, Any]]:
    found = []
    for index, one in enumerate(outcome.services):
        energy = one.energy.value
        found.append(
            {
                "controller": outcome.controller,
                "trace": rows.traces[index],
                "seed": rows.seeds[index],
                "energy_joules": energy,
                "good_tokens": one.good_tokens,
                "requests": round(one.requests),
                "attainment": one.attainment,
                "replica_hours": sum(one.replica_hours.values()),
                "carbon_g": one.carbon.value,
                "decisions": sum(1 for decided in outcome.decisions if decided.service == one.service),
                "starts": one.starts,
                "joules_per_good_token": one.joules_per_good_token,
                "schedule_oracle_joules": float(bounds[index, 2]),
                "over_schedule_oracle": energy / float(bounds[index, 2]) - 1.0,
            }
        )
    return found


def bound_rows(rows: Rows, bounds: Array, requests: Array, output: Array, which: str = "") -> list[dict[str, Any]]:
    """The floor and the oracles as rows of their own; they serve every request of the demand in time. By service the
    `requests`, and the mean tokens of their answers.
    """
    found = []
    for column, name in enumerate(("floor", "integer oracle", "schedule oracle")):
        for index, (count, tokens) in enumerate(zip(requests, output, strict=True)):
            found.append(
                {
                    "controller": name + which,
                    "trace": rows.traces[index],
                    "seed": rows.seeds[index],
                    "energy_joules": float(bounds[index, column]),
                    "good_tokens": float(count * tokens),
                    "requests": round(float(count)),
                    "attainment": 1.0,
                    "replica_hours": None,
                    "carbon_g": None,
                    "decisions": None,
                }
            )
    return found


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for each trace: medians over seeds, in the order of energy per token in time."""
    parts = []
    for trace in dict.fromkeys(row["trace"] for row in rows):
        mine = [row for row in rows if row["trace"] == trace]
        names = list(dict.fromkeys(row["controller"] for row in mine))
        base = {name: [row for row in mine if row["controller"] == name] for name in names}
        seeds = len({row["seed"] for row in mine})
        parts.append(f"### {trace} ({seeds} seed{'s' if seeds > 1 else ''}, medians)\n")
        parts.append(
            "| controller | kWh | J per token in time | in time | over the oracle | replica h | starts | changes |"
        )
        parts.append("|---|---|---|---|---|---|---|---|")
        for name in sorted(names, key=lambda name: _middle(base[name], "energy_joules") or 0.0):
            found = base[name]
            kept = _middle(found, "attainment")
            gap = _middle(found, "over_schedule_oracle")
            good = _middle(found, "good_tokens") or 0.0
            energy = _middle(found, "energy_joules") or 0.0
            cells = [
                name,
                f"{energy / 3.6e6:.1f}",
                f"{energy / good if good else 0:.3f}",
                "-" if kept is None else f"{kept:.2%}{' !' if kept < ATTAINMENT else ''}",
                "-" if gap is None else f"{gap:+.0%}",
                *(_whole(found, column) for column in ("replica_hours", "starts", "decisions")),
            ]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def _middle(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return median(values) if values else None


def _whole(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    value = _middle(rows, name)
    return "-" if value is None else f"{value:,.0f}"
