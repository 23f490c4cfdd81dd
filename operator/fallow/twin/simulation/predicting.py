"""The table of any model on any GPU type: what the law of the event engine is made of, for the fast clock."""

from __future__ import annotations

import numpy as np

from fallow.twin.calibration.hardware import GpuType
from fallow.twin.calibration.predict import Query
from fallow.twin.physics.calibrated import BATCHES, apart, cache_tokens
from fallow.twin.physics.constants import GPUS, MAX_NUM_SEQS, RAMP_SECONDS, GpuSpec
from fallow.twin.simulation.table import EngineTable, wakes_of

# Of a GPU without a context against one with: mean of those measured (H100 .59, A100 .71, L40S .35, L4 .57).
BARE_SHARE = 0.56
# W while a model loads, of the way from context to design power: 150 W of 700 on H100, assumed.
LOADING_SHARE = 0.05


def predicted_table(query: Query, *, slots: int = MAX_NUM_SEQS) -> EngineTable:
    """One replica of `query.gpus` GPUs. Raises DoesNotFit where the weights are larger than their memory."""
    one, context = apart(query), query.gpu.idle
    batches = np.arange(1.0, slots + 1)
    step, watts = np.interp(batches, BATCHES, one.step), np.interp(batches, BATCHES, one.watts)
    return EngineTable(
        step=np.concatenate((step[:1], step)),
        watts=np.concatenate(([context], watts)) * query.gpus,
        prefill_rate=one.prefill_rate,
        prefill_watts=one.prefill_watts * query.gpus,
        slots=slots,
        cache=max(cache_tokens(query), 1.0),
        gpus=query.gpus,
        bare=bare_watts(query.gpu) * query.gpus,
        loading=(context + LOADING_SHARE * (query.gpu.design - context)) * query.gpus,
        wake=wakes_of(query.model.parameters, query.precision),
        ramp=known.ramp if (known := spec_of(query.gpu)) is not None else RAMP_SECONDS,
        piece=one.prompt_seconds,
    )


def bare_watts(gpu: GpuType) -> float:
    """W of one GPU without any process, as measured, else by its idle watts."""
    known = spec_of(gpu)
    return known.bare if known is not None else gpu.idle * BARE_SHARE


def spec_of(gpu: GpuType) -> GpuSpec | None:
    """What is known of it beside its data sheet, where anything is."""
    return next((spec for spec in GPUS.values() if spec.name.value == gpu.name), None)
