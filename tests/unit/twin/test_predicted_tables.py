"""Tables of any model: in the mix that was measured they give the calibrated joules, watts and latencies."""

from __future__ import annotations

import numpy as np
import pytest

from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.predict import DoesNotFit, predicted
from fallow.twin.calibration.store import shipped
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import Gpu
from fallow.twin.simulation.predicting import predicted_table
from fallow.twin.simulation.steady import steady
from fallow.twin.simulation.table import table_of

OUTPUT = 300.0


@pytest.mark.parametrize(
    ("model", "gpu", "gpus"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "H100", 1),
        ("Qwen/Qwen3-32B", "H100", 2),
        ("meta-llama/Llama-3.1-8B-Instruct", "L4", 1),
    ],
)
@pytest.mark.parametrize("batch", [8.0, 32.0, 64.0, 128.0])
def test_a_replica_in_the_measured_mix_meets_the_calibrated_figures(
    model: str, gpu: str, gpus: int, batch: float
) -> None:
    calibration = shipped()
    query = query_of(Described(name=model), Work(gpu=gpu, gpus=gpus, precision="BF16"), calibration)
    expected = predicted(calibration, query, [batch])[0]
    prompt = float(calibration.coefficients_of(query.gpu, query.known).prompt_chat)
    rate = expected.tokens_per_second.best.value / OUTPUT
    found = steady(predicted_table(query), np.array(rate), np.array(prompt), np.array(OUTPUT))

    assert float(found.watts) / (rate * OUTPUT) == pytest.approx(expected.joules_per_token.best.value, rel=0.05)


def test_a_model_that_does_not_fit_is_refused_with_a_number_of_gpus_that_would_do() -> None:
    query = query_of(Described(name="meta-llama/Llama-3.1-70B-Instruct"), Work(gpu="H100"), shipped())

    with pytest.raises(DoesNotFit, match="write --tp 2"):
        predicted_table(query)


def test_a_lower_clock_is_never_faster_and_never_draws_more() -> None:
    query = query_of(Described(name="meta-llama/Llama-3.1-8B-Instruct"), Work(gpu="H100"), shipped())
    full = predicted_table(query)
    lower = full.at_clock(0.6)

    assert (lower.step >= full.step).all()
    assert (lower.watts <= full.watts).all()
    assert lower.prefill_rate < full.prefill_rate
    assert lower.context == full.context


def test_energy_per_token_against_the_clock_is_a_u() -> None:
    query = query_of(Described(name="meta-llama/Llama-3.1-8B-Instruct"), Work(gpu="H100"), shipped())
    table = predicted_table(query)
    joules = [float((one.watts * one.step)[128]) for one in (table.at_clock(share) for share in (1.0, 0.7, 0.3))]

    assert joules[1] < joules[0]
    assert joules[2] > joules[1]


@pytest.mark.parametrize("watts", [650.0, 500.0, 350.0, 200.0])
def test_under_a_cap_no_batch_draws_more_and_none_is_faster(watts: float) -> None:
    query = query_of(Described(name="meta-llama/Llama-3.1-8B-Instruct"), Work(gpu="H100"), shipped())
    full = predicted_table(query)
    capped = full.under_cap(watts)

    assert (capped.watts <= watts + 1e-9).all()
    assert capped.prefill_watts <= watts + 1e-9
    assert (capped.step >= full.step - 1e-12).all()
    assert capped.prefill_rate <= full.prefill_rate
    free = full.watts <= watts
    assert capped.step[free] == pytest.approx(full.step[free])


def test_a_capped_table_is_that_of_the_capped_law() -> None:
    law = law_for(Gpu.H100, "8b", Precision.BF16, 1)
    one, other = table_of(law).under_cap(400.0), table_of(law.under_cap(400.0))

    assert one.watts == pytest.approx(other.watts, rel=0.03)
    assert one.step == pytest.approx(other.step, rel=0.06)
    assert one.prefill_rate == pytest.approx(other.prefill_rate, rel=1e-6)


def test_a_cap_below_an_idle_engine_is_refused() -> None:
    query = query_of(Described(name="meta-llama/Llama-3.1-8B-Instruct"), Work(gpu="H100"), shipped())

    with pytest.raises(ValueError, match="a cap of 50 W is not above"):
        predicted_table(query).under_cap(50.0)
