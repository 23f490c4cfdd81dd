"""The law of one engine as arrays over its batch, so that many engines are looked up at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.twin.physics.engine import EngineLimits
from fallow.twin.physics.laws import Law

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EngineTable:
    """One replica, over batches 0, 1, 2 and so on up to `slots`; watts are those of all its GPUs together.

    `step`: seconds of a decode step without prefill; at batch 0 as at 1. `watts`: while so many decode; at 0 loaded and
    idle. `prefill_rate`: prompt tokens per second, drawing `prefill_watts`. `slots`: requests at most in work at once,
    `cache`: tokens that fit into its KV cache. `bare`, `loading`: W without a context, and while it loads.
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

    @property
    def context(self) -> float:
        """W of a loaded engine without work."""
        return float(self.watts[0])


def table_of(law: Law, limits: EngineLimits | None = None) -> EngineTable:
    limits = limits or EngineLimits()
    batches = range(limits.max_num_seqs + 1)
    gpus = law.tensor_parallel
    return EngineTable(
        step=np.array([law.step_seconds(max(batch, 1)) for batch in batches]),
        watts=np.array([law.watts(batch) * gpus for batch in batches]),
        prefill_rate=law.prefill_rate,
        prefill_watts=law.prefill_watts * gpus,
        slots=limits.max_num_seqs,
        cache=float(law.kv_tokens),
        gpus=gpus,
        bare=law.gpu.bare * gpus,
        loading=law.gpu.loading * gpus,
    )
