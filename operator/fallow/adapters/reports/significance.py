"""What of a status is worth a write: at once, once it has settled, or only at the regular refresh.

Decisions, replicas and conditions cannot wait; states that flicker with the load can; figures and messages, which
change with every reading, wait for the refresh, so that a steady state writes nothing for minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

JSON = Mapping[str, Any]


class Grade(IntEnum):
    NOTHING = 0
    FIGURES = 1
    SETTLING = 2
    URGENT = 3


@dataclass(frozen=True, slots=True)
class Grading:
    """Paths of a status (dots between names, conditions by type) whose change can wait; all others are urgent.

    `shown` are figures that a person looks for: their first appearance does not wait for the refresh.
    """

    settling: frozenset[str] = frozenset()
    figures: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset({"summary"})

    def of(self, path: str, *, is_new: bool = False) -> Grade:
        if path.startswith("conditions.") and path.endswith(".message"):
            return Grade.FIGURES
        if is_new and _within(path, self.shown):
            return Grade.SETTLING
        if _within(path, self.figures):
            return Grade.FIGURES
        return Grade.SETTLING if _within(path, self.settling) else Grade.URGENT


PROPOSAL_FIGURES = frozenset(
    {f"proposal.{field}" for field in ("message", "savesWatts", "savesGramsPerHour", "savesMoneyPerHour")}
)
SERVICE = Grading(
    settling=frozenset(
        {"idle.state", "idle.since", "idle.quietSince", "conditions.ObjectivesMet", "standing.reason", "proposal"}
    ),
    figures=frozenset({"footprint", "summary", "idle.evidence", "standing", "work"} | PROPOSAL_FIGURES),
    shown=frozenset({"summary", "footprint.total.energyWh"}),
)
POLICY = Grading(
    settling=frozenset({"services", "pendingProposals", "conditions.WithinBudgets"}),
    figures=frozenset({"watts", "proposedSavingWatts", "summary", "budgets", "keptNodes"}),
    shown=frozenset({"summary", "budgets", "keptNodes"}),
)
ZONE = Grading(
    settling=frozenset({"intensity", "summary.intensity", "conditions.IntensityFresh", "conditions.ForecastFresh"}),
    figures=frozenset(
        {"intensity.at", "intensity.passedOver", "marginal", "forecast", "pue", "footprint"}
        | {"summary.marginal", "summary.unallocated"}
    ),
    shown=frozenset({"summary", "forecast", "pue", "footprint.total.energyWh"}),
)
PROFILE = Grading(
    settling=frozenset({"conditions.PointsAgree"}),
    figures=frozenset({"points", "pointCount", "bestJoulesPerToken", "summary", "contextWatts", "load"}),
    shown=frozenset({"summary", "points"}),
)


def difference(before: JSON, after: JSON, grading: Grading) -> Grade:
    """The gravest grade among the paths whose values differ."""
    old, new = dict(_flat(before)), dict(_flat(after))
    differing = (path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    return max((grading.of(path, is_new=path not in old) for path in differing), default=Grade.NOTHING)


def _flat(value: JSON, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in value.items():
        path = f"{prefix}{name}"
        if isinstance(part, Mapping):
            yield from _flat(part, f"{path}.")
        elif name == "conditions":
            for condition in part:
                yield from _flat(condition, f"{path}.{condition.get('type')}.")
        elif part not in ([], "", None):
            yield path, part


def _within(path: str, prefixes: frozenset[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)
