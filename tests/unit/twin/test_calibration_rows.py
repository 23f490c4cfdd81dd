"""The shipped coefficients against the measured rows, and a model left out. Needs the rows, which are not shipped."""

from statistics import median

import pytest

from bench.calibration import folds, rows
from bench.calibration.baselines import relative
from bench.calibration.quantiles import bounds_of, held
from fallow.twin.calibration.bounds import Known
from fallow.twin.calibration.store import shipped

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not rows.DATA.exists(), reason="the rows of ML.ENERGY v3 (shared/data/energy) are not beside this checkout"
    ),
]


@pytest.mark.parametrize(("gpu", "most"), [("H100", 0.015), ("B200", 0.03)])
def test_the_shipped_curves_meet_the_rows_they_were_fitted_to(gpu: str, most: float) -> None:
    here = [row for row in rows.read() if row.gpu.name == gpu]
    missed = folds.misses(shipped(), here, Known.SHAPE, named=True)
    assert all(miss.own for miss in missed)
    assert median(relative(miss) for miss in missed) < most
    assert median(relative(miss, "itl") for miss in missed) < 0.04


def test_a_model_that_was_left_out_is_met_within_its_bounds() -> None:
    everything = rows.read()
    kept = [row for row in everything if row.label != "Qwen3-8B"]
    out = [row for row in everything if row.label == "Qwen3-8B"]
    calibrated = folds.calibration(kept, folds.fits(kept))
    missed = folds.misses(calibrated, out, Known.SHAPE, named=False)
    assert median(relative(miss) for miss in missed) < 0.12
    spread = shipped().bounds.classes["shape text BF16"].joules
    inside = [spread.low * miss.doubt <= miss.joules <= spread.high * miss.doubt for miss in missed]
    assert sum(inside) >= 0.8 * len(inside)


def test_no_curve_loses_more_than_one_batch_size_to_a_fold() -> None:
    everything = rows.read()
    split = folds.batch_folds(everything)
    assert sorted(map(id, everything)) == sorted(id(row) for fold in split for row in fold)
    for fold in split:
        limits = {(row.curve, row.limit) for row in fold}
        assert len({curve for curve, _ in limits}) == len(limits)


def test_bounds_of_few_models_are_their_extremes() -> None:
    row = rows.read()[0]
    missed = [folds.Miss(row, "some", False, 1.0, 0.0, value, 0.0, 0.0, 0.0) for value in (-0.3, 0.1, 0.2)]
    bounds = bounds_of([], missed, [])
    assert (bounds.classes["some"].joules.low, bounds.classes["some"].joules.high) == (-0.3, 0.2)
    assert held(missed) == {}
