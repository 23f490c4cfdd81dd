"""What a policy wants to reach in the long run: reductions by a month, and amounts that may be used in a period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fallow.domain.units import Grams, Joules, Quantity


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


class Resource(StrEnum):
    """What a budget limits: operational emissions, location-based, or energy at the facility."""

    CARBON = "carbon"
    ENERGY = "energy"


class Remedy(StrEnum):
    """What may be done as a budget is used up."""

    PRECISION = "Precision"
    CAP_REPLICAS = "CapReplicas"
    THROTTLE = "Throttle"
    DEFER = "Defer"


@dataclass(frozen=True, slots=True)
class BurnStep:
    """What to do once a share of a budget is used: 1 is all of it."""

    at: float
    do: tuple[Remedy, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be used in a calendar period; at least one of the two is given. Energy is at the facility."""

    policy: str
    period: BudgetPeriod
    carbon: Grams | None = None
    energy: Joules | None = None
    on_burn: tuple[BurnStep, ...] = ()

    @property
    def limits(self) -> Mapping[Resource, Quantity]:
        """What is allowed of each resource that is limited."""
        named = {Resource.CARBON: self.carbon, Resource.ENERGY: self.energy}
        return {resource: amount for resource, amount in named.items() if amount is not None}
