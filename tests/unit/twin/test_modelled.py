"""Laws of any known model for the event engine: the same figures as the calibration's in the measured mix."""

from __future__ import annotations

import pytest

from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.predict import predicted
from fallow.twin.calibration.store import shipped
from fallow.twin.modelled import law_of
from fallow.twin.physics.constants import Gpu, ModelClass, Precision
from fallow.twin.physics.engine import Engine, EngineLimits
from fallow.twin.physics.laws import DoesNotFit, LawSource, law_for
from fallow.twin.physics.requests import Request

OUTPUT = 300
MODELS = [("Qwen/Qwen3-32B", Gpu.H100, 2), ("Qwen/Qwen3-30B-A3B-Instruct-2507", Gpu.B200, 1)]


@pytest.mark.parametrize(("model", "gpu", "gpus"), MODELS)
@pytest.mark.parametrize("batch", [16, 64, 128])
def test_an_engine_that_is_kept_at_a_batch_meets_the_calibrated_energy(
    model: str, gpu: Gpu, gpus: int, batch: int
) -> None:
    law = law_of(gpu, model, ModelClass.B8, Precision.BF16, gpus)
    calibration = shipped()
    query = query_of(Described(name=model), Work(gpu=gpu.value, gpus=gpus), calibration)
    expected = predicted(calibration, query, [float(batch)])[0]
    prompt = round(float(calibration.coefficients_of(query.gpu, query.known).prompt_chat))
    engine = Engine(law, EngineLimits(max_num_seqs=512), now=0.0)
    # answers that end one after another, and a new request for each that ends
    for number in range(batch):
        engine.submit(Request(0.0, prompt, OUTPUT * (number + 1) // batch + 1), 0.0)
    before = 0.0
    tokens = 0
    for step in range(1, 400):
        engine.advance(0.05 * step)
        for _ in engine.take_finished():
            engine.submit(Request(engine.now, prompt, OUTPUT), engine.now)
        if step == 100:
            before, tokens = engine.joules, engine.counters.generated_tokens
    found = (engine.joules - before) / (engine.counters.generated_tokens - tokens)

    assert found == pytest.approx(expected.joules_per_token.best.value, rel=0.08)


def test_a_model_with_rows_is_measured_and_one_without_is_derived() -> None:
    assert law_of(Gpu.H100, "Qwen/Qwen3-32B", ModelClass.B8, Precision.BF16, 2).source is LawSource.MEASURED
    assert law_of(Gpu.L4, "Qwen/Qwen3-4B", ModelClass.B8, Precision.BF16, 1).source is LawSource.DERIVED


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B-Instruct", "our/own-model"])
def test_the_fitted_models_and_unknown_ones_keep_the_law_of_their_class(name: str) -> None:
    found = law_of(Gpu.H100, name, ModelClass.B8, Precision.FP8, 1)

    assert found == law_for(Gpu.H100, ModelClass.B8, Precision.FP8, 1)


def test_a_model_that_is_too_large_does_not_fit() -> None:
    with pytest.raises(DoesNotFit, match="write --tp"):
        law_of(Gpu.L4, "Qwen/Qwen3-32B", ModelClass.B8, Precision.BF16, 1)
