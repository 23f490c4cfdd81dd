"""Units: amounts of one kind add up, kinds never mix, and each conversion is right."""

import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain import units
from fallow.domain.units import Grams, GramsPerKWh, Joules, Litres, LitresPerKWh, Quantity, Seconds, Watts

amounts = st.floats(-1e15, 1e15)


def test_amounts_of_one_unit_add_subtract_and_scale() -> None:
    assert Joules(2) + Joules(3) == Joules(5)
    assert Joules(2) - Joules(3) == Joules(-1)
    assert 2 * Joules(3) == Joules(3) * 2 == Joules(6)
    assert sum([Watts(1), Watts(2)], start=Watts(0)) == Watts(3)


def test_dividing_one_unit_by_itself_gives_a_ratio() -> None:
    assert Joules(6) / Joules(3) == 2.0


@pytest.mark.parametrize(
    "mixed",
    [
        operator.add,
        operator.sub,
        operator.truediv,
        operator.lt,
        operator.ge,
    ],
    ids=["add", "subtract", "divide", "less", "at least"],
)
def test_two_units_never_mix(mixed: Callable[[object, object], object]) -> None:
    with pytest.raises(TypeError, match="cannot mix Watts with Joules"):
        mixed(Watts(1), Joules(1))


def test_amounts_of_two_units_are_never_equal() -> None:
    watts, joules = Quantity(1), Joules(1)
    assert watts != joules


@given(amounts, amounts)
def test_order_is_that_of_the_values(one: float, other: float) -> None:
    assert (Joules(one) < Joules(other)) == (one < other)
    assert (Joules(one) <= Joules(other)) == (one <= other)
    assert (Joules(one) > Joules(other)) == (one > other)
    assert (Joules(one) >= Joules(other)) == (one >= other)


@pytest.mark.parametrize(
    ("converted", "expected"),
    [
        (units.energy(Watts(300), Seconds(10)), Joules(3000)),
        (units.mean_power(Joules(3000), Seconds(10)), Watts(300)),
        (units.emissions(Joules(7.2e6), GramsPerKWh(400)), Grams(800)),
        (units.water(Joules(7.2e6), LitresPerKWh(1.8)), Litres(3.6)),
        (units.from_millijoules(98_765_432_100), Joules(98_765_432.1)),
        (units.from_kilowatt_hours(2), Joules(7.2e6)),
    ],
    ids=["energy", "mean power", "emissions", "water", "from mJ", "from kWh"],
)
def test_each_conversion(converted: Quantity, expected: Quantity) -> None:
    assert type(converted) is type(expected)
    assert converted.value == pytest.approx(expected.value)


def test_joules_read_as_watt_hours() -> None:
    assert Joules(7.2e6).watt_hours == 2000
    assert Joules(7.2e6).kilowatt_hours == 2
