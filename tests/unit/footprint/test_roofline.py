"""Arithmetic intensity against the ridge of a GPU: three answers, with bounds, and none where nothing is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.readings import NOT_COUNTED, EngineReading, Operations
from fallow.domain.reasons import Reason
from fallow.domain.rooflines import Regime, Roofline
from fallow.footprint.hardware import TABLE, UNKNOWN, hardware_of
from fallow.footprint.roofline import done_between, only_shrinks, rate_of, ridge, roofline
from fallow.twin.calibration.hardware import GPUS, GpuType
from tests.support.builders import engine

H100, A100, L4, B200 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB", "NVIDIA-L4", "NVIDIA-B200"


def of(intensity: float, precision: str = "BF16", product: str = H100) -> Roofline:
    found = roofline(Operations(intensity * 1e9, 1e9), precision, product)
    assert isinstance(found, Roofline)
    return found


def bounds(found: Roofline) -> tuple[float, ...]:
    return tuple(one.value for side in (found.intensity, found.ridge) for one in (side.low, side.best, side.high))


def test_operations_over_bytes_stand_against_the_peak_over_the_bandwidth() -> None:
    """H100: 989 TFLOP/s in 16 bits over 3,352 GB/s are 295 FLOP a byte."""
    assert bounds(of(100)) == pytest.approx((80, 100, 200, 147.5, 295, 354), rel=1e-3)


@pytest.mark.parametrize(
    ("intensity", "precision", "product", "regime"),
    [
        (70, "BF16", H100, Regime.MEMORY),
        (75, "BF16", H100, Regime.BETWEEN),
        (440, "BF16", H100, Regime.BETWEEN),
        (445, "BF16", H100, Regime.COMPUTE),
        (300, "BF16", A100, Regime.COMPUTE),
        (445, "FP8", H100, Regime.BETWEEN),
        (445, "INT4", H100, Regime.BETWEEN),
        (800, "INT4", H100, Regime.COMPUTE),
    ],
    ids=[
        "with all its bounds below",
        "its upper bound reaches the lowest ridge",
        "its lower bound below the highest ridge",
        "with all its bounds above",
        "a lower ridge",
        "twice the arithmetic",
        "weights of unsure size",
        "weights of unsure size, clearly",
    ],
)
def test_it_is_bound_by_one_or_the_other_only_beyond_all_bounds(
    intensity: float, precision: str, product: str, regime: Regime
) -> None:
    assert of(intensity, precision, product).regime is regime


def test_it_is_told_in_words_with_its_bounds() -> None:
    assert of(34).words == ("memory-bound: 34 (27.2 to 68) FLOP a byte, the ridge of its GPU is at 295 (148 to 354)")


@given(
    intensity=st.floats(0.1, 1e5),
    more=st.floats(1, 100),
    times=st.floats(1e-3, 1e6),
    precision=st.sampled_from(["BF16", "FP8", "INT8", "INT4", "NVFP4"]),
    product=st.sampled_from([H100, A100, L4, B200]),
)
def test_more_operations_for_each_byte_never_lead_back_to_memory(
    *, intensity: float, more: float, times: float, precision: str, product: str
) -> None:
    order = [Regime.MEMORY, Regime.BETWEEN, Regime.COMPUTE]
    one, other = of(intensity, precision, product), of(intensity * more, precision, product)
    assert order.index(one.regime) <= order.index(other.regime)
    longer = roofline(Operations(intensity * 1e9 * times, 1e9 * times), precision, product)
    assert isinstance(longer, Roofline)
    assert bounds(longer) == pytest.approx(bounds(one))


@pytest.mark.parametrize(
    ("precision", "product", "rate"),
    [
        ("BF16", H100, (1, 1)),
        ("INT4", H100, (1, 1)),
        ("FP8", H100, (1, 2)),
        ("FP8", L4, (1, 2)),
        ("FP8", A100, (1, 1)),
        ("INT8", A100, (1, 2)),
        ("NVFP4", H100, (1, 1)),
        ("NVFP4", B200, (1, 4)),
        ("FP8", "some GPU", (1, 1)),
    ],
)
def test_a_precision_is_computed_faster_only_where_the_gpu_has_units_for_it(
    precision: str, product: str, rate: tuple[float, float]
) -> None:
    assert rate_of(precision, product) == rate


@pytest.mark.parametrize(
    ("precision", "serving", "product", "shrinks"),
    [
        ("INT4", "BF16", H100, True),
        ("FP8", "BF16", A100, True),
        ("NVFP4", "BF16", H100, True),
        ("FP8", "BF16", H100, False),
        ("INT8", "BF16", H100, False),
        ("INT4", "FP8", H100, True),
        ("FP8", "INT8", H100, False),
    ],
)
def test_weights_alone_become_smaller_where_no_unit_computes_the_precision(
    precision: str, serving: str, product: str, shrinks: bool
) -> None:
    assert only_shrinks(precision, serving, product) is shrinks


@pytest.mark.parametrize(("precision", "product"), [("BF16", "some GPU"), ("BF16", ""), ("FP32", H100)])
def test_a_peak_that_nobody_told_is_no_ridge(precision: str, product: str) -> None:
    found = ridge(precision, product)
    assert isinstance(found, Missing)
    assert found == roofline(Operations(1, 1), precision, product)


def test_every_gpu_with_a_row_of_its_own_has_a_ridge() -> None:
    assert all(one.flops and one.bandwidth for _, one in TABLE)
    assert UNKNOWN.flops is None


@pytest.mark.parametrize(
    "gpu", [one for one in GPUS if hardware_of(one.driver_names[0]) is not UNKNOWN], ids=lambda gpu: str(gpu.name)
)
def test_peaks_are_those_that_the_twin_computes_with(gpu: GpuType) -> None:
    known = hardware_of(gpu.driver_names[0])
    assert known.flops == gpu.flops
    assert known.bandwidth == pytest.approx(gpu.bandwidth, rel=0.02)
    assert ("FP8" in known.units) == gpu.has_fp8


def seen(flops: float, moved: float, generated: float = 0.0) -> EngineReading:
    return engine(generated_tokens=generated, operations=Operations(flops, moved))


def test_what_was_done_is_the_difference_of_two_readings() -> None:
    assert done_between(seen(5, 4, 10), seen(11, 6, 20)) == Operations(6, 2)


@pytest.mark.parametrize("before", [None, seen(19, 9, 100)], ids=["a new engine", "one that began anew"])
def test_an_engine_that_is_new_did_all_that_it_counts(before: EngineReading | None) -> None:
    assert done_between(before, seen(5, 4, 10)) == Operations(5, 4)


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (None, seen(0, 0, 10), Reason.NO_SERIES),
        (None, seen(0, 0), Reason.NO_WORK),
        (seen(5, 5, 10), seen(5, 5, 10), Reason.NO_WORK),
        (seen(0, 0, 10), seen(0, 0, 20), Reason.NO_SERIES),
        (seen(0, 0, 10), engine(generated_tokens=20), Reason.NO_SERIES),
        (engine(generated_tokens=10), seen(5, 5, 20), Reason.NO_SERIES),
    ],
    ids=[
        "a new engine whose counters stand still",
        "a new engine without work",
        "no work",
        "counters that stand still",
        "counters that went",
        "counters that came",
    ],
)
def test_nothing_is_told_of(before: EngineReading | None, now: EngineReading, reason: Reason) -> None:
    found = done_between(before, now)
    assert isinstance(found, Missing)
    assert found.reason is reason


def test_an_engine_that_does_not_estimate_says_which_flag_lets_it() -> None:
    assert done_between(engine(), engine()) == NOT_COUNTED
    assert "--enable-mfu-metrics" in NOT_COUNTED.detail
