"""What a model on a GPU does: the fits against the rows they came from, and order where there are no rows."""

from itertools import pairwise

import pytest

from fallow.twin.physics.constants import GPUS, Gpu, ModelClass, Precision
from fallow.twin.physics.laws import DoesNotFit, LawSource, law_for

# ML.ENERGY v3, H100 SXM, vLLM 0.11.1, lm-arena-chat: batch, W per GPU, median ITL in ms.
LLAMA_8B = [(8, 486, 7.3), (16, 513, 7.9), (32, 560, 8.9), (64, 610, 11.5), (128, 669, 16.5), (256, 691, 26.1)]
LIGHTER = [Precision.BF16, Precision.FP8, Precision.INT4]
LLAMA_70B_TP4 = [(8, 441, 16.6), (64, 500, 22.4), (256, 589, 39.8)]


@pytest.mark.parametrize(("batch", "watts", "itl"), LLAMA_8B)
def test_8b_on_h100_keeps_to_what_was_measured(batch: int, watts: float, itl: float) -> None:
    law = law_for(Gpu.H100, ModelClass.B8, Precision.BF16, 1)
    assert law.source is LawSource.MEASURED
    assert law.watts(batch) == pytest.approx(watts, rel=0.02)
    assert law.step_seconds(batch) * 1000 == pytest.approx(itl, rel=0.03)


@pytest.mark.parametrize(("batch", "watts", "itl"), LLAMA_70B_TP4)
def test_70b_on_four_h100_keeps_to_what_was_measured(batch: int, watts: float, itl: float) -> None:
    law = law_for(Gpu.H100, ModelClass.B70, Precision.BF16, 4)
    assert law.watts(batch) == pytest.approx(watts, rel=0.02)
    assert law.step_seconds(batch) * 1000 == pytest.approx(itl, rel=0.05)


@pytest.mark.parametrize(
    ("batch", "lowest", "highest"),
    [(8, 1.13, 1.56), (16, 1.13, 1.56), (64, 0.71, 1.0), (128, 0.71, 1.0), (256, 0.71, 1.0)],
)
def test_fp8_on_h100_costs_more_at_small_batches_and_less_at_large_ones(
    batch: int, lowest: float, highest: float
) -> None:
    plain = law_for(Gpu.H100, ModelClass.B8, Precision.BF16, 1)
    quantised = law_for(Gpu.H100, ModelClass.B8, Precision.FP8, 1)
    ratio = (quantised.watts(batch) * quantised.step_seconds(batch)) / (plain.watts(batch) * plain.step_seconds(batch))
    assert lowest <= ratio <= highest
    assert quantised.source is LawSource.DERIVED


@pytest.mark.parametrize("gpu", list(Gpu))
@pytest.mark.parametrize("precision", list(Precision))
def test_more_requests_never_draw_less_and_never_more_than_the_board_allows(gpu: Gpu, precision: Precision) -> None:
    law = law_for(gpu, ModelClass.B8, precision, 1)
    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    watts = [law.watts(0), *(law.watts(batch) for batch in batches)]
    # The measured FP8 ratio falls with the batch, so its product with the power law may dip a little.
    assert all(later >= earlier * 0.93 for earlier, later in pairwise(watts))
    assert GPUS[gpu].bare < watts[0] < watts[1]
    assert max(watts) <= GPUS[gpu].tdp


@pytest.mark.parametrize("gpu", list(Gpu))
def test_energy_per_token_falls_with_the_batch(gpu: Gpu) -> None:
    law = law_for(gpu, ModelClass.B8, Precision.BF16, 1)
    per_token = [law.watts(batch) * law.step_seconds(batch) / batch for batch in (1, 8, 32, 128)]
    assert per_token == sorted(per_token, reverse=True)


def test_a_derived_step_is_near_the_measured_one() -> None:
    measured = law_for(Gpu.H100, ModelClass.B70, Precision.BF16, 4)
    derived = law_for(Gpu.H200, ModelClass.B70, Precision.BF16, 4)
    by_bandwidth = GPUS[Gpu.H200].bandwidth / GPUS[Gpu.H100].bandwidth
    assert derived.step_seconds(1) * by_bandwidth == pytest.approx(measured.step_seconds(1), rel=0.2)
    assert derived.source is LawSource.DERIVED


def test_a_model_too_large_says_what_to_do() -> None:
    with pytest.raises(DoesNotFit, match="70b at BF16 does not fit on 1 x H100; use more GPUs"):
        law_for(Gpu.H100, ModelClass.B70, Precision.BF16, 1)


def test_lighter_weights_leave_more_room_for_the_cache() -> None:
    rooms = [law_for(Gpu.L4, ModelClass.B8, precision, 1).kv_tokens for precision in LIGHTER]
    assert rooms == sorted(rooms)
