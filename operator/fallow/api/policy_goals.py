"""What an EnergyPolicy is to reach: budgets, with what is done as they are used up, and targets in the long run."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.amounts import CarbonMass, EnergyAmount
from fallow.api.formats import Distinct
from fallow.api.model import ApiModel, Rule
from fallow.api.windows import Month

Remedy = Literal["Precision", "CapReplicas", "Throttle", "Defer"]


class Burn(ApiModel):
    """What to do once a share of the budget is used."""

    at: float = Field(gt=0, le=2, description="Share of the budget, such as 0.8.")
    do: Annotated[list[Remedy], Field(min_length=1, max_length=4), Distinct()] = Field(
        description="What is done from there on until the period ends, in mode Enforce. Precision: a lesser variant "
        "serves, as if a tier of precision asked for it. CapReplicas: no more replicas than what is left pays for to "
        "the period's end, at least scaling.minReplicas and one. Throttle: as in idle.ladder. Defer is recorded and "
        "not acted on in this version."
    )


class Budget(ApiModel):
    """An amount that may be used in a period."""

    rules = (
        Rule(
            "has(self.carbon) || has(self.energy)",
            lambda b: b.carbon is not None or b.energy is not None,
            "budgets must give carbon (such as 900kg) or energy (such as 1.5MWh) in each entry",
        ),
        Rule(
            "self.onBurn.all(b, self.onBurn.exists_one(c, c.at == b.at))",
            lambda b: len({step.at for step in b.on_burn}) == len(b.on_burn),
            "onBurn must have a different at in each entry; merge the entries with the same share",
            ".onBurn",
        ),
    )

    period: Literal["Day", "Week", "Month", "Quarter", "Year"] = Field(
        description="Calendar period in which it is used up, by the midnights of timeZone; weeks begin on Monday."
    )
    carbon: CarbonMass | None = Field(
        default=None, description="Operational emissions allowed, such as 900kg. Absent: any."
    )
    energy: EnergyAmount | None = Field(
        default=None, description="Facility energy allowed, such as 1.5MWh. Absent: any."
    )
    on_burn: Annotated[list[Burn], Field(max_length=8)] = Field(
        default=[], description="What to do as the budget is used up. Empty: only report."
    )


class Target(ApiModel):
    """A reduction to reach in the long run."""

    rules = (
        Rule(
            "self.from < self.by",
            lambda t: t.from_ < t.by,
            "targets must have a by that is later than from, such as from: 2026-01 and by: 2027-01",
            ".by",
        ),
    )

    metric: Literal[
        "energyPerToken", "carbonPerToken", "waterPerToken", "energyPerRequest", "carbonPerRequest", "energy", "carbon"
    ] = Field(description="What is to become less.")
    reduce: float = Field(gt=0, le=1, description="Share by which it is to fall, such as 0.30.")
    from_: Month = Field(alias="from", description="Month to compare with, such as 2026-01.")
    by: Month = Field(description="Month by which the target is to be reached, such as 2027-01.")
