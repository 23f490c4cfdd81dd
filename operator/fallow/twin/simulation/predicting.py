"""The table of any model on any GPU type: what the law of the event engine is made of, for the fast clock."""

from __future__ import annotations

import numpy as np

from fallow.twin.calibration.hardware import GpuType
from fallow.twin.calibration.predict import DoesNotFit, Query, require_room
from fallow.twin.calibration.tasks import WEIGHT_BYTES
from fallow.twin.physics.calibrated import BATCHES, LEAST_CACHE, apart, cache_tokens, in_part
from fallow.twin.physics.constants import GPUS, MAX_NUM_SEQS, RAMP_SECONDS, GpuSpec
from fallow.twin.physics.parts import Profile
from fallow.twin.simulation.table import EngineTable, wakes_of

# Of a GPU without a context against one with: mean of those measured (H100 .59, A100 .71, L40S .35, L4 .57).
BARE_SHARE = 0.56
# W while a model loads, of the way from context to design power: 150 W of 700 on H100, assumed.
LOADING_SHARE = 0.05


def predicted_table(query: Query, *, slots: int = MAX_NUM_SEQS, part: Profile | None = None) -> EngineTable:
    """One replica of `query.gpus` GPUs, or of such MIG instances of them. Raises DoesNotFit where the weights are
    larger than their memory, or leave none for a cache in an instance.
    """
    own = in_part(query, part)
    if part is not None:
        _require_cache(own, part)
    one, context = apart(query, part), own.gpu.idle
    batches = np.arange(1.0, slots + 1)
    step, watts = np.interp(batches, BATCHES, one.step), np.interp(batches, BATCHES, one.watts)
    return EngineTable(
        step=np.concatenate((step[:1], step)),
        watts=np.concatenate(([context], watts)) * query.gpus,
        prefill_rate=one.prefill_rate,
        prefill_watts=one.prefill_watts * query.gpus,
        slots=slots,
        cache=max(cache_tokens(own), 1.0),
        gpus=query.gpus,
        bare=bare_watts(query.gpu, part) * query.gpus,
        loading=(context + LOADING_SHARE * (own.gpu.design - context)) * query.gpus,
        wake=wakes_of(query.model.parameters, query.precision),
        ramp=known.ramp if (known := spec_of(query.gpu)) is not None else RAMP_SECONDS,
        piece=one.prompt_seconds,
    )


def _require_cache(own: Query, part: Profile) -> None:
    try:
        require_room(own)
        tokens = cache_tokens(own)
    except DoesNotFit:
        tokens = 0.0
    if tokens < LEAST_CACHE:
        weights = own.model.parameters * WEIGHT_BYTES[own.precision]
        raise DoesNotFit(
            f"{weights / 1e9:.0f} GB of weights leave no room for a cache in a MIG instance {part.name}: write a larger"
            " profile, whole GPUs or a smaller precision"
        )


def bare_watts(gpu: GpuType, part: Profile | None = None) -> float:
    """W of one GPU without any process, as measured, else by its idle watts; of an instance its share of them."""
    known = spec_of(gpu)
    return (known.bare if known is not None else gpu.idle * BARE_SHARE) * (1.0 if part is None else part.share)


def spec_of(gpu: GpuType) -> GpuSpec | None:
    """What is known of it beside its data sheet, where anything is."""
    return next((spec for spec in GPUS.values() if spec.name.value == gpu.name), None)
