"""The law of any model on any GPU type, from the calibrated prediction of its decoding.

What was measured has the prompts of its chats within: here they are taken apart, so that any mix of prompts and answers
can be asked for. In the mix that was measured both come to the same joules and tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf

import numpy as np

from fallow.domain.slices import MEMORY_SLICES
from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.bounds import Basis
from fallow.twin.calibration.physics import Array
from fallow.twin.calibration.predict import DoesNotFit as TooLarge
from fallow.twin.calibration.predict import Prediction, Query, predicted, require_room, sequences_that_fit
from fallow.twin.calibration.store import shipped
from fallow.twin.calibration.tasks import USUAL_OUTPUT, Precision
from fallow.twin.physics.constants import (
    DENSE_FP8_ON_HOPPER,
    GPUS,
    INT4_ON_HOPPER,
    PREFILL_RATIO,
    Gpu,
    RatioPoint,
)
from fallow.twin.physics.laws import DoesNotFit, Law, Surface, Values
from fallow.twin.physics.models import ModelSpec, model_meant
from fallow.twin.physics.parts import Profile, part_of

# Where a law is tabulated: batches, and contexts as multiples of the usual one.
BATCHES = np.array(
    [1, 2, 3, 4, 6, *(2.0**octave * part for octave in range(3, 12) for part in (1, 1.25, 1.5, 1.75)), 4096]
)
CONTEXTS = (0.125, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 128.0)
# Below 8 nothing is measured: watts go log-linearly to the physics' own figure at one request, at most this share of
# the one at 8. 300 of 486 W on H100 is that of a fleet-sim profile, where the fit extrapolates to 430-480 W; the lower
# figure makes packing look less useful.
SMALLEST_MEASURED = 8.0
SINGLE_SHARE = 0.62
# Batches at which steps with prompts are compared with those without.
COMPARED = np.isin(BATCHES, (16, 32, 64, 128, 256))
# Prompts never took more of the time than this.
MOST_PROMPTS = 0.5
# Fewer tokens of cache than this are no engine.
LEAST_CACHE = 2048


@dataclass(frozen=True, slots=True)
class Apart:
    """Decoding and prompts, each by itself: `step` and W per GPU at each of BATCHES; the rest as of a Law."""

    step: Array
    watts: Array
    prefill_rate: float
    prefill_watts: float
    prompt_seconds: float
    answer: float


def law_for(gpu: Gpu, model: str, precision: Precision, gpus: int, *, part: Profile | None = None) -> Law:
    """The law of a replica on whole GPUs or on MIG instances, or DoesNotFit where the weights leave no room.

    `model` as `model_meant` reads it. BF16 is as published: some models only come in fewer bits.
    """
    return _law(gpu, model, precision, gpus, part)


@lru_cache(maxsize=128)
def _law(gpu: Gpu, name: str, precision: Precision, gpus: int, part: Profile | None) -> Law:
    query = _query(gpu, name, precision, gpus)
    own = in_part(query, part)
    try:
        require_room(own)
        tokens = int(cache_tokens(own))
    except TooLarge:
        tokens = 0
    if tokens < LEAST_CACHE:
        raise DoesNotFit(
            f"{name} at {query.precision} does not fit on {gpus} x {own.gpu.name}; "
            "use more GPUs per replica, a smaller precision or a larger GPU"
        )
    usual = usual_context(_stand_in(query)[0])
    contexts = tuple(usual * factor for factor in CONTEXTS)
    columns = [apart(replace(query, context=context), part) for context in contexts]
    prompts = columns[0]
    kept = query.model.cache_bytes(usual) * query.model.cache_copies(gpus)
    return Law(
        gpu=GPUS[gpu] if part is None else part_of(GPUS[gpu], part),
        model=ModelSpec(model_meant(name).name, query.model, kept / usual),
        precision=query.precision,
        tensor_parallel=gpus,
        prefill_rate=prompts.prefill_rate,
        prefill_watts=prompts.prefill_watts,
        prompt_seconds=prompts.prompt_seconds,
        answer=prompts.answer,
        kv_tokens=tokens,
        source=_basis(own),
        surface=Surface(
            tuple(BATCHES.tolist()),
            contexts,
            usual,
            _rows([one.step for one in columns]),
            _rows([one.watts for one in columns]),
        ),
    )


def _rows(columns: list[Array]) -> Values:
    return tuple(map(tuple, np.column_stack(columns).tolist()))


def apart(query: Query, part: Profile | None = None) -> Apart:
    """At the query's context, of its GPUs or of such instances of them. How long answers are says nothing here: steps
    are taken out of the mix that was measured. Raises the calibration's DoesNotFit where the weights are larger than
    the memory.
    """
    query = replace(query, output=None)
    if part is None:
        return _apart(query)
    own, whole, share = _apart(in_part(query, part)), _apart(query), part.share
    # a seventh of the GPU with 8 requests works as hard as the whole with 56
    watts = share * np.interp(BATCHES / share, BATCHES, whole.watts)
    return replace(own, watts=watts, prefill_watts=share * whole.prefill_watts)


def _apart(query: Query) -> Apart:
    require_room(query)
    like, ratios = _stand_in(query)
    prompt, answer = _mix(like)
    by = shipped().coefficients_of(like.gpu, like.known)
    seconds = 2.0 * like.model.active / (like.gpus * like.gpu.flops * float(by.prefill_rate))
    more, most = _prompts(replace(like, context=None), prompt * seconds, answer)
    found = predicted(shipped(), like, BATCHES.tolist())
    whole, rate = _watts(found), _rate(found)
    # the share of the time that went to prompts; what is left made the tokens and drew the rest
    share = np.clip(rate / answer * (prompt * seconds + more), 0.0, MOST_PROMPTS)
    step = np.maximum.accumulate(BATCHES / rate * (1.0 - share))
    watts = np.clip((whole - share * most) / (1.0 - share), like.gpu.idle, like.gpu.design)
    watts = np.maximum.accumulate(_below_measured(watts))
    times, drawn = _ratios_at(ratios)
    return Apart(
        step=step * times,
        watts=np.minimum(watts * drawn, like.gpu.design),
        prefill_rate=(PREFILL_RATIO[query.precision] if ratios else 1.0) / seconds,
        prefill_watts=min(most * float(drawn[-1]), like.gpu.design),
        prompt_seconds=more,
        answer=answer,
    )


def usual_context(query: Query) -> float:
    """Mean tokens that each running sequence held in the mix that the prediction stands on."""
    prompt, answer = _mix(query)
    return prompt + answer / 2


def cache_tokens(query: Query) -> float:
    """What the KV cache holds, where sequences are as long as usual."""
    context = query.context or usual_context(query)
    return sequences_that_fit(replace(query, context=context)) * context


def _query(gpu: Gpu, name: str, precision: Precision, gpus: int) -> Query:
    meant = model_meant(name)
    if meant.preset is not None:
        described = Described(name=meant.preset)
        asked = None if precision is Precision.BF16 else precision.value
    else:
        described = Described(parameters=f"{meant.shape.parameters:g}", active=f"{meant.shape.active:g}")
        asked = precision.value
    return query_of(described, Work(gpu=gpu.value, gpus=gpus, precision=asked), shipped())


def _stand_in(query: Query) -> tuple[Query, tuple[RatioPoint, ...]]:
    """Where ratios to BF16 say more than the prediction: the same in BF16, and the ratios.

    Of no dense model was energy measured in FP8, nor of any in INT4. The prediction has FP8 from mixtures alone, and
    prompts no faster in it: for decoding of dense models it comes to the same joules within a tenth.
    """
    ratios: tuple[RatioPoint, ...] = ()
    if query.gpu.generation == "Hopper" and shipped().curve_of(query) is None:
        if query.precision is Precision.INT4:
            ratios = INT4_ON_HOPPER
        elif query.precision is Precision.FP8 and not query.model.mixture:
            ratios = DENSE_FP8_ON_HOPPER
    if not ratios:
        return query, ()
    # in BF16 it need not fit
    return replace(query, precision=Precision.BF16, gpu=replace(query.gpu, memory=inf)), ratios


@lru_cache(maxsize=128)
def _prompts(query: Query, seconds: float, answer: float) -> tuple[float, float]:
    """What a prompt takes besides the `seconds` of its tokens, and W per GPU meanwhile: those of the best filled batch.

    The mean gap between tokens is longer than the median one, by more than the tokens of prompts. On H100 it is about
    as much for each prompt whatever the batch, 8 ms of 70B: steps with prompts are no replayed graphs. At most a step.
    """
    found = predicted(shipped(), query, BATCHES.tolist())
    median = np.array([one.itl.best.value for one in found]) / 1e3
    longer = (BATCHES / _rate(found) - median) * answer / BATCHES - seconds
    return float(np.clip(np.median(longer[COMPARED]), 0.0, median[0])), float(_watts(found).max())


def _mix(query: Query) -> tuple[float, float]:
    """Mean tokens of prompts and answers of the rows that the prediction stands on."""
    own = shipped().curve_of(query)
    by = shipped().coefficients_of(query.gpu, query.known)
    usual = USUAL_OUTPUT[query.task] if own is None else own.output
    return float(getattr(by, f"prompt_{query.task.value}")), usual


def _below_measured(watts: Array) -> Array:
    """Log-linear below the smallest measured batch."""
    at = float(watts[BATCHES == SMALLEST_MEASURED][0])
    single = min(float(watts[0]), SINGLE_SHARE * at)
    share = np.log2(BATCHES) / np.log2(SMALLEST_MEASURED)
    return np.where(share < 1.0, single + share * (at - single), watts)


def _ratios_at(points: tuple[RatioPoint, ...]) -> tuple[Array, Array]:
    """Of step time and watts to BF16 at each of BATCHES: linear in log2 of the batch, flat outside the points."""
    if not points:
        return np.ones_like(BATCHES), np.ones_like(BATCHES)
    at, known = np.log2(BATCHES), np.log2([one.batch for one in points])
    return np.interp(at, known, [one.step for one in points]), np.interp(at, known, [one.watts for one in points])


def in_part(query: Query, part: Profile | None) -> Query:
    """On MIG instances as if they were small GPUs of their own, with the context that is usual on whole ones; as it is
    where there is no part.
    """
    if part is None:
        return query
    own, compute = query.gpu, part.share
    memory = part.eighths(own.memory) / MEMORY_SLICES
    instance = replace(
        own,
        name=f"{own.name} {part.name}",
        memory=own.memory * memory,
        bandwidth=own.bandwidth * memory,
        flops=own.flops * compute,
        design=own.design * compute,
        idle=own.idle * compute,
    )
    return replace(query, gpu=instance, context=query.context or usual_context(_stand_in(query)[0]))


def _basis(query: Query) -> Basis:
    if shipped().curve_of(query) is not None:
        return Basis.MEASURED
    return Basis.SIMILAR if query.gpu.name in shipped().coefficients[query.known] else Basis.SPECIFICATION


def _watts(found: list[Prediction]) -> Array:
    return np.array([one.watts_per_gpu.best.value for one in found])


def _rate(found: list[Prediction]) -> Array:
    return np.array([one.tokens_per_second.best.value for one in found])
