"""A request on its way through a simulated engine, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fallow.domain.workloads import ServiceKey


class FinishReason(StrEnum):
    """The values of vLLM's label `finished_reason`, in its order."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"
    REPETITION = "repetition"


NOT_DECODING = -1


@dataclass(slots=True, eq=False)
class Request:
    """Times are seconds on the engine's clock; None until it happened.

    `created` is when the client sent it, `arrived` when this engine got it: a held request has waited in between.
    `kept` tokens were generated before it was preempted last; they are computed again with its prompt.
    """

    created: float
    prompt: int
    output: int
    ends_with: FinishReason = FinishReason.STOP
    arrived: float = 0.0
    cached: int = 0
    to_compute: int = 0
    admitted: float | None = None
    first_token: float | None = None
    finished: float | None = None
    reason: FinishReason | None = None
    first_step: int = NOT_DECODING
    generated: int = 0
    kept: int = 0
    preempted: int = 0
    service: ServiceKey | None = None

    @property
    def context(self) -> int:
        """Tokens to be in the cache before the next one is made."""
        return self.prompt + self.kept

    @property
    def ttft(self) -> float | None:
        """As the client sees it: from sending, holding included."""
        return None if self.first_token is None else self.first_token - self.created

    @property
    def mean_itl(self) -> float | None:
        """Mean time between its tokens; None for answers of one token."""
        if self.finished is None or self.first_token is None or self.output < 2:
            return None
        return (self.finished - self.first_token) / (self.output - 1)
