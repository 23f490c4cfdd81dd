"""What a variant's energy follows, as learned from it, and the energy of a period by phase."""

from typing import Annotated

from pydantic import Field

from fallow.api.conditions import Figure
from fallow.api.formats import Keyed, Line, Word
from fallow.api.model import StatusModel


class PhasesWattHours(StatusModel):
    """Energy at the GPU by what it went into, by the step model; the best values add up to energyWh.best."""

    prefill_wh: Figure = Field(description="Computing prompt tokens; cached ones take none, Wh.")
    decode_wh: Figure = Field(description="Generating tokens, Wh.")
    steps_wh: Figure = Field(description="Engine iterations, however few tokens each of them gives, Wh.")
    standing_wh: Figure = Field(
        description="Everything else: standing loaded, starting, and what the model misses, Wh."
    )


class PhasesJoules(StatusModel):
    """Energy at the GPU of one unit by what it went into; the best values add up to energyJoules.best."""

    prefill_joules: Figure = Field(description="Computing prompt tokens, joules.")
    decode_joules: Figure = Field(description="Generating tokens, joules.")
    steps_joules: Figure = Field(description="Engine iterations, joules.")
    standing_joules: Figure = Field(description="Everything else, joules.")


class ConcurrencyPoint(StatusModel):
    """What was measured while a replica ran at one concurrency, idle moments within the minutes included."""

    concurrency: float = Field(ge=1, description="Requests in each engine iteration, mean of the bin.")
    joules_per_token: Figure = Field(description="GPU energy per generated token, joules.")
    joules_per_request: Figure | None = Field(
        default=None, description="GPU energy per finished request, joules. Absent: none finished."
    )
    tokens_per_second: float = Field(ge=0, description="Generated tokens per second of a replica.")
    watts: float = Field(ge=0, description="Mean power of all GPUs of a replica, watts.")
    windows: int = Field(ge=1, description="Minutes behind the point.")


class EnergyModel(StatusModel):
    """E = prefill x prompt tokens computed + decode x generated tokens + step x iterations + idle x time, learned."""

    variant: Word = Field(description="Name of the variant.")
    gpu_product: Word = Field(default="", description="GPU type on which it was measured last.")
    prefill_joules_per_token: Figure | None = Field(
        default=None, description="Joules a prompt token, 95 % interval; cached tokens take none. Absent: not known."
    )
    decode_joules_per_token: Figure | None = Field(
        default=None, description="Joules a generated token, 95 % interval. Absent: not known."
    )
    step_joules: Figure | None = Field(
        default=None, description="Joules an engine iteration, 95 % interval. Absent: not known."
    )
    idle_watts: Figure | None = Field(
        default=None, description="Draw of a loaded replica without work, watts. Absent: not known."
    )
    request_joules: Figure | None = Field(
        default=None, description="What today's mean request adds by the model, joules. Absent: not known."
    )
    spread: float | None = Field(
        default=None,
        ge=0,
        description="Standard deviation of the model's error on minutes that it had not seen, as a share.",
    )
    windows: int = Field(default=0, ge=0, description="Minutes that the model remembers.")
    refits: int = Field(default=0, ge=0, description="How often the energy drifted away and the model began anew.")
    points: Annotated[list[ConcurrencyPoint], Field(max_length=9)] = Field(
        default=[], description="Plain J per token and per request by concurrency, in bins of powers of two."
    )
    missing: Line = Field(default="", description="Why there is no model, and only J per token. Empty: there is one.")


EnergyModels = Annotated[list[EnergyModel], Field(max_length=32), Keyed("variant")]
