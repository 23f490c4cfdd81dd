"""How far a budget is used: the amount, what of it was used since its period began, and which of its steps are reached.

Amounts are in the unit of their resource: grams for carbon, joules for energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fallow.domain.figures import Missing
from fallow.domain.goals import BudgetPeriod, BurnStep, Resource
from fallow.domain.units import JOULES_PER_KWH, Instant, Seconds

# what budgets are told in, and how many grams or joules that is
UNITS: Mapping[Resource, tuple[str, float]] = {
    Resource.CARBON: ("kgCO2e", 1e3),
    Resource.ENERGY: ("kWh", JOULES_PER_KWH),
}


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """One amount of a policy's budget in the present period, `start` to `end`; best values.

    The books tell of it `until` then; `pace` is what was used in a second over the last hour or two before.
    """

    policy: str
    period: BudgetPeriod
    resource: Resource
    start: Instant
    end: Instant
    until: Instant
    allowed: float
    used: float | Missing
    pace: float = 0.0
    steps: tuple[BurnStep, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.period} {self.resource} budget"

    @property
    def share(self) -> float | Missing:
        """1 is all of it."""
        return self.used if isinstance(self.used, Missing) else self.used / self.allowed

    @property
    def left(self) -> float:
        """Nothing where it is not known: ask `used` before."""
        return 0.0 if isinstance(self.used, Missing) else max(self.allowed - self.used, 0.0)

    @property
    def active(self) -> tuple[BurnStep, ...]:
        """The steps that are reached; none where the use is not known."""
        share = self.share
        return () if isinstance(share, Missing) else tuple(step for step in self.steps if share >= step.at)

    @property
    def seconds_left(self) -> Seconds:
        """From when the books tell of, so that what is left and the time for it belong together."""
        return Seconds(max(self.end - self.until, 1.0))

    @property
    def projected(self) -> float | Missing:
        """The share at the end of the period, should the pace stay."""
        if isinstance(self.used, Missing):
            return self.used
        return (self.used + self.pace * self.seconds_left) / self.allowed

    @property
    def words(self) -> str:
        """Such as: 81 % of the Month carbon budget is used (729 of 900 kgCO2e)."""
        if isinstance(self.used, Missing):
            return f"how much of the {self.name} is used is not known: {self.used}"
        unit, size = UNITS[self.resource]
        share = f"{self.used / self.allowed * 100:.3g} %"
        return f"{share} of the {self.name} is used ({self.used / size:.3g} of {self.allowed / size:.3g} {unit})"
