"""How Fallow has engines started, beyond what their service declares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """`throttled`: its clocks fall while it has nothing to do. `step_tokens`: tokens of prompts and answers together
    that one step takes at most (vLLM's --max-num-batched-tokens); None: as the service declares, or vLLM's own.
    """

    throttled: bool = False
    step_tokens: int | None = None


PLAIN = Tuning()
