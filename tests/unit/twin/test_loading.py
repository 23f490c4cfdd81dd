"""The idle break-even, with the paper's inputs and with a load that was measured."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fallow.domain.units import Seconds, Watts
from fallow.twin.physics.loading import added_energy, break_even, paper_break_even

MEASURED = Path(__file__).parents[4] / "shared/data/energy/h100_cold_start_qwen2.5-7b.csv"
BARE, PARKING = Watts(71.8), Watts(49.9)


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
        rows = list(csv.DictReader(file))
    column = next(name for name in rows[0] if "power" in name.lower() or name.lower().endswith("_w"))
    samples = [Watts(float(row[column])) for row in rows]
    found = break_even(added_energy(samples, Seconds(1), BARE), PARKING)

    assert 2 < found < 15
