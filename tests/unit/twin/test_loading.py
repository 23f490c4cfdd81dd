"""Loads: how long, at what energy, and the idle break-even with the paper's inputs and a load that was measured."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.units import Seconds, Watts
from fallow.twin.calibration.tasks import WEIGHT_BYTES, Precision
from fallow.twin.physics.constants import GPUS, Gpu
from fallow.twin.physics.loading import (
    added_energy,
    break_even,
    load_energy,
    load_seconds,
    load_watts,
    paper_break_even,
    spread,
    wake_seconds,
)

# vLLM's blog of 2025-10-26: parameters, precision, level, s.
WAKES = [
    (0.6e9, Precision.BF16, 1, 0.26),
    (4.15e9, Precision.BF16, 1, 0.82),
    (30.5e9, Precision.BF16, 1, 2.87),
    (235e9, Precision.FP8, 1, 5.41),
    (0.6e9, Precision.BF16, 2, 0.85),
]
MEASURED = Path(__file__).parents[4] / "shared/data/energy/h100_cold_start_qwen2.5-7b.csv"
PARKING = Watts(49.9)
# From the start of the process until the weights were in, s.
LOADED = 29.7


@pytest.mark.parametrize(
    ("gpu", "parking", "expected"), [("H100", 49.9, 271), ("A100 PCIe", 26.3, 513), ("L40S", 66.4, 203)]
)
def test_the_papers_inputs_give_the_papers_break_even(gpu: str, parking: float, expected: float) -> None:
    found = paper_break_even(Watts(300), Seconds(45), Watts(parking))

    assert found == pytest.approx(expected, rel=0.05), gpu


def test_a_measured_load_is_worth_a_few_seconds_of_idling() -> None:
    if not MEASURED.exists():
        pytest.skip(f"the measured load is not there: {MEASURED.name} of gpu-parking-tax")
    with MEASURED.open(encoding="utf-8") as file:
        rows = [(float(row["t_s"]), float(row["power_w"])) for row in csv.DictReader(file)]
    every = Seconds((rows[-1][0] - rows[0][0]) / (len(rows) - 1))
    samples = [Watts(watts) for at, watts in rows if at <= LOADED]
    found = break_even(added_energy(samples, every, Watts(rows[0][1])), PARKING)

    assert found == pytest.approx(6, abs=1)


@pytest.mark.parametrize(
    ("billions", "lowest", "highest"), [(7.6, 30, 60), (70.6, 100, 135)], ids=["7B, warm image", "70B, llm-d's warm"]
)
def test_a_load_takes_as_long_as_was_reported(billions: float, lowest: float, highest: float) -> None:
    assert lowest <= load_seconds(2e9 * billions) <= highest


def test_what_is_there_already_need_not_be_done() -> None:
    everything = load_seconds(16e9, image_there=False)

    assert everything == pytest.approx(30 + 20 + 8 + 15)
    assert load_seconds(16e9, image_there=False, compiled=True) == everything - 10
    assert load_seconds(16e9) == everything - 30
    assert load_seconds(16e9, read_rate=8e9) == load_seconds(16e9) - 6


@given(deviate=st.floats(-4, 4))
def test_starts_lie_around_their_median(deviate: float) -> None:
    longer, shorter = spread(Seconds(40), abs(deviate)), spread(Seconds(40), -abs(deviate))

    assert shorter <= 40 <= longer
    assert shorter * longer == pytest.approx(1600)


@pytest.mark.parametrize("gpu", list(Gpu))
def test_a_load_draws_between_its_context_and_the_papers_assumption(gpu: Gpu) -> None:
    watts, added = load_watts(GPUS[gpu]), load_energy(GPUS[gpu], Seconds(60), gpus=2)

    assert watts.low.value == GPUS[gpu].context
    assert watts.high.value < GPUS[gpu].tdp
    assert added.best.value == pytest.approx(2 * 60 * (watts.best.value - GPUS[gpu].bare))
    assert added.low.value > 0


@pytest.mark.parametrize(("parameters", "precision", "level", "measured"), WAKES)
def test_a_wake_takes_as_long_as_was_measured(
    parameters: float, precision: Precision, level: int, measured: float
) -> None:
    assert wake_seconds(parameters, precision, level) == pytest.approx(measured, rel=0.16)


@given(parameters=st.floats(1e8, 5e11), precision=st.sampled_from(list(Precision)))
def test_a_wake_is_sooner_than_a_start_and_from_level_two_later_than_from_level_one(
    parameters: float, precision: Precision
) -> None:
    light, deep = (wake_seconds(parameters, precision, level) for level in (1, 2))
    start = load_seconds(parameters * WEIGHT_BYTES[precision], compiled=True)

    assert 0 < light < deep < start
