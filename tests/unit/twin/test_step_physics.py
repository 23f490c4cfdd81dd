"""The physics of one step: more prompts, more tokens and longer contexts as properties, and what precisions change."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fallow.twin.calibration.bounds import Known
from fallow.twin.calibration.hardware import GPUS, gpu_named
from fallow.twin.calibration.models import PRESETS, ModelShape
from fallow.twin.calibration.physics import Decoding, Setting, cases_of, decode, room_of, touched_by
from fallow.twin.calibration.predict import Query, sequences_that_fit
from fallow.twin.calibration.store import shipped
from fallow.twin.calibration.tasks import Precision, Task, weight_bytes

MIXTURE = PRESETS["Qwen/Qwen3-235B-A22B-Instruct-2507"]
GPT_OSS = PRESETS["openai/gpt-oss-120b"]


@st.composite
def settings(draw: st.DrawFn) -> Setting:
    """Any known model on as many GPUs as hold it, and its batch."""
    gpu, model = draw(st.sampled_from(GPUS)), draw(st.sampled_from(list(PRESETS.values())))
    precision = draw(st.sampled_from([Precision.BF16, Precision.FP8, Precision.MXFP4]))
    enough = [count for count in (1, 2, 4, 8, 64) if room_of(gpu, model, precision, count) > 1e9]
    assume(enough)
    gpus = draw(st.sampled_from(enough))
    batch, output = draw(st.floats(1, 4000)), draw(st.floats(20, 20_000))
    return Setting(gpu, model, precision, gpus, draw(st.sampled_from(list(Task))), batch, output, 700.0)


def decoded(*ones: Setting) -> Decoding:
    return decode(cases_of(ones), shipped().coefficients_of(ones[0].gpu, Known.SHAPE))


@given(settings(), st.floats(1, 100))
def test_more_prompts_never_make_a_step_shorter(one: Setting, times: float) -> None:
    """Answers that are so many times as short end so many times as often, and each makes room for a prompt."""
    found = decoded(one, replace(one, output=one.output / times))
    assert found.step[1] >= found.step[0] - 1e-9
    assert found.itl[1] >= found.itl[0] - 1e-9


@given(settings())
def test_the_median_gap_is_that_of_a_step_with_prompts_only_where_most_steps_have_some(one: Setting) -> None:
    found = decoded(replace(one, output=20 * one.batch), replace(one, output=one.batch / 20))
    gaps, steps = np.exp(found.itl), np.exp(found.step)
    # a twentieth of the steps makes the mean longer, and leaves the median almost alone
    alone = np.exp(decoded(replace(one, output=1e9)).itl[0])
    assert gaps[0] - alone <= 0.4 * (steps[0] - alone) + 1e-9
    assert gaps[1] == pytest.approx(steps[1])


@given(settings(), st.floats(0, 8192))
def test_a_step_with_prompts_touches_no_fewer_experts(one: Setting, prompts: float) -> None:
    cases, by = cases_of([one]), shipped().coefficients_of(one.gpu, Known.SHAPE)
    alone, with_prompts = (touched_by(cases, by, cases.batch + tokens)[0] for tokens in (0.0, prompts))
    assert 0 <= alone <= with_prompts <= 1


@given(settings(), st.floats(1, 1e6))
def test_no_step_reads_more_cache_than_there_is_room_for(one: Setting, times: float) -> None:
    full = room_of(one.gpu, one.model, one.precision, one.gpus)
    per_token = 4.0 * one.model.cache_heads * one.model.head_dim * one.model.cache_layers
    context = full / (per_token * one.model.cache_copies(one.gpus) * one.batch)
    at_most, beyond = decoded(replace(one, context=context), replace(one, context=context * times)).step
    assert beyond >= at_most - 1e-9
    # layers that see a window only may have kept some of the room
    if not one.model.window_layers:
        assert beyond == pytest.approx(at_most, abs=1e-9)


@pytest.mark.parametrize(("gpus", "copies"), [(1, 1), (4, 1), (8, 2)])
def test_more_gpus_than_heads_keep_copies_of_the_cache(gpus: int, copies: int) -> None:
    assert MIXTURE.cache_copies(gpus) == copies
    query = Query(gpu_named("B200"), MIXTURE, Precision.BF16, 8, Task.CHAT, context=1000.0)
    room = room_of(query.gpu, MIXTURE, Precision.BF16, 8)
    assert sequences_that_fit(query) == pytest.approx(room / (2 * MIXTURE.cache_bytes(1000.0)))


@pytest.mark.parametrize(
    ("model", "precision", "gpus", "jumps"),
    [
        (MIXTURE, Precision.BF16, 8, True),
        (MIXTURE, Precision.FP8, 8, False),
        (PRESETS["Qwen/Qwen3-30B-A3B-Instruct-2507"], Precision.BF16, 1, False),
        (GPT_OSS, Precision.MXFP4, 2, False),
        (PRESETS["meta-llama/Llama-3.1-70B-Instruct"], Precision.BF16, 8, False),
    ],
    ids=["a share of 16-bit experts", "8 bit", "all experts on one GPU", "cut like dense layers", "dense"],
)
def test_a_gpu_s_share_of_experts_takes_longer_from_a_batch_above_their_number_on(
    model: ModelShape, precision: Precision, gpus: int, jumps: bool
) -> None:
    experts = max(1.0, model.experts / gpus)
    setting = Setting(gpu_named("H100"), model, precision, gpus, Task.CHAT, experts, 1e6, 500.0)
    at, above = np.exp(decoded(setting, replace(setting, batch=experts + 0.1)).itl)
    assert bool(above > 1.05 * at) is jumps


def test_only_experts_are_in_four_bits() -> None:
    """The published checkpoint of gpt-oss-120b has 65 GB."""
    shared, routed = weight_bytes(Precision.MXFP4, mixture=True)
    assert (GPT_OSS.parameters - GPT_OSS.routed) * shared + GPT_OSS.routed * routed == pytest.approx(65e9, rel=0.02)


@pytest.mark.parametrize(
    ("gpu", "precision", "times"),
    [
        ("H100", Precision.FP8, 2),
        ("A100", Precision.FP8, 1),
        ("B200", Precision.MXFP4, 2),
        ("H100", Precision.MXFP4, 1),
        ("H100", Precision.BF16, 1),
    ],
)
def test_eight_bits_compute_twice_as_fast_where_the_gpu_has_them(gpu: str, precision: Precision, times: int) -> None:
    one = Setting(gpu_named(gpu), GPT_OSS, precision, 2, Task.CHAT, 8, 600)
    assert one.flops == times * one.gpu.flops
