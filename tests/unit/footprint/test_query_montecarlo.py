"""Drawn latencies: their quantiles, what does not depend on chance, and that the seed alone decides the rest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.footprint.montecarlo import Quantiles, drawn_latencies

TTFT = Quantiles((0.51, 0.59, 0.69, 0.73, 0.96))
RATE = Quantiles((45.0, 64.0, 96.0, 131.0, 141.0))

rising = st.lists(st.floats(0.1, 100), min_size=5, max_size=5).map(lambda values: Quantiles(tuple(sorted(values))))


def constant(value: float) -> Quantiles:
    return Quantiles((value,) * 5)


def test_without_spread_every_draw_is_the_formula() -> None:
    draws = drawn_latencies(constant(2.0), constant(50.0), 300)
    assert [draws.mean, draws.p5, draws.p50, draws.p95] == pytest.approx([8.0, 8.0, 8.0, 8.0])


def test_the_same_seed_draws_the_same_and_another_seed_nearly_the_same() -> None:
    first, again, other = (drawn_latencies(TTFT, RATE, 300, seed=seed) for seed in (0, 0, 7))
    assert first == again
    assert first != other
    assert other.mean == pytest.approx(first.mean, rel=0.01)


@settings(max_examples=20)
@given(rising, rising)
def test_draws_lie_between_the_outer_percentiles(ttft: Quantiles, rate: Quantiles) -> None:
    draws = drawn_latencies(ttft, rate, 300, draws=500)
    shortest, longest = ttft.values[0] + 300 / rate.values[-1], ttft.values[-1] + 300 / rate.values[0]
    assert shortest * (1 - 1e-12) <= draws.p5 <= draws.p50 <= draws.p95 <= longest * (1 + 1e-12)
    assert shortest * (1 - 1e-12) <= draws.mean <= longest * (1 + 1e-12)


def test_the_drawn_marginal_has_the_quantiles_it_was_given() -> None:
    draws = drawn_latencies(TTFT, constant(1.0), 0, draws=200_000)
    assert [draws.p5, draws.p50, draws.p95] == pytest.approx([0.51, 0.69, 0.96], rel=0.01)


def test_slow_starts_with_slow_rates_spread_further_than_the_published_negative_correlation() -> None:
    # a rate that falls when the first token is late adds to the wait; one that rises takes some of it back
    falling = drawn_latencies(Quantiles((1, 2, 3, 4, 5)), Quantiles((10, 20, 30, 40, 50)), 60, correlation=-0.9)
    rising_too = drawn_latencies(Quantiles((1, 2, 3, 4, 5)), Quantiles((10, 20, 30, 40, 50)), 60, correlation=0.9)
    assert falling.p95 - falling.p5 > rising_too.p95 - rising_too.p5


@pytest.mark.parametrize("values", [(1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 2.5, 4.0)], ids=["four", "falling"])
def test_quantiles_are_five_that_never_fall(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="never fall"):
        Quantiles(values)
