"""The engine model: its laws as properties, what it must reproduce, and its file."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.twin.calibration.asking import Described, Unusable, Work, batches_of, query_of
from fallow.twin.calibration.bounds import Basis, Known
from fallow.twin.calibration.curves import borrowing, likeness
from fallow.twin.calibration.hardware import GPUS, UnknownGpu, gpu_named
from fallow.twin.calibration.models import PRESETS, UnknownModel, preset_named, usual_shape
from fallow.twin.calibration.physics import Setting, cases_of, decode
from fallow.twin.calibration.predict import DoesNotFit, Prediction, Query, predicted
from fallow.twin.calibration.store import plain, read, shipped
from fallow.twin.calibration.tasks import Precision, Task

BATCHES = [1, 8, 24, 64, 256, 700, 2048]
CURVES = shipped().curves[Known.SHAPE]


def predict(model: Described | str, work: Work, batches: list[float]) -> list[Prediction]:
    described = Described(name=model) if isinstance(model, str) else model
    return predicted(shipped(), query_of(described, work, shipped()), batches)


def joules(model: Described | str, work: Work, *batches: float) -> list[float]:
    return [one.joules_per_token.best.value for one in predict(model, work, list(batches))]


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Any model of which the weights fit, described by its size, on any GPU of the table."""
    gpu = draw(st.sampled_from(GPUS))
    gpus = draw(st.sampled_from([1, 2, 4, 8]))
    precision = draw(st.sampled_from(list(Precision)))
    most = 0.4 * gpu.memory * gpus
    parameters = draw(st.floats(5e8, most))
    active = parameters * draw(st.sampled_from([1.0, 0.5, 0.1, 0.04]))
    task = draw(st.sampled_from(list(Task)))
    return Query(gpu, usual_shape(parameters, active), precision, gpus, task, Known.SIZE)


@given(queries())
def test_more_batch_never_costs_more_energy_per_token_nor_less_time_per_step_where_nothing_was_measured(
    query: Query,
) -> None:
    for smaller, larger in pairwise(predicted(shipped(), query, BATCHES)):
        assert larger.joules_per_token.best.value <= smaller.joules_per_token.best.value
        assert larger.itl.best.value >= smaller.itl.best.value


@given(queries(), st.floats(0.5, 5000))
def test_energy_is_power_over_throughput(query: Query, batch: float) -> None:
    (one,) = predicted(shipped(), query, [batch])
    watts = one.watts_per_gpu.best.value * query.gpus
    assert one.joules_per_token.best.value == pytest.approx(watts / one.tokens_per_second.best.value)


@given(queries(), st.floats(0.5, 5000))
def test_power_stays_between_idle_and_design(query: Query, batch: float) -> None:
    (one,) = predicted(shipped(), query, [batch])
    figure = one.watts_per_gpu
    assert query.gpu.idle <= figure.low.value <= figure.high.value <= query.gpu.design


@given(queries(), st.floats(1, 4096), st.lists(st.floats(1, 4096), max_size=4))
def test_a_prediction_does_not_depend_on_what_else_is_asked(query: Query, batch: float, others: list[float]) -> None:
    alone, among = predicted(shipped(), query, [batch])[0], predicted(shipped(), query, [*others, batch])[-1]
    assert among.joules_per_token.best.value == pytest.approx(alone.joules_per_token.best.value)
    assert among.itl.best.value == pytest.approx(alone.itl.best.value)


def test_a_step_reads_its_active_weights_no_faster_than_the_memory() -> None:
    for curve in CURVES:
        one = curve.like
        query = Query(one.gpu, one.model, one.precision, one.gpus, one.task, preset=curve.preset)
        (answer,) = predicted(shipped(), query, [8])
        weights = one.model.active * {"BF16": 2.0, "FP8": 1.0, "MXFP4": 0.5}[one.precision] / one.gpus
        assert answer.basis is Basis.MEASURED
        assert answer.itl.best.value / 1e3 > weights / one.gpu.bandwidth


# Quoted from ML.ENERGY v3 (Apache-2.0): J/token on H100, lm-arena-chat.
QUOTED = {
    ("meta-llama/Llama-3.1-8B-Instruct", 1): {8: 0.455, 64: 0.119, 256: 0.0766},
    ("meta-llama/Llama-3.1-70B-Instruct", 4): {8: 3.76, 64: 0.797, 256: 0.479},
    ("Qwen/Qwen3-235B-A22B-Instruct-2507", 8): {8: 7.29, 32: 3.83, 128: 1.49},
    ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", 8): {8: 11.39, 32: 3.64, 256: 0.95},
}


@pytest.mark.parametrize(("model", "gpus"), QUOTED, ids=[f"{name}-{gpus}" for name, gpus in QUOTED])
def test_a_known_model_is_met_within_five_percent(model: str, gpus: int) -> None:
    rows = QUOTED[model, gpus]
    found = joules(model, Work("H100", gpus), *rows)
    assert found == pytest.approx(list(rows.values()), rel=0.05)


def test_fp8_costs_more_than_bf16_at_small_batch_and_less_at_large() -> None:
    full = joules("Qwen/Qwen3-235B-A22B-Instruct-2507", Work("H100", 8, "BF16"), 8, 64, 128)
    half = joules("Qwen/Qwen3-235B-A22B-Instruct-2507", Work("H100", 8, "FP8"), 8, 64, 128)
    assert [half[i] / full[i] for i in range(3)] == pytest.approx([1.56, 0.88, 0.91], abs=0.04)


def test_a_model_described_like_a_measured_one_comes_near_it() -> None:
    described = Described(parameters="8e9", active="8e9", layers=32, cache_heads=8, head_dim=128)
    assert joules(described, Work("H100"), 8, 64, 256) == pytest.approx([0.455, 0.119, 0.0766], rel=0.15)


def test_what_is_measured_has_the_narrowest_bounds_and_another_gpu_type_the_widest() -> None:
    described = Described(parameters="8e9")
    answers = [
        predict("meta-llama/Llama-3.1-8B-Instruct", Work("H100"), [64]),
        predict(described, Work("H100"), [64]),
        predict(described, Work("A100"), [64]),
    ]
    widths = [one.joules_per_token.high.value / one.joules_per_token.low.value for (one,) in answers]
    assert widths == sorted(widths)
    assert [one.basis for (one,) in answers] == [Basis.MEASURED, Basis.SIMILAR, Basis.SPECIFICATION]


def test_bounds_widen_beyond_the_measured_batches() -> None:
    at_eight, at_one = predict("meta-llama/Llama-3.1-8B-Instruct", Work("H100"), [8, 1])
    assert at_one.itl.high.value / at_one.itl.best.value > at_eight.itl.high.value / at_eight.itl.best.value


def test_a_larger_batch_touches_more_experts() -> None:
    model = PRESETS["Qwen/Qwen3-30B-A3B-Instruct-2507"]
    by = shipped().coefficients[Known.SHAPE]["H100"]
    settings = [Setting(gpu_named("H100"), model, Precision.BF16, 1, Task.CHAT, batch, 650) for batch in (1, 8, 64)]
    one, eight, many = decode(cases_of(settings), by).itl
    assert eight - one > 0.1
    assert many - eight > 0.1


def test_longer_contexts_cost_more() -> None:
    short, long = (
        joules("Qwen/Qwen3-8B", Work("H100", task="chat", context=context), 128)[0] for context in (500.0, 8000.0)
    )
    assert long > 1.2 * short


def test_an_own_curve_is_likest_to_itself_and_a_mixture_borrows_from_mixtures_only() -> None:
    dense = next(curve for curve in CURVES if not curve.like.model.mixture)
    lent = borrowing(dense.like, CURVES)
    assert likeness([dense.like], [dense.like])[0, 0] == 1
    assert lent.weights.argmax() == CURVES.index(dense)
    assert 0 < lent.unknown < 1
    assert all(
        abs(weight) < 1e-12 for weight, curve in zip(lent.weights, CURVES, strict=True) if curve.like.model.mixture
    )


def test_the_file_says_what_was_read_from_it() -> None:
    again = read(json.loads(json.dumps(plain(shipped(), {}))))
    assert again.bounds == shipped().bounds
    assert [curve.departures.tolist() for curve in again.curves[Known.SHAPE]] == [
        curve.departures.tolist() for curve in shipped().curves[Known.SHAPE]
    ]


@pytest.mark.parametrize(
    ("model", "work", "says"),
    [
        (Described(parameters="8e9"), Work("H101"), "H100, H100-PCIe"),
        (Described(name="nobody/knows-this"), Work("H100"), "describe it with --params"),
        (Described(name="Qwen/Qwen3-8B", parameters="8e9"), Work("H100"), "leave out --params"),
        (Described(), Work("H100"), "--params 14e9"),
        (Described(parameters="14"), Work("H100"), "14e9 or 14B"),
        (Described(parameters="8e9", active="9e9"), Work("H100"), "more than --params"),
        (Described(parameters="8e9", experts=8), Work("H100"), "--active-params"),
        (Described(parameters="47e9", active="13e9", experts=2, experts_per_token=2), Work("H100"), "fewer than"),
        (Described(parameters="8e9"), Work("H100", precision="FP7"), "BF16, FP8"),
        (Described(parameters="8e9"), Work("H100", task="poetry"), "chat, reasoning"),
        (Described(parameters="235e9", active="22e9"), Work("H100"), "--tp 8"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value,
)
def test_what_cannot_be_answered_says_what_to_write(model: Described, work: Work, says: str) -> None:
    with pytest.raises((Unusable, UnknownGpu, UnknownModel, DoesNotFit), match=says) as error:
        predict(model, work, [8])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", ",", "8,x", "0", "-8", "8,nan", "1e9"])
def test_a_list_of_batches_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Unusable, match="8,64,256"):
        batches_of(text)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "Qwen/Qwen3-235B-A22B-Instruct-2507"),
    ],
)
def test_a_preset_is_found_by_its_short_name(name: str, full: str) -> None:
    assert preset_named(name) == full


@pytest.mark.parametrize(
    ("model", "work", "precision", "task"),
    [
        ("openai/gpt-oss-120b", Work("H100", 2), Precision.MXFP4, Task.REASONING),
        ("Qwen/Qwen3-VL-8B-Instruct", Work("H100"), Precision.BF16, Task.IMAGE),
        ("Qwen/Qwen3-8B", Work("H100"), Precision.BF16, Task.CHAT),
        ("Qwen/Qwen3-8B", Work("H100", context=4000.0), Precision.BF16, Task.REASONING),
        ("deepseek-ai/DeepSeek-V3.1", Work("B200", 8), Precision.FP8, Task.CHAT),
        ("Qwen/Qwen3-8B", Work("H100", precision="fp16", task="gpqa"), Precision.BF16, Task.REASONING),
    ],
)
def test_what_is_not_said_is_as_it_was_measured(model: str, work: Work, precision: Precision, task: Task) -> None:
    query = query_of(Described(name=model), work, shipped())
    assert (query.precision, query.task) == (precision, task)


def test_every_gpu_of_the_table_is_found_by_its_name_in_the_cluster() -> None:
    for gpu in GPUS:
        for name in (gpu.name, *gpu.driver_names):
            assert gpu_named(name.replace(" ", "-")) == gpu
