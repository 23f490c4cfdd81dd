"""Energy, water and carbon as statuses show them: one shape for every period, units in the names, bounds inside.

A figure that is not known is absent, and `missing` says why; it is never zero.
"""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.conditions import Figure, Time
from fallow.api.energy_model import EnergyModels, PhasesJoules, PhasesWattHours
from fallow.api.formats import Keyed, Line, Word
from fallow.api.model import StatusModel

Remarks = Annotated[list[Line], Field(max_length=16)]


class EnergyParts(StatusModel):
    """energyWh.best by what it was for; the parts add up to it. What is not certainly wasted counts as useful."""

    useful: float = Field(default=0, ge=0, description="While requests were in work, Wh; of other pods, while active.")
    underfilled: float = Field(
        default=0,
        ge=0,
        description="Share of a loaded GPU's level at rest that too few requests left unused, Wh. Zero where nothing "
        "says how many requests a replica should carry.",
    )
    loaded_idle: float = Field(
        default=0, ge=0, description="Drawn by a loaded engine without work on top of an empty GPU, Wh."
    )
    bare: float = Field(default=0, ge=0, description="What an empty GPU draws, while nothing was in work, Wh.")
    starting: float = Field(default=0, ge=0, description="From the start of pods until they were ready, Wh.")


class Cost(StatusModel):
    """What the electricity cost in one currency; currencies are never added together."""

    currency: Word = Field(description="ISO 4217 code.")
    amount: Figure = Field(description="Cost of facilityEnergyWh at the zone's price.")


class Tokens(StatusModel):
    """Tokens that went through the engines."""

    prompt: int = Field(default=0, ge=0, description="Prompt tokens, cached ones included.")
    cached_prompt: int | None = Field(
        default=None, ge=0, description="Prompt tokens taken from the prefix cache. Absent: none, or not counted."
    )
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
    phases: PhasesJoules | None = Field(
        default=None, description="energyJoules by what it went into. Absent without a model; models says why."
    )


class Sci(StatusModel):
    """Software Carbon Intensity (ISO/IEC 21031): (E x I + M) per R, gCO2e. Location-based, nothing subtracted."""

    per_token: Figure | None = Field(default=None, description="R is a generated token. Absent where there was none.")
    per_request: Figure | None = Field(default=None, description="R is a finished request. Absent: there was none.")
    per_service_hour: Figure | None = Field(default=None, description="R is an hour of the service, used or not.")


class Overhead(StatusModel):
    """Training and tuning by the declared lifetime of the model: SCI's provider score, in no other figure."""

    energy_joules_per_token: Figure | None = Field(
        default=None, description="Energy per generated token, joules. Absent: not declared."
    )
    carbon_grams_per_token: Figure | None = Field(
        default=None, description="Emissions per generated token, gCO2e. Absent: not declared."
    )


class AvoidedPart(StatusModel):
    """One cause of a difference. The parts add up to the whole, each replaced after the one before it."""

    cause: Literal["Replicas", "Rest", "Precision", "Other"] = Field(
        description="Replicas: fewer of them. Rest: none at all. Precision: another variant. Other: only the total is "
        "known, as with a baseline of joules per token."
    )
    energy_wh: Figure = Field(description="GPU energy avoided by it, Wh; negative where it cost more.")


class Avoided(StatusModel):
    """What was saved against a baseline that was fixed beforehand; negative where Fallow cost more.

    It is the difference between two figures and in no other figure of the footprint.
    """

    energy_wh: Figure | None = Field(default=None, description="GPU energy avoided, Wh.")
    carbon_grams: Figure | None = Field(
        default=None, description="Operational emissions avoided, gCO2e. Absent without an intensity."
    )
    baseline: Line = Field(default="", description="What was compared with, its version, and since when.")
    compared_energy_wh: float | None = Field(
        default=None,
        description="Part of energyWh.best of which the baseline's energy is known, Wh; the rest avoids nothing.",
    )
    baseline_energy_wh: Figure | None = Field(
        default=None, description="What the baseline would have used instead, Wh: comparedEnergyWh and energyWh."
    )
    parts: Annotated[list[AvoidedPart], Field(max_length=4), Keyed("cause")] = Field(
        default=[], description="energyWh by what made the difference; causes without any are left out."
    )
    demand_growth: float | None = Field(
        default=None,
        description="Growth of generated tokens per second since the baseline's first week, as a share: the rebound to "
        "read beside the savings. Absent in that week.",
    )


class Amounts(StatusModel):
    """What a period used. Every joule of a GPU is booked on exactly one line of exactly one period."""

    start: Time = Field(description="Start of the period, UTC.")
    end: Time | None = Field(default=None, description="End of a closed period. Absent: the period runs on.")
    energy_wh: Figure | None = Field(
        default=None, description="Energy at the GPU boundary, Wh, from the energy counter."
    )
    parts_wh: EnergyParts | None = Field(default=None, description="energyWh.best by what it was for, Wh.")
    idle_energy_wh: float | None = Field(
        default=None, ge=0, description="bare and loadedIdle together, Wh: used while no request was in work."
    )
    idle_share: float | None = Field(
        default=None, ge=0, le=1, description="idleEnergyWh as a share of energyWh.best, 0 to 1."
    )
    measured_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of energyWh.best that an energy counter measured, 0 to 1; the rest is modelled.",
    )
    host_energy_wh: Figure | None = Field(
        default=None, description="The GPUs' share of CPU, memory and fans, Wh; sources says whether it was measured."
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
    market_carbon_grams: Figure | None = Field(
        default=None,
        description="Operational emissions by contracts and certificates (market-based), gCO2e, beside carbonGrams and "
        "never in it. Absent where no zone gives a marketIntensity.",
    )
    unmarketed_energy_wh: float | None = Field(
        default=None,
        ge=0,
        description="Part of facilityEnergyWh without a market-based intensity, Wh; marketCarbonGrams leaves it out. "
        "Absent with marketCarbonGrams.",
    )
    water_millilitres: Figure | None = Field(
        default=None, description="Water consumed on site and at the power plants, millilitres."
    )
    embodied_grams: Figure | None = Field(
        default=None, description="Share of the hardware's manufacture for the time it was held, gCO2e."
    )
    cost: Annotated[list[Cost], Field(max_length=8)] = Field(
        default=[], description="Cost of the electricity by currency. Empty where no zone gives a price."
    )
    uncosted_energy_wh: float | None = Field(
        default=None,
        ge=0,
        description="Part of facilityEnergyWh without a price, Wh; cost leaves it out. Absent where there is no cost.",
    )


class Footprint(Amounts):
    """The footprint of a period, with what was served for it."""

    tokens: Tokens = Field(default=Tokens(), description="Tokens in the period.")
    requests: int = Field(default=0, ge=0, description="Requests finished in the period.")
    per_token: PerUnit | None = Field(
        default=None, description="Footprint per generated token. Absent where none was generated."
    )
    per_request: PerUnit | None = Field(
        default=None, description="Footprint per finished request. Absent where none was finished."
    )
    sci: Sci | None = Field(
        default=None,
        description="Software Carbon Intensity of the period. Absent where unpricedEnergyWh is above zero.",
    )
    phases: PhasesWattHours | None = Field(
        default=None, description="energyWh by what it went into. Absent without a model; models says why."
    )
    avoided: Avoided | None = Field(
        default=None, description="Savings against a baseline. Absent as long as none is recorded."
    )


class Footprints(StatusModel):
    """The footprint by period of the calendar."""

    as_of: Time = Field(
        description="Up to when these figures are booked. They are renewed every few minutes, in all statuses for the "
        "same moment, so that they can be added up."
    )
    time_zone: Word = Field(default="UTC", description="Time zone of the calendar.")
    last_hour: Footprint | None = Field(default=None, description="The last complete clock hour.")
    today: Footprint | None = Field(default=None, description="Since midnight.")
    yesterday: Footprint | None = Field(default=None, description="The last complete day.")
    this_month: Footprint | None = Field(default=None, description="Since the first of the month.")
    last_month: Footprint | None = Field(default=None, description="The last complete month.")
    total: Footprint | None = Field(
        default=None, description="Since Fallow first saw the service; it only grows, also across restarts."
    )
    overhead: Overhead | None = Field(
        default=None, description="Training and tuning per token. Absent where spec.overhead declares none."
    )
    models: EnergyModels = Field(default=[], description="What the energy of each variant follows, as learned here.")
    method: Line = Field(default="", description="Method and its version; docs/methodology.md has every formula.")
    sources: Remarks = Field(default=[], description="Where energy, intensity and factors came from, one per line.")
    missing: Remarks = Field(default=[], description="Figures that are absent or incomplete, each with the reason.")


class Lines(StatusModel):
    """Who used a zone's total; the four add up to it."""

    services: Amounts | None = Field(
        default=None, description="GPUs that pods of InferenceServices held; the services' own statuses add up to it."
    )
    foreign: Amounts | None = Field(default=None, description="GPUs that other pods held.")
    unallocated: Amounts | None = Field(default=None, description="GPUs that no pod held.")
    unattributed: Amounts | None = Field(default=None, description="GPUs of which it could not be told who held them.")


class ZoneFootprint(StatusModel):
    """All GPUs of the zone's nodes, whoever held them."""

    as_of: Time = Field(
        description="Up to when these figures are booked; the same moment as in the services' statuses while both are "
        "renewed in time."
    )
    today: Amounts | None = Field(default=None, description="Since midnight; of services by their own calendar.")
    this_month: Amounts | None = Field(
        default=None, description="Since the first of the month; of services by their own calendar."
    )
    total: Amounts | None = Field(default=None, description="Since Fallow first saw the zone's GPUs; it only grows.")
    lines: Lines = Field(default=Lines(), description="total by who held the GPUs.")
