"""Plain J per token and per request by concurrency: what was measured, bounded in memory, silent where nothing was."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.learned import LoadBin
from fallow.footprint.bins import MEMORY, bin_of, binned, joules_per_token_at, load_points, together
from fallow.footprint.measured import Window
from tests.support.learning import Traffic, engine_windows, window


def at(batch: float, per_token: float = 1.0, iterations: float = 600, requests: float = 6) -> Window:
    tokens = batch * iterations
    return window(tokens * per_token, generated=tokens, iterations=iterations, requests=requests)


@pytest.mark.parametrize(
    ("batch", "index"), [(0.5, 0), (1, 0), (1.9, 0), (2, 1), (8, 3), (15.9, 3), (255, 7), (256, 8), (4000, 8)]
)
def test_a_bin_holds_one_doubling_and_the_last_all_above(batch: float, index: int) -> None:
    assert bin_of(at(batch)) == index


@pytest.mark.parametrize(
    "idle",
    [window(7000), window(7000, generated=10, iterations=None), window(7000, prompt=10, iterations=1, requests=1)],
    ids=["no work", "iterations not counted", "nothing generated"],
)
def test_what_has_no_concurrency_is_in_no_bin(idle: Window) -> None:
    assert binned({}, idle) == {}


def test_a_bin_tells_energy_over_tokens_and_over_requests() -> None:
    bins = binned(binned({}, at(8, 0.5)), at(10, 0.4, requests=3))
    (point,) = load_points(bins)
    energy = 8 * 600 * 0.5 + 10 * 600 * 0.4
    assert point.joules_per_token.best.value == pytest.approx(energy / (18 * 600))
    assert not isinstance(point.joules_per_request, Missing)
    assert point.joules_per_request.best.value == pytest.approx(energy / 9)
    assert point.concurrency == pytest.approx(9)
    assert point.watts == pytest.approx(energy / 120)


def test_the_interval_of_a_bin_holds_the_counter_s_class_and_the_scatter_of_its_minutes() -> None:
    def width(costs: list[float]) -> float:
        bins: dict[int, LoadBin] = {}
        for cost in costs:
            bins = dict(binned(bins, at(8, cost)))
        (point,) = load_points(bins)
        figure = point.joules_per_token
        assert figure.best.value - figure.low.value == pytest.approx(figure.high.value - figure.best.value)
        return (figure.high.value - figure.best.value) / figure.best.value

    assert width([0.5]) > 0.10
    assert width([0.5] * 100) == pytest.approx(0.05, rel=0.05)
    # 20 % of scatter over 100 minutes: 1.98 * 0.2 / 10 beside the counter's 5 %
    assert width([0.4, 0.6] * 50) == pytest.approx(math.hypot(0.05, 1.98 * 0.02), rel=0.05)


parts = st.lists(st.tuples(st.floats(8, 15.9), st.floats(0.01, 10)), min_size=1, max_size=30)


@given(parts, parts)
def test_two_bins_together_are_the_bin_of_all_their_windows(
    one: list[tuple[float, float]], other: list[tuple[float, float]]
) -> None:
    def of(windows: list[tuple[float, float]]) -> LoadBin:
        bins: dict[int, LoadBin] = {}
        for batch, cost in windows:
            bins = dict(binned(bins, at(batch, cost)))
        return bins[3]

    for both in (together(of(one), of(other)), together(of(other), of(one))):
        whole = of([*one, *other])
        assert (both.windows, both.energy) == pytest.approx((whole.windows, whole.energy))
        assert (both.generated_tokens, both.requests) == pytest.approx((whole.generated_tokens, whole.requests))
        assert both.scatter == pytest.approx(whole.scatter, rel=1e-6, abs=1e-6 * whole.generated_tokens)


def test_where_no_request_finished_there_is_no_figure_per_request() -> None:
    (point,) = load_points(binned({}, at(8, requests=0)))
    assert isinstance(point.joules_per_request, Missing)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30))
def test_a_bin_lies_between_the_windows_that_it_holds(costs: list[float]) -> None:
    bins: dict[int, LoadBin] = {}
    for cost in costs:
        bins = dict(binned(bins, at(8, cost)))
    (point,) = load_points(bins)
    assert min(costs) * (1 - 1e-9) <= point.joules_per_token.best.value <= max(costs) * (1 + 1e-9)


def test_a_bin_forgets_so_that_it_speaks_of_now_and_stays_small() -> None:
    bins: dict[int, LoadBin] = {}
    for cost in [2.0] * 300 + [1.0] * 1500:
        bins = dict(binned(bins, at(8, cost)))
    (point,) = load_points(bins)
    assert point.windows == pytest.approx(MEMORY)
    assert point.joules_per_token.best.value == pytest.approx(1.0, rel=0.01)


def test_between_two_bins_joules_per_token_are_on_a_straight_line_of_logarithms() -> None:
    bins = binned(binned({}, at(8, 0.4)), at(32, 0.1))
    middle = joules_per_token_at(bins, 16)
    assert not isinstance(middle, Missing)
    assert middle.best.value == pytest.approx(0.2)
    assert (middle.low.value, middle.high.value) == pytest.approx((0.18, 0.22))


@pytest.mark.parametrize(("concurrency", "known"), [(4, True), (3.9, False), (64, True), (65, False)])
def test_far_from_what_was_measured_nothing_is_known(concurrency: float, known: bool) -> None:
    bins = binned(binned({}, at(8, 0.4)), at(32, 0.1))
    assert isinstance(joules_per_token_at(bins, concurrency), Missing) is not known


def test_the_twin_s_engine_costs_less_per_token_the_more_it_does_at_once() -> None:
    bins: dict[int, LoadBin] = {}
    for rate in (0.3, 3.0):
        for one in engine_windows(Traffic(rate, 0.9), hours=1.0):
            bins = dict(binned(bins, one))
    costs = [point.joules_per_token.best.value for point in load_points(bins)]
    assert len(costs) >= 3
    assert costs == sorted(costs, reverse=True)
