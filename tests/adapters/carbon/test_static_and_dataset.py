"""Sources without a network: a written value, and the yearly means that ship with the package."""

import pytest

from fallow.adapters.carbon.dataset import DatasetCarbon, water_at_source, yearly_means
from fallow.adapters.carbon.static import StaticCarbon
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh
from fallow.domain.zones import Intensity, IntensitySource
from tests.support.metered import NOON


async def static(**parameters: object) -> Intensity | Missing:
    return await StaticCarbon().intensity(NOON, IntensitySource("Static", parameters))


async def dataset(**parameters: object) -> Intensity | Missing:
    return await DatasetCarbon().intensity(NOON, IntensitySource("Dataset", parameters))


@pytest.mark.parametrize(
    ("parameters", "bounds"),
    [
        ({"gramsPerKWh": 200}, (180, 200, 220)),
        ({"gramsPerKWh": 200, "low": 150}, (150, 200, 220)),
        ({"gramsPerKWh": 200, "low": 150, "high": 400}, (150, 200, 400)),
        ({"gramsPerKWh": 0}, (0, 0, 0)),
        ({"gramsPerKWh": 5000}, (4500, 5000, 5000)),
    ],
)
async def test_bounds_are_those_given_else_ten_percent(
    parameters: dict[str, float], bounds: tuple[float, float, float]
) -> None:
    answer = await static(**parameters)
    assert isinstance(answer, Intensity)
    found = answer.grams
    assert (found.low.value, found.best.value, found.high.value) == pytest.approx(bounds)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gramsPerKWh": "much"}, "must be a plain number"),
        ({"gramsPerKWh": float("nan")}, "static.gramsPerKWh is nan"),
        ({"gramsPerKWh": -1}, "lie between 0 and 5000"),
        ({"gramsPerKWh": 250_000}, "lie between 0 and 5000"),
        ({"gramsPerKWh": 200, "low": 300}, "correct the bounds"),
        ({"gramsPerKWh": 200, "low": "x"}, "static.low"),
        ({"gramsPerKWh": 200, "high": "x"}, "static.high"),
    ],
)
async def test_a_wrong_value_is_named(parameters: dict[str, object], message: str) -> None:
    answer = await static(**parameters)
    assert isinstance(answer, Missing)
    assert message in answer.detail


async def test_a_yearly_mean_says_its_source_and_year_and_has_wide_bounds() -> None:
    answer = await dataset(zone="DE", factorType="lifecycle")
    assert isinstance(answer, Intensity)
    assert answer.grams == Figure(GramsPerKWh(381 * 0.8), GramsPerKWh(381), GramsPerKWh(381 * 1.2))
    assert answer.source == "ember DE, mean of 2023"


@pytest.mark.parametrize(
    ("zone", "hint"),
    [("US-FOO", "it has US, US-CAL-CISO"), ("XX", "it has "), ("AU-ACT", "AU-NSW")],
)
async def test_an_unknown_zone_is_answered_with_the_nearest(zone: str, hint: str) -> None:
    answer = await dataset(zone=zone)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.NO_INTENSITY
    assert hint in answer.detail


async def test_direct_factors_are_not_mixed_with_life_cycle_ones() -> None:
    answer = await dataset(zone="DE", factorType="direct")
    assert isinstance(answer, Missing)
    assert "factorType: lifecycle" in answer.detail


def test_the_dataset_is_plausible() -> None:
    means = yearly_means()
    assert len(means) >= 60
    assert all(10 < mean.grams.value < 1000 for mean in means.values())
    assert all(2020 <= mean.year <= 2026 for mean in means.values())
    assert {mean.source for mean in means.values()} == {"ember", "electricitymaps"}
    assert means["FR"].grams < means["DE"].grams < means["PL"].grams


def test_water_at_the_source_is_known_for_some_zones() -> None:
    found = water_at_source("FR")
    assert found is not None
    assert found.best.value == pytest.approx(3.67)
    assert found.low < found.best < found.high
    assert water_at_source("AE") is None
    assert water_at_source("XX") is None
