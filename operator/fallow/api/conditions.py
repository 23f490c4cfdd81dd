"""Standard conditions, times and bounded figures, as every status writes them."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from fallow.api.formats import Format, Keyed
from fallow.api.model import StatusModel
from fallow.domain.units import Instant

REASON = Format(r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "must be one CamelCase word such as AllReady")


def _to_seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, PlainSerializer(_to_seconds, return_type=str, when_used="json")]


def moment(instant: Instant) -> datetime:
    """An instant as statuses show it: UTC, whole seconds, so that the same instant always reads the same."""
    return datetime.fromtimestamp(int(instant), UTC)


def instant(moment_: datetime) -> Instant:
    """A time read from a status; one without a zone counts as UTC."""
    aware = moment_ if moment_.tzinfo else moment_.replace(tzinfo=UTC)
    return Instant(aware.timestamp())


class Condition(StatusModel):
    """One standard condition; positive polarity, so True is good news."""

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="What the condition is about, such as Ready."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False, or Unknown where Fallow cannot tell.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation of the spec that this condition speaks about."
    )
    last_transition_time: Time = Field(description="When status last changed its value.")
    reason: Annotated[str, Field(min_length=1, max_length=128), REASON] = Field(
        description="One CamelCase word that says why; the same word appears in Events, metrics and logs."
    )
    message: Annotated[str, Field(max_length=4096)] = Field(
        description="The reason in a sentence for people, with numbers."
    )


Conditions = Annotated[list[Condition], Field(max_length=16), Keyed("type")]


class Figure(StatusModel):
    """A figure with its bounds: low <= best <= high. The field's name carries the unit."""

    low: float = Field(description="Lower bound.")
    best: float = Field(description="Best estimate; use this one where a single number is needed.")
    high: float = Field(description="Upper bound.")
