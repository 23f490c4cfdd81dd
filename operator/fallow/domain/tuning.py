"""How Fallow has engines started, beyond what their service declares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What an engine takes at once: requests in work, and tokens of prompts and answers in one step.

    They bound how long a step takes, and so the time between two tokens; what comes beyond them waits.
    """

    max_num_seqs: int
    max_num_batched_tokens: int

    def __str__(self) -> str:
        return f"at most {self.max_num_seqs} requests at once and {self.max_num_batched_tokens} tokens in a step"


@dataclass(frozen=True, slots=True)
class Tuning:
    """`throttled`: its clocks fall while it has nothing to do. `limits`: None for those of vLLM or of the service."""

    throttled: bool = False
    limits: SchedulerLimits | None = None


PLAIN = Tuning()
