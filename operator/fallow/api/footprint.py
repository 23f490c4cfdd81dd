"""Energy, water and carbon as statuses show them: one shape for every period, units in the names, bounds inside.

A figure that is not known is absent, and `missing` says why; it is never zero.
"""

from typing import Annotated

from pydantic import Field

from fallow.api.conditions import Figure, Time
from fallow.api.formats import Line
from fallow.api.model import StatusModel

Remarks = Annotated[list[Line], Field(max_length=16)]


class Tokens(StatusModel):
    """Tokens that went through the engines."""

    prompt: int = Field(default=0, ge=0, description="Prompt tokens, cached ones included.")
    generated: int = Field(default=0, ge=0, description="Generated tokens.")


class PerUnit(StatusModel):
    """The footprint of one unit of service, the energy of idle time included."""

    energy_joules: Figure | None = Field(default=None, description="Energy at the GPU, joules. Absent without a unit.")
    carbon_grams: Figure | None = Field(
        default=None, description="Operational emissions at the facility, gCO2e. Absent without an intensity."
    )
    water_millilitres: Figure | None = Field(
        default=None, description="Water consumed, millilitres. Absent without water factors."
    )


class Avoided(StatusModel):
    """What was saved against a baseline that was fixed beforehand; negative where Fallow cost more."""

    energy_wh: Figure | None = Field(default=None, description="GPU energy avoided, Wh.")
    carbon_grams: Figure | None = Field(default=None, description="Operational emissions avoided, gCO2e.")
    baseline: Line = Field(default="", description="What was compared with, and since when.")


class Footprint(StatusModel):
    """The footprint of a period. Every joule of a GPU is booked on exactly one line of exactly one period."""

    start: Time = Field(description="Start of the period, UTC.")
    end: Time | None = Field(default=None, description="End of a closed period. Absent: the period runs on.")
    energy_wh: Figure | None = Field(
        default=None, description="Energy at the GPU boundary, Wh, from the energy counter."
    )
    idle_energy_wh: float | None = Field(
        default=None, ge=0, description="Part of energyWh.best used while no request was in work, Wh."
    )
    idle_share: float | None = Field(
        default=None, ge=0, le=1, description="idleEnergyWh as a share of energyWh.best, 0 to 1."
    )
    facility_energy_wh: Figure | None = Field(
        default=None, description="Energy of GPUs and their share of the host, times PUE, Wh."
    )
    unpriced_energy_wh: float | None = Field(
        default=None,
        ge=0,
        description="Part of facilityEnergyWh for which no carbon intensity was known, Wh; carbonGrams leaves it out.",
    )
    unwatered_energy_wh: float | None = Field(
        default=None,
        ge=0,
        description="Part of facilityEnergyWh for which a water factor was not known, Wh; waterMillilitres leaves out "
        "what is not known.",
    )
    carbon_grams: Figure | None = Field(
        default=None, description="Operational emissions of facilityEnergyWh, location-based, gCO2e."
    )
    water_millilitres: Figure | None = Field(
        default=None, description="Water consumed on site and at the power plants, millilitres."
    )
    embodied_grams: Figure | None = Field(
        default=None, description="Share of the hardware's manufacture for the time it was held, gCO2e."
    )
    tokens: Tokens = Field(default=Tokens(), description="Tokens in the period.")
    requests: int = Field(default=0, ge=0, description="Requests finished in the period.")
    per_token: PerUnit | None = Field(
        default=None, description="Footprint per generated token. Absent where none was generated."
    )
    per_request: PerUnit | None = Field(
        default=None, description="Footprint per finished request. Absent where none was finished."
    )
    avoided: Avoided | None = Field(
        default=None, description="Savings against a baseline. Absent as long as none is recorded."
    )


class Footprints(StatusModel):
    """The footprint by period, calendar in UTC."""

    as_of: Time = Field(description="When these figures were written; they are renewed every few minutes.")
    last_hour: Footprint | None = Field(default=None, description="The last complete clock hour.")
    today: Footprint | None = Field(default=None, description="Since midnight UTC.")
    this_month: Footprint | None = Field(default=None, description="Since the first of the month, UTC.")
    total: Footprint | None = Field(
        default=None, description="Since Fallow first saw the service; it only grows, also across restarts."
    )
    method: Line = Field(default="", description="Method and its version; docs/methodology.md has every formula.")
    sources: Remarks = Field(default=[], description="Where energy, intensity and factors came from, one per line.")
    missing: Remarks = Field(default=[], description="Figures that are absent or incomplete, each with the reason.")
