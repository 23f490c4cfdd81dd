"""Figures: low <= best <= high through every operation, and the absence of a figure in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Joules, emissions

numbers = st.floats(0, 1e12)
figures = st.lists(numbers, min_size=3, max_size=3).map(lambda three: Figure(*map(Joules, sorted(three))))
factors = st.lists(st.floats(0, 1e6), min_size=3, max_size=3).map(sorted)


@pytest.mark.parametrize("values", [(2, 1, 3), (1, 3, 2), (1, float("nan"), 2)])
def test_bounds_out_of_order_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="bounds out of order"):
        Figure(*map(Joules, values))


def test_a_figure_around_a_best_value() -> None:
    assert Figure.around(Joules(100), Bounds(0.5, 1.5)) == Figure(Joules(50), Joules(100), Joules(150))
    assert Figure.exact(Joules(3)) == Figure(Joules(3), Joules(3), Joules(3))


@given(figures, figures, factors)
def test_every_operation_keeps_the_order(one: Figure[Joules], other: Figure[Joules], factor: list[float]) -> None:
    together = one + other
    assert together.best == one.best + other.best
    assert (one * factor[0]).high == one.high * factor[0]
    spread = one.spread(*factor)
    assert (spread.low, spread.high) == (one.low * factor[0], one.high * factor[2])
    grid = Figure(*map(GramsPerKWh, factor))
    assert Figure.combined(emissions, one, grid).best == emissions(one.best, grid.best)


def test_what_is_missing_says_why() -> None:
    assert str(Missing(Reason.NO_SERIES, "vllm:num_requests_running")) == "NoSeries: vllm:num_requests_running"
    assert str(Missing(Reason.NO_SERIES)) == "NoSeries"
