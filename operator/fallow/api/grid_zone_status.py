"""The status of a GridZone: the present value and how near it is, the forecast and how good, the PUE in use."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.conditions import Conditions, Figure, Time
from fallow.api.footprint import ZoneFootprint
from fallow.api.formats import Line, Word
from fallow.api.intensity import Signal
from fallow.api.model import StatusModel

Tier = Literal["Live", "Estimated", "Cached", "Forecast", "Yearly", "Declared"]


class PassedOver(StatusModel):
    """A source that goes before the one in use, and why it is not in use."""

    source: Word = Field(description="The source, as under spec.intensity.")
    reason: Word = Field(description="One CamelCase word, such as RateLimited.")
    message: Line = Field(description="The reason in a sentence, with what to do.")


class IntensityReading(StatusModel):
    """The present carbon intensity."""

    grams_per_kwh: Figure = Field(alias="gramsPerKWh", description="Carbon intensity, gCO2e per kWh.")
    at: Time = Field(description="Time for which the value stands; its age is what matters.")
    source: Line = Field(description="Where it came from, with the dataset and year or the provider.")
    signal: Signal = Field(
        default="average", description="Average and marginal intensity answer different questions and are never mixed."
    )
    factor_type: Literal["lifecycle", "direct"] = Field(
        default="lifecycle", description="What the factors count: lifecycle or direct."
    )
    tier: Tier = Field(
        default="Live",
        description="How near it is to a measurement of now. Cached: the last known one, at most two hours old; "
        "Estimated: the provider's estimate; Yearly: a mean; Declared: written down by somebody.",
    )
    passed_over: Annotated[list[PassedOver], Field(max_length=8)] = Field(
        default=[], description="What would be better and is not available. Empty: this is the best that is declared."
    )


class ForecastPoint(StatusModel):
    """The expected carbon intensity at a time."""

    at: Time = Field(description="Start of the interval.")
    grams_per_kwh: Figure = Field(alias="gramsPerKWh", description="Expected carbon intensity, gCO2e per kWh.")


class ForecastError(StatusModel):
    """How far forecasts of one lead were off in the last seven days, since the operator's start at most."""

    lead_hours: float = Field(ge=0, description="How far ahead they looked, hours.")
    samples: int = Field(ge=0, description="Half-hours that were compared with a measured value.")
    error_grams_per_kwh: float = Field(
        alias="errorGramsPerKWh", ge=0, description="Mean absolute error, gCO2e per kWh."
    )
    yesterday_samples: int = Field(
        default=0, ge=0, description="Half-hours for which the value of 24 hours before was known as well."
    )
    yesterday_error_grams_per_kwh: float | None = Field(
        default=None,
        alias="yesterdayErrorGramsPerKWh",
        ge=0,
        description="Mean absolute error of taking the value of 24 hours before, over those. Absent: not known yet.",
    )
    beats_yesterday: bool | None = Field(
        default=None,
        description="Whether the forecast errs less than the value of 24 hours before, over the half-hours where both "
        "are known. Absent: fewer than 24 of them. Where it is false, do not plan by this forecast.",
    )


class ZoneForecast(StatusModel):
    """What is expected of the next 24 hours."""

    source: Line = Field(description="Where it came from.")
    signal: Signal = Field(default="average", description="What it forecasts, average or marginal.")
    issued_at: Time | None = Field(default=None, description="When it was made. Absent: its source does not say.")
    points: Annotated[list[ForecastPoint], Field(max_length=48)] = Field(
        default=[],
        description="Expected intensity, soonest first, by half-hours or longer. Bounds: 1.5 times the mean error of "
        "that lead, 25 % while that is not known.",
    )
    errors: Annotated[list[ForecastError], Field(max_length=8)] = Field(
        default=[], description="How good earlier forecasts were, by lead. Empty: nothing was measured since the start."
    )


class PueReading(StatusModel):
    """The power usage effectiveness in use."""

    ratio: Figure = Field(description="Facility energy over computer energy.")
    source: Line = Field(description="spec.pue, or the series; where the series is not known, why.")


class ZoneSummary(StatusModel):
    """Figures as short texts, for the columns of kubectl get."""

    intensity: Word = Field(default="", description="Present intensity, such as 381 g/kWh.")
    marginal: Word = Field(default="", description="Present marginal intensity, such as 512 g/kWh.")
    unallocated: Word = Field(default="", description="Draw of GPUs that nobody holds, such as 574 W.")


class GridZoneStatus(StatusModel):
    """The present value, its age, the forecast, and the GPUs that nobody uses."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation of the spec that Fallow last acted on."
    )
    conditions: Conditions = Field(
        default=[],
        description="Ready: an intensity is known. IntensityFresh: it is what the preferred source says now. "
        "ForecastFresh, where that source forecasts: the forecast can be read.",
    )
    intensity: IntensityReading | None = Field(
        default=None, description="The present carbon intensity. Absent: not known, and the condition says why."
    )
    marginal: IntensityReading | None = Field(
        default=None, description="The present marginal intensity. Absent: no source of it is declared, or not known."
    )
    forecast: ZoneForecast | None = Field(
        default=None, description="Expected intensity. Absent: the source gives none, or ForecastFresh says why."
    )
    pue: PueReading | None = Field(default=None, description="The power usage effectiveness in use.")
    nodes: int = Field(default=0, ge=0, description="Nodes in the zone.")
    gpus: int = Field(default=0, ge=0, description="GPUs on them.")
    footprint: ZoneFootprint | None = Field(
        default=None, description="Footprint of all GPUs of the zone, and who used it. Absent: nothing is booked yet."
    )
    summary: ZoneSummary | None = Field(default=None, description="Figures as short texts, for kubectl get.")
