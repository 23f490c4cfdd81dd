"""The bounds formula of a query: the published one, its laws, and the presets that feed it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Figure
from fallow.domain.units import Grams, GramsPerKWh, Joules, Litres, LitresPerKWh, Seconds, Watts
from fallow.domain.zones import Ratio
from fallow.footprint.presets import CLASSES, MACHINES, PROVIDERS
from fallow.footprint.query import Node, Site, Span, between, computers_energy, drawn, footprint, waiting

WH = 3600.0

H100_LARGE = Node(
    Figure.exact(Watts(5600)), Ratio(0.055, 0.065, 0.075), Figure.exact(Watts(4600)), Ratio(0.0625, 0.0625, 0.0625)
)
AZURE = Site(
    Ratio(1.12, 1.12, 1.12),
    Figure.exact(LitresPerKWh(0.30)),
    Figure.exact(LitresPerKWh(4.35)),
    Figure.exact(GramsPerKWh(340)),
)

factors = st.floats(0.01, 100)


def three(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, float, float]]:
    return st.tuples(values, values, values).map(lambda found: (min(found), sorted(found)[1], max(found)))


def lasting(seconds: float) -> Span:
    return Span(Seconds(seconds), Seconds(seconds), Seconds(seconds))


def test_energy_of_a_query_is_time_times_its_share_of_the_node_times_pue() -> None:
    energy = footprint(computers_energy(H100_LARGE, lasting(12.5)), AZURE).energy
    assert energy.low.value / WH == pytest.approx(12.5 * (5600 * 0.055 + 4600 * 0.0625) * 1.12 / 3600)
    assert energy.high.value / WH == pytest.approx(12.5 * (5600 * 0.075 + 4600 * 0.0625) * 1.12 / 3600)


def test_water_on_site_leaves_pue_out_and_water_at_the_source_takes_it_in() -> None:
    result = footprint(Figure.exact(Joules(3.6e6)), AZURE)
    assert result.water.best.value == pytest.approx(0.30 + 1.12 * 4.35)


def test_carbon_of_a_query_is_facility_energy_times_intensity() -> None:
    assert footprint(Figure.exact(Joules(3.6e6)), AZURE).carbon.best.value == pytest.approx(1.12 * 340)


def test_the_highest_token_rate_gives_the_shortest_time() -> None:
    span = waiting(Span(Seconds(1), Seconds(2), Seconds(3)), Ratio(100, 100, 100), Ratio(10, 20, 50))
    assert span == Span(Seconds(3), Seconds(7), Seconds(13))


def test_best_lies_in_the_middle_of_the_bounds_or_where_it_is_put() -> None:
    figure = Figure(Grams(10), Grams(11), Grams(30))
    assert between(figure).best == Grams(20)
    assert between(figure, 0.25).best == Grams(15)


@given(three(factors), st.floats(0, 1))
def test_a_best_value_put_between_the_bounds_stays_between_them(
    bounds: tuple[float, float, float], weight: float
) -> None:
    figure = between(Figure(*map(Grams, bounds)), weight)
    assert figure.low <= figure.best <= figure.high


@given(
    three(factors),
    three(factors),
    three(st.floats(0, 1)),
    three(st.floats(1, 3)),
    three(factors),
    three(factors),
)
def test_bounds_stay_in_order_whatever_goes_in(
    latency: tuple[float, float, float],
    power: tuple[float, float, float],
    share: tuple[float, float, float],
    pue: tuple[float, float, float],
    water: tuple[float, float, float],
    grams: tuple[float, float, float],
) -> None:
    watts = Figure(*map(Watts, power))
    litres = Figure(*map(LitresPerKWh, water))
    site = Site(Ratio(*pue), litres, litres, Figure(*map(GramsPerKWh, grams)))
    node = Node(watts, Ratio(*share), watts, Ratio(*share))
    result = footprint(computers_energy(node, Span(*map(Seconds, latency))), site)
    for figure in (result.energy, result.water, result.carbon):
        assert 0 <= figure.low.value <= figure.best.value <= figure.high.value


@given(factors, st.floats(0.1, 10))
def test_a_query_that_takes_twice_as_long_costs_twice_as_much(seconds: float, times: float) -> None:
    once = footprint(computers_energy(H100_LARGE, lasting(seconds)), AZURE)
    more = footprint(computers_energy(H100_LARGE, lasting(seconds * times)), AZURE)
    assert more.water.best.value == pytest.approx(once.water.best.value * times)
    assert more.carbon.high.value == pytest.approx(once.carbon.high.value * times)


@pytest.mark.parametrize("hardware", MACHINES)
def test_a_larger_model_never_takes_a_smaller_share_of_its_machine(hardware: str) -> None:
    machine = MACHINES[hardware]
    draws = [
        drawn(Node(Figure.exact(machine.gpu_power), gpus, Figure.exact(machine.host_power), host)).best.value
        for size in CLASSES
        if size in machine.shares
        for gpus, host in [machine.shares[size]]
    ]
    assert draws == sorted(draws, reverse=True)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_runs_on_a_machine_that_serves_large_models(provider: str) -> None:
    assert "large" in MACHINES[PROVIDERS[provider].machine].shares


def test_nothing_used_costs_nothing() -> None:
    result = footprint(Figure.exact(Joules(0)), AZURE)
    assert (result.energy.high, result.water.high, result.carbon.high) == (Joules(0), Litres(0), Grams(0))
