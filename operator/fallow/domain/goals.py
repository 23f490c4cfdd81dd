"""What a policy wants to reach in the long run: reductions by a month, and amounts that may be used in a period."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fallow.domain.units import Grams, Joules


class Measure(StrEnum):
    """What a target is about."""

    ENERGY_PER_TOKEN = "energyPerToken"  # noqa: S105 - tokens of a model
    CARBON_PER_TOKEN = "carbonPerToken"  # noqa: S105 - tokens of a model
    WATER_PER_TOKEN = "waterPerToken"  # noqa: S105 - tokens of a model
    ENERGY_PER_REQUEST = "energyPerRequest"
    CARBON_PER_REQUEST = "carbonPerRequest"
    ENERGY = "energy"
    CARBON = "carbon"


class BudgetPeriod(StrEnum):
    DAY = "Day"
    WEEK = "Week"
    MONTH = "Month"
    QUARTER = "Quarter"
    YEAR = "Year"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A reduction of `reduce` (0..1) between two months, each written YYYY-MM."""

    policy: str
    measure: Measure
    reduce: float
    since: str
    by: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be used in a calendar period; at least one of the two is given. Energy is at the facility."""

    policy: str
    period: BudgetPeriod
    carbon: Grams | None = None
    energy: Joules | None = None
