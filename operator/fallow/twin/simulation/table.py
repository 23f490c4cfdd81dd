"""The law of one engine as arrays over its batch, so that many engines are looked up at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from fallow.domain.clocks import LOWEST_CLOCK, SLOWED_READING, STEADY_SHARE, reading_at
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.constants import CHUNK_TOKENS, RAMP_SECONDS
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.physics.laws import Law
from fallow.twin.physics.loading import wake_seconds

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EngineTable:
    """One replica, over batches 0, 1, 2 and so on up to `slots`; watts are those of all its GPUs together.

    `step`: seconds of a decode step without prefill; at batch 0 as at 1. `watts`: while so many decode; at 0 loaded and
    idle. `prefill_rate`: prompt tokens per second, drawing `prefill_watts`. `slots`: requests at most in work at once,
    `cache`: tokens that fit into its KV cache. `bare`, `loading`: W without a context, and while it loads or wakes.
    `wake`: seconds until it serves, from sleep level 1 and from level 2. `ramp`: seconds that a first request takes
    longer where the clocks had fallen. `chunk`: tokens of prompts and answers in one step at most; each step with a
    prompt, or with a piece of one, takes `piece` seconds besides its tokens.
    """

    step: Array
    watts: Array
    prefill_rate: float
    prefill_watts: float
    slots: int
    cache: float
    gpus: int
    bare: float
    loading: float
    wake: tuple[float, float]
    ramp: float = RAMP_SECONDS
    chunk: float = CHUNK_TOKENS
    piece: float = 0.0

    @property
    def context(self) -> float:
        """W of a loaded engine without work."""
        return float(self.watts[0])

    def prompt_seconds(self, tokens: Array | float) -> Array:
        """What a prompt with so many tokens to compute adds to a step."""
        return np.asarray(tokens / self.prefill_rate + self.piece)

    def at_clock(self, share: float) -> EngineTable:
        """With the SM clock locked at a share of the highest, .4 to 1: compute is slower, reading weights hardly.

        The part of a step that grows with the batch takes 1 / share as long, the rest 10 % of that more; what is drawn
        beyond the context falls with the square of the clock but for STEADY_SHARE of it, which fits -47..-90 W at .39
        on H200 (arXiv 2605.11999).
        """
        return self if share == 1.0 else self._slowed(share, share)

    def under_cap(self, watts: float) -> EngineTable:
        """With the power of each GPU capped: at every batch the highest clock that keeps to it.

        Where the lowest clock draws more than the cap, the GPU stands still for part of the time (power brake).
        Raises ValueError for a cap that an idle engine exceeds.
        """
        above = watts * self.gpus - self.context
        if above <= 0:
            raise ValueError(f"a cap of {watts:g} W is not above the {self.context / self.gpus:g} W of an idle engine")
        prompts = _clock(np.array([self.prefill_watts - self.context]), above)
        return self._slowed(_clock(self.watts - self.context, above), float(prompts[0]), above)

    def among(self, copies: int) -> EngineTable:
        """The least that a replica draws on a GPU of which so many copies are in use: its part of what all have without
        work, and all that goes beyond it. It is never quicker than alone.
        """
        spared = self.context * (1.0 - 1.0 / copies)
        if spared == 0.0:
            return self
        return replace(
            self,
            watts=self.watts - spared,
            prefill_watts=self.prefill_watts - spared,
            bare=self.bare / copies,
            loading=self.loading - spared,
        )

    def _slowed(self, share: Array | float, prompts: float, above: float = inf) -> EngineTable:
        """At shares of the highest clock, by batch and for prompts; what would be drawn beyond `above` W over the
        context is not, and takes as much longer.
        """
        alone = self.step[0]
        step = alone * (1.0 + SLOWED_READING * (1.0 / share - 1.0)) + (self.step - alone) / share
        drawn = (self.watts - self.context) * _drawn(share)
        prompting = (self.prefill_watts - self.context) * float(_drawn(prompts))
        return replace(
            self,
            step=step * np.maximum(drawn / above, 1.0),
            watts=self.context + np.minimum(drawn, above),
            prefill_rate=self.prefill_rate * prompts / max(prompting / above, 1.0),
            prefill_watts=self.context + min(prompting, above),
            piece=self.piece * reading_at(prompts),
        )


def _drawn(share: Array | float) -> Array | float:
    """W above the context at a share of the highest clock, of those at the highest."""
    return STEADY_SHARE + (1.0 - STEADY_SHARE) * share**2


def _clock(drawn: Array, above: float) -> Array:
    """As a share of the highest: what keeps W above the context to `above`, as far as clocks can."""
    allowed = above / np.maximum(drawn, above)
    return np.asarray(np.sqrt(np.maximum((allowed - STEADY_SHARE) / (1.0 - STEADY_SHARE), LOWEST_CLOCK**2)))


def table_of(law: Law, limits: EngineLimits | None = None, *, context: float | None = None) -> EngineTable:
    """Where each running request holds `context` tokens in the mean; None: as many as where the law was measured."""
    limits = limits or EngineLimits()
    batches = range(1, limits.max_num_seqs + 1)
    step = np.array([law.step_seconds(batch, context) for batch in batches])
    watts = np.array([law.watts(batch, context) for batch in batches])
    gpus = law.tensor_parallel
    return EngineTable(
        step=np.concatenate((step[:1], step)),
        watts=np.concatenate(([law.gpu.context], watts)) * gpus,
        prefill_rate=law.prefill_rate,
        prefill_watts=law.prefill_watts * gpus,
        slots=limits.max_num_seqs,
        cache=float(law.kv_tokens),
        gpus=gpus,
        bare=law.gpu.bare * gpus,
        loading=law.gpu.loading * gpus,
        wake=wakes_of(law.model.shape.parameters, law.precision),
        ramp=law.gpu.ramp,
        chunk=limits.chunk_tokens,
        piece=law.prompt_seconds,
    )


def wakes_of(parameters: float, precision: Precision) -> tuple[float, float]:
    """Seconds from each sleep level."""
    return wake_seconds(parameters, precision, 1), wake_seconds(parameters, precision, 2)
