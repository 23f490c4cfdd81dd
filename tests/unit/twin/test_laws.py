"""What a model on a GPU does: the calibration's figures, order where there are no rows, and clocks and caps."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.bounds import Basis
from fallow.twin.calibration.predict import predicted
from fallow.twin.calibration.store import shipped
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import GPUS, Gpu
from fallow.twin.physics.engine import Engine, EngineLimits
from fallow.twin.physics.laws import DoesNotFit, Law
from fallow.twin.physics.models import model_meant
from fallow.twin.physics.requests import Request
from fallow.twin.simulation.predicting import predicted_table
from fallow.twin.simulation.table import table_of

# ML.ENERGY v3, H100 SXM, vLLM 0.11.1, lm-arena-chat: batch, W per GPU, median ITL in ms.
LLAMA_8B = [(8, 486, 7.3), (16, 513, 7.9), (32, 560, 8.9), (64, 610, 11.5), (128, 669, 16.5), (256, 691, 26.1)]
LLAMA_70B_TP4 = [(8, 441, 16.6), (64, 500, 22.4), (256, 589, 39.8)]
MODELS = [
    ("8b", Gpu.H100, 1),
    ("70b", Gpu.H100, 4),
    ("Qwen/Qwen3-32B", Gpu.H100, 2),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", Gpu.H100, 1),
    ("70b", Gpu.B200, 2),
]
LIGHTER = [Precision.BF16, Precision.FP8, Precision.INT4]
BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
LAWS = st.sampled_from([law_for(gpu, model, Precision.BF16, gpus) for model, gpu, gpus in MODELS])


@pytest.mark.parametrize(("batch", "watts", "itl"), LLAMA_8B)
def test_8b_on_h100_keeps_to_what_was_measured(batch: int, watts: float, itl: float) -> None:
    law = law_for(Gpu.H100, "8b", Precision.BF16, 1)
    assert law.source is Basis.MEASURED
    assert law.watts(batch) == pytest.approx(watts, rel=0.02)
    assert law.step_seconds(batch) * 1000 == pytest.approx(itl, rel=0.05)


@pytest.mark.parametrize(("batch", "watts", "itl"), LLAMA_70B_TP4)
def test_70b_on_four_h100_keeps_to_what_was_measured(batch: int, watts: float, itl: float) -> None:
    law = law_for(Gpu.H100, "70b", Precision.BF16, 4)
    assert law.watts(batch) == pytest.approx(watts, rel=0.05)
    assert law.step_seconds(batch) * 1000 == pytest.approx(itl, rel=0.05)


def joules_per_token(law: Law, batch: int) -> float:
    """Of an engine that is kept at a batch, in the mix that the law was measured in."""
    engine = Engine(law, EngineLimits(max_num_seqs=batch), now=0.0)
    prompt, answer = round(law.surface.usual - law.answer / 2), round(law.answer)
    # answers that end one after another, and a new request for each that ends
    for number in range(batch):
        engine.submit(Request(0.0, prompt, max(round(answer * (number + 0.5) / batch), 2)), 0.0)
    ended, now, before = 0, 0.0, (0.0, 0)
    while ended < 2 * batch + 10:
        now += law.step_seconds(batch) / 2
        engine.advance(now)
        for _ in engine.take_finished():
            ended += 1
            engine.submit(Request(now, prompt, answer), now)
        if ended < batch:
            before = (engine.joules, engine.counters.generated_tokens)
    return (engine.joules - before[0]) / (engine.counters.generated_tokens - before[1])


@pytest.mark.parametrize(("model", "gpu", "gpus"), MODELS)
@pytest.mark.parametrize("batch", [8, 64, 256])
def test_a_steady_engine_meets_the_calibrated_energy_and_latency(model: str, gpu: Gpu, gpus: int, batch: int) -> None:
    law = law_for(gpu, model, Precision.BF16, gpus)
    query = query_of(Described(name=law.model.name), Work(gpu=gpu.value, gpus=gpus), shipped())
    expected = predicted(shipped(), query, [float(batch)])[0]
    assert joules_per_token(law, batch) == pytest.approx(expected.joules_per_token.best.value, rel=0.03)
    assert law.step_seconds(batch) * 1000 == pytest.approx(expected.itl.best.value, rel=0.05)


def test_both_clocks_have_the_same_law() -> None:
    query = query_of(Described(name="Qwen/Qwen3-32B"), Work(gpu="H100", gpus=2), shipped())
    fast, event = predicted_table(query), table_of(law_for(Gpu.H100, "Qwen/Qwen3-32B", Precision.BF16, 2))
    assert fast.step == pytest.approx(event.step)
    assert fast.watts[1:] == pytest.approx(event.watts[1:])
    assert (fast.prefill_rate, fast.prefill_watts) == pytest.approx((event.prefill_rate, event.prefill_watts))


@pytest.mark.parametrize(
    ("batch", "lowest", "highest"),
    [(8, 1.13, 1.56), (16, 1.13, 1.56), (64, 0.71, 1.0), (128, 0.71, 1.0), (256, 0.71, 1.0)],
)
def test_fp8_of_a_mixture_costs_more_at_small_batches_and_less_at_large_ones(
    batch: int, lowest: float, highest: float
) -> None:
    """As ML.ENERGY measured it."""
    plain, eights = in_both("Qwen/Qwen3-235B-A22B-Instruct-2507", 8)
    ratio = (eights.watts(batch) * eights.step_seconds(batch)) / (plain.watts(batch) * plain.step_seconds(batch))
    assert lowest <= ratio <= highest
    assert eights.source is Basis.MEASURED


@pytest.mark.parametrize(("model", "gpus"), [("8b", 1), ("meta-llama/Llama-3.1-70B-Instruct", 4)])
def test_fp8_of_a_dense_model_is_derived_and_costs_less(model: str, gpus: int) -> None:
    plain, eights = in_both(model, gpus)
    assert eights.source is Basis.SIMILAR
    for batch in (8, 64, 256):
        assert 0.65 < eights.step_seconds(batch) / plain.step_seconds(batch) < 0.9
        assert eights.watts(batch) <= 1.001 * plain.watts(batch)
    # Baseten: Mistral-7B on H100, 32 requests, 31 % more tokens a second
    assert plain.step_seconds(32) / eights.step_seconds(32) == pytest.approx(1.31, abs=0.05)


def in_both(model: str, gpus: int) -> tuple[Law, Law]:
    """In BF16 and FP8 on H100."""
    return law_for(Gpu.H100, model, Precision.BF16, gpus), law_for(Gpu.H100, model, Precision.FP8, gpus)


@pytest.mark.parametrize("gpu", list(Gpu))
@pytest.mark.parametrize("precision", LIGHTER)
def test_more_requests_never_draw_less_and_never_more_than_the_board_allows(gpu: Gpu, precision: Precision) -> None:
    law = law_for(gpu, "8b", precision, 1)
    watts = [law.watts(0), *(law.watts(batch) for batch in BATCHES)]
    # The measured FP8 ratio falls with the batch, so its product with the power law may dip a little.
    assert all(later >= earlier * 0.9 for earlier, later in pairwise(watts))
    assert GPUS[gpu].bare < watts[0] < watts[1]
    assert max(*watts, law.prefill_watts) <= GPUS[gpu].tdp


@pytest.mark.parametrize("gpu", list(Gpu))
def test_energy_per_token_falls_with_the_batch(gpu: Gpu) -> None:
    law = law_for(gpu, "8b", Precision.BF16, 1)
    per_token = [law.watts(batch) * law.step_seconds(batch) / batch for batch in (1, 8, 32, 128)]
    assert per_token == sorted(per_token, reverse=True)


@given(law=LAWS, batch=st.integers(1, 300), context=st.floats(1, 50_000), longer=st.floats(1, 4))
def test_a_longer_context_is_never_read_faster(law: Law, batch: int, context: float, longer: float) -> None:
    assert law.step_seconds(batch, context * longer) >= law.step_seconds(batch, context) * (1 - 1e-9)


def test_what_a_law_stands_on_is_told() -> None:
    asked = [(Gpu.H100, "Qwen/Qwen3-32B"), (Gpu.H100, "our/own-14B"), (Gpu.L40S, "8b")]
    found = [law_for(gpu, name, Precision.BF16, 1).source for gpu, name in asked]
    assert found == [Basis.MEASURED, Basis.SIMILAR, Basis.SPECIFICATION]


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("Qwen/Qwen3-32B", 32.8, 32.8),
        ("8b", 8.03, 8.03),
        ("our/own-14B-chat", 14, 14),
        ("our/moe-30B-A3B", 30, 3),
        ("our/own", 8.03, 8.03),
        ("our/0B", 8.03, 8.03),
    ],
)
def test_a_name_means_a_known_model_or_a_size(name: str, billions: float, active: float) -> None:
    shape = model_meant(name).shape
    assert (shape.parameters, shape.active) == pytest.approx((billions * 1e9, active * 1e9))


def test_a_model_that_only_comes_in_fewer_bits_has_them() -> None:
    assert law_for(Gpu.H100, "openai/gpt-oss-20b", Precision.BF16, 1).precision is Precision.MXFP4


def test_a_mixture_reads_more_of_its_weights_the_larger_the_batch() -> None:
    law = law_for(Gpu.H100, "Qwen/Qwen3-30B-A3B-Instruct-2507", Precision.BF16, 1)
    assert law.weight_bytes(1) == pytest.approx(2 * 3.3e9, rel=0.01)
    assert law.weight_bytes(1) < law.weight_bytes(8) < law.weight_bytes(256) <= 2 * 30.5e9


def test_a_model_too_large_says_what_to_do() -> None:
    with pytest.raises(DoesNotFit, match="70b at BF16 does not fit on 1 x H100; use more GPUs"):
        law_for(Gpu.H100, "70b", Precision.BF16, 1)


def test_lighter_weights_leave_more_room_for_the_cache() -> None:
    rooms = [law_for(Gpu.L4, "8b", precision, 1).kv_tokens for precision in LIGHTER]
    assert rooms == sorted(rooms)


CLOCKS = st.floats(0.4, 1.0)
CONTEXTS = st.one_of(st.none(), st.floats(1, 20_000))


@given(law=LAWS, share=CLOCKS, lower=st.floats(0.5, 1.0), batch=st.integers(1, 512), context=CONTEXTS)
def test_a_lower_clock_is_never_faster_and_never_draws_more(
    law: Law, share: float, lower: float, batch: int, context: float | None
) -> None:
    high, low = law.at_clock(share), law.at_clock(max(share * lower, 0.4))
    assert low.step_seconds(batch, context) >= high.step_seconds(batch, context) * (1 - 1e-9)
    assert low.watts(batch, context) <= high.watts(batch, context) * (1 + 1e-9)
    assert low.prefill_rate <= high.prefill_rate * (1 + 1e-9)
    assert low.watts(0) == law.watts(0)


@pytest.mark.parametrize("batch", [32, 128, 256])
def test_energy_per_token_against_the_clock_is_a_u(batch: int) -> None:
    law = law_for(Gpu.H100, "8b", Precision.BF16, 1)
    clocks = [law.at_clock(share / 100) for share in range(40, 101, 5)]
    joules = [one.watts(batch) * one.step_seconds(batch) for one in clocks]
    best = joules.index(min(joules))
    assert 0 < best < len(joules) - 1
    assert joules[: best + 1] == sorted(joules[: best + 1], reverse=True)
    assert joules[best:] == sorted(joules[best:])


@given(law=LAWS, above=st.floats(1, 600), batch=st.integers(0, 512), context=CONTEXTS)
@settings(deadline=None)
def test_a_cap_is_never_exceeded_and_never_makes_faster(
    law: Law, above: float, batch: int, context: float | None
) -> None:
    cap = law.gpu.context + above
    capped = law.under_cap(cap)
    assert max(capped.watts(batch, context), capped.prefill_watts) <= cap * (1 + 1e-9)
    assert capped.step_seconds(max(batch, 1), context) >= law.step_seconds(max(batch, 1), context) * (1 - 1e-9)


def test_a_cap_binds_at_large_batches_only() -> None:
    law = law_for(Gpu.H100, "8b", Precision.BF16, 1)
    capped = law.under_cap(550.0)
    for batch in (1, 8, 16):
        assert (capped.step_seconds(batch), capped.watts(batch)) == (law.step_seconds(batch), law.watts(batch))
    assert capped.step_seconds(128) > law.step_seconds(128)
    assert capped.watts(128) == pytest.approx(550.0)


def test_a_cap_below_an_idle_engine_and_a_clock_below_the_known_are_refused() -> None:
    law = law_for(Gpu.H100, "8b", Precision.BF16, 1)
    with pytest.raises(ValueError, match="loaded idle engine"):
        law.under_cap(100.0)
    with pytest.raises(ValueError, match=r"write 0\.4 to 1"):
        law.at_clock(0.2)


def test_at_the_highest_clock_nothing_changes() -> None:
    law = law_for(Gpu.H100, "8b", Precision.BF16, 1)
    assert table_of(law.at_clock(1.0)).step == pytest.approx(table_of(law).step)
    assert table_of(law.at_clock(1.0)).watts == pytest.approx(table_of(law).watts)


def test_both_clocks_have_the_same_law_at_every_sm_clock() -> None:
    law = law_for(Gpu.H100, "8b", Precision.BF16, 1)
    slow, tabled = table_of(law.at_clock(0.6)), table_of(law).at_clock(0.6)
    assert slow.step == pytest.approx(tabled.step, rel=0.02)
    assert slow.watts == pytest.approx(tabled.watts, rel=0.02)
    assert (slow.prefill_rate, slow.piece) == pytest.approx((tabled.prefill_rate, tabled.piece))
