"""The table of any model on any GPU type, from the calibrated prediction of its decoding.

What was measured has the prefill of its chats within: the table has it apart, so that any mix of prompts and answers
can be asked for. In the mix that was measured both come to the same joules and tokens.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.calibration.hardware import GpuType
from fallow.twin.calibration.predict import Query, predicted, sequences_that_fit
from fallow.twin.calibration.store import shipped
from fallow.twin.calibration.tasks import USUAL_OUTPUT
from fallow.twin.physics.constants import GPUS, MAX_NUM_SEQS
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.table import EngineTable

# Of a GPU without a context against one with: mean of those measured (H100 .59, A100 .71, L40S .35, L4 .57).
BARE_SHARE = 0.56
# W while a model loads, of the way from context to design power: 150 W of 700 on H100, assumed.
LOADING_SHARE = 0.05
# Below 8 nothing is measured: watts go log-linearly to the physics' own figure at one request, at most this share of
# the one at 8. 300 of 486 W on H100 is that of a fleet-sim profile, where the fit extrapolates to 430-480 W; the lower
# figure makes packing look less useful.
SINGLE_SHARE = 0.62
SMALLEST_MEASURED = 8


def predicted_table(query: Query, *, slots: int = MAX_NUM_SEQS) -> EngineTable:
    """One replica of `query.gpus` GPUs. Raises DoesNotFit where the weights are larger than their memory."""
    calibration = shipped()
    batches = np.arange(1, slots + 1)
    found = predicted(calibration, query, [float(batch) for batch in batches])
    whole = np.array([one.watts_per_gpu.best.value for one in found])
    rate = np.array([one.tokens_per_second.best.value for one in found])
    by = calibration.coefficients_of(query.gpu, query.known)
    seconds = 2.0 * query.model.active / (query.gpus * query.gpu.flops * float(by.prefill_rate))
    prefill_watts = float(whole.max())
    # the share of time that went to prompts in the measured mix; what is left made the tokens and drew the rest
    prompt, output = _mix(query)
    prefill = np.clip(rate / output * prompt * seconds, 0.0, 0.5)
    step = np.maximum.accumulate(batches / rate * (1.0 - prefill))
    watts = np.clip((whole - prefill * prefill_watts) / (1.0 - prefill), query.gpu.idle, query.gpu.design)
    watts = _below_measured(np.maximum.accumulate(watts))
    context = query.gpu.idle
    return EngineTable(
        step=np.concatenate((step[:1], step)),
        watts=np.concatenate(([context], watts)) * query.gpus,
        prefill_rate=1.0 / seconds,
        prefill_watts=prefill_watts * query.gpus,
        slots=slots,
        cache=max(sequences_that_fit(query), 1.0) * _context(query),
        gpus=query.gpus,
        bare=bare_watts(query.gpu) * query.gpus,
        loading=(context + LOADING_SHARE * (query.gpu.design - context)) * query.gpus,
    )


def bare_watts(gpu: GpuType) -> float:
    """W of one GPU without any process, as measured, else by its idle watts."""
    known = next((spec for spec in GPUS.values() if spec.name.value == gpu.name), None)
    return known.bare if known is not None else gpu.idle * BARE_SHARE


def _mix(query: Query) -> tuple[float, float]:
    """Mean tokens of prompts and answers of the rows that the prediction stands on."""
    calibration = shipped()
    own = calibration.curve_of(query)
    usual = USUAL_OUTPUT[query.task] if own is None else own.output
    by = calibration.coefficients_of(query.gpu, query.known)
    return float(getattr(by, f"prompt_{query.task.value}")), query.output or usual


def _context(query: Query) -> float:
    """Tokens of each sequence that `sequences_that_fit` reckons with."""
    return query.context or (query.output or USUAL_OUTPUT[query.task]) / 2


def _below_measured(watts: Array) -> Array:
    """W by batch from 1: log-linear below the smallest measured one."""
    some = min(SMALLEST_MEASURED, len(watts))
    at = watts[some - 1]
    single = min(watts[0], SINGLE_SHARE * at)
    share = np.log2(np.arange(1, some + 1)) / np.log2(max(some, 2))
    return np.concatenate((single + share * (at - single), watts[some:]))
