"""Worked examples of the SCI specification, of its case study, and of SCI for AI, with the slips they print."""

import pytest

from fallow.domain.figures import Figure
from fallow.domain.units import Grams, GramsPerKWh, Seconds, from_kilowatt_hours
from fallow.domain.zones import Ratio
from fallow.footprint.impacts import carbon
from fallow.footprint.query import Span
from fallow.footprint.sci import embodied_share, intensity_per_unit

HOUR = Span(Seconds(3600), Seconds(3600), Seconds(3600))
FOUR_YEARS = Span(Seconds(35_040 * 3600), Seconds(35_040 * 3600), Seconds(35_040 * 3600))


def kilograms(amount: float) -> Figure[Grams]:
    return Figure.exact(Grams(amount * 1e3))


def test_one_hour_of_a_device_of_1000_kg_over_four_years_is_around_28_g() -> None:
    """SPEC.md 1.1, embodied emissions."""
    share = embodied_share(kilograms(1000), held=HOUR, life=FOUR_YEARS, share=Ratio(1, 1, 1))
    assert share.best.value == pytest.approx(28.54, abs=0.005)


@pytest.mark.parametrize(
    ("kwh", "made", "share", "printed", "tolerance"),
    [
        pytest.param(0.0656, 1205.52, 2 / 16, 66.6906, 1e-4, id="app server"),
        pytest.param(0.048, 1433.12, 2 / 16, 50.76, 1e-4, id="database server"),
        pytest.param(0.01552, 350, 1, 24.96, 0.009, id="client device: 0.00336 kWh is carried on as 0.0036"),
        pytest.param(0.01529, 0, 1, 14.54, 1e-4, id="network"),
    ],
)
def test_each_part_of_the_case_study_eshoppen_comes_to_what_it_prints(
    kwh: float, made: float, share: float, printed: float, tolerance: float
) -> None:
    operational = carbon(Figure.exact(from_kilowatt_hours(kwh)), Figure.exact(GramsPerKWh(951)))
    embodied = embodied_share(kilograms(made), held=HOUR, life=FOUR_YEARS, share=Ratio(share, share, share))
    assert intensity_per_unit(operational, embodied, 1).best.value == pytest.approx(printed, rel=tolerance)


@pytest.mark.parametrize(
    ("operational", "embodied", "units", "scale", "printed", "slip"),
    [
        pytest.param(5_000, 1_500, 50e9, 1e6, 0.13, 1000, id="language model, consumer: g per million tokens"),
        pytest.param(180_000, 20_000, 5e22, 1e18, 4, 1000, id="language model, provider: g per 1e18 FLOP"),
        pytest.param(3_200, 0, 40e6, 1, 0.08, 1, id="vision model, consumer: g per inference"),
        pytest.param(75_000, 0, 2.5e9, 1e9, 30e3, 1000, id="vision model, provider: g per billion parameters"),
    ],
)
def test_the_examples_of_sci_for_ai_hold_but_for_slips_of_a_factor_1000(
    operational: float, embodied: float, units: float, scale: float, printed: float, slip: float
) -> None:
    """SPEC.md 9: three of its four results are printed a thousand times too small."""
    score = intensity_per_unit(kilograms(operational), kilograms(embodied), units).best.value * scale
    assert score == pytest.approx(printed * slip)


def test_a_longer_life_bounds_the_share_of_manufacture_from_below() -> None:
    life = Span(Seconds(3), Seconds(4), Seconds(6))
    share = embodied_share(
        Figure.exact(Grams(12)), held=Span(Seconds(1), Seconds(1), Seconds(1)), life=life, share=Ratio(1, 1, 1)
    )
    assert share == Figure(Grams(2), Grams(3), Grams(4))


def test_an_intensity_without_functional_units_is_refused() -> None:
    with pytest.raises(ValueError, match="functional units"):
        intensity_per_unit(kilograms(1), kilograms(1), 0)
