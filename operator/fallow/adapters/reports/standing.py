"""Conditions as statuses keep them: the time of the last transition stays until `status` changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fallow.adapters.reports.texts import line
from fallow.api.conditions import Condition as Shown
from fallow.api.conditions import moment
from fallow.domain.plans import Condition
from fallow.domain.units import Instant

JSON = Mapping[str, Any]
LONGEST_MESSAGE = 4096


def shown(conditions: Iterable[Condition], before: JSON, generation: int, now: Instant) -> list[Shown]:
    """The conditions with their times, from the status as it was written before."""
    known = {part["type"]: part for part in before.get("conditions") or () if "type" in part}
    return [_shown(condition, known.get(condition.type), generation, now) for condition in conditions]


def _shown(condition: Condition, known: JSON | None, generation: int, now: Instant) -> Shown:
    status = _word(condition.status)
    unchanged = known is not None and known.get("status") == status
    at: Any = known.get("lastTransitionTime") if known is not None and unchanged else None
    return Shown(
        type=condition.type,
        status=status,
        observed_generation=generation,
        last_transition_time=at or moment(now),
        reason=str(condition.reason),
        message=line(condition.message, LONGEST_MESSAGE),
    )


def _word(status: bool | None) -> Literal["True", "False", "Unknown"]:
    if status is None:
        return "Unknown"
    return "True" if status else "False"
