"""Single values as people write them: which are accepted, and what they come to."""

import pytest

from fallow.api import amounts, windows
from fallow.api.durations import DURATION, POSITIVE_DURATION, seconds
from fallow.api.formats import DNS_LABEL, GPU_PRODUCT, METRIC_NAME, MODEL_NAME, Format
from fallow.domain.units import Grams, Joules, Watts


@pytest.mark.parametrize(
    ("written", "length"),
    [("250ms", 0.25), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("2m0.5s", 120.5), ("0s", 0)],
)
def test_duration_is_read(written: str, length: float) -> None:
    assert DURATION.fits(written)
    assert seconds(written) == pytest.approx(length)


@pytest.mark.parametrize("written", ["", "10", "10 m", "m", "-5m", "1d", "10min", "1h 30m", "5m,"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    assert not DURATION.fits(written)


@pytest.mark.parametrize("written", ["0s", "0m0s", "0.0h"])
def test_a_positive_duration_is_above_zero(written: str) -> None:
    assert DURATION.fits(written)
    assert not POSITIVE_DURATION.fits(written)


@pytest.mark.parametrize(("written", "watts"), [("120k", 120_000), (3500, 3500), ("1.5M", 1_500_000), ("700", 700)])
def test_power_is_read(written: int | str, watts: float) -> None:
    assert amounts.POWER.check(written) == written
    assert amounts.watts(written) == Watts(watts)


@pytest.mark.parametrize(("written", "grams"), [("500g", 500), ("900kg", 900_000), ("1.2t", 1_200_000)])
def test_carbon_is_read(written: str, grams: float) -> None:
    assert amounts.CARBON_MASS.fits(written)
    assert amounts.grams(written) == Grams(grams)


@pytest.mark.parametrize(("written", "joules"), [("1kWh", 3.6e6), ("1.5MWh", 5.4e9), ("800Wh", 2.88e6)])
def test_energy_is_read(written: str, joules: float) -> None:
    assert amounts.ENERGY.fits(written)
    assert amounts.joules(written).value == pytest.approx(Joules(joules).value)


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(ValueError, match="'5lb' is no amount in one of the units g, kg, t"):
        amounts.grams("5lb")


def test_factor_is_read() -> None:
    assert amounts.factor("1.5x") == 1.5


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (windows.WINDOW, "Mon-Fri 20:00-06:00 Europe/Berlin", "Mon-Fri 20:00-06:00"),
        (windows.WINDOW, "Sat,Sun 00:00-23:59 UTC", "weekends 00:00-23:59 UTC"),
        (windows.WINDOW, "Mon-Wed,Fri 09:00-17:00 America/Argentina/Buenos_Aires", "Mon 9:00-17:00 UTC"),
        (windows.WINDOW, "Sun 00:00-00:00 UTC", "Sun 00:00-00:00 Europe/Atlantis"),
        (windows.MONTH, "2026-01", "2026-13"),
        (windows.TIME_ZONE, "America/Port-au-Prince", "Europe/Atlantis"),
        (windows.TIME_ZONE, "UTC", "Europe"),
        (windows.TIME_ZONE, "Asia/Kolkata", "+05:30"),
        (amounts.FACTOR, "2x", "0.5x"),
        (amounts.MEMORY, "16Gi", "16"),
        (DNS_LABEL, "fp8", "-fp8"),
        (MODEL_NAME, "org/name-1.0_x", "org/name with spaces"),
        (MODEL_NAME, "/models/chat", "models/"),
        (METRIC_NAME, "vllm:num_requests_waiting", "waiting{a=1}"),
        (GPU_PRODUCT, "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "NVIDIA A100"),
    ],
)
def test_format_takes_the_one_and_refuses_the_other(rule: Format, good: str, bad: str) -> None:
    assert rule.fits(good)
    assert not rule.fits(bad)


@pytest.mark.parametrize(
    ("value", "accepted"), [("10%", True), (2, True), ("0%", True), ("101%", False), (-1, False), ("ten", False)]
)
def test_share_of_nodes_is_a_number_or_a_percentage(value: int | str, *, accepted: bool) -> None:
    if accepted:
        assert amounts.NODE_SHARE.check(value) == value
    else:
        with pytest.raises(ValueError, match="must be a number of nodes such as 2"):
            amounts.NODE_SHARE.check(value)


def test_format_reads_alike_in_cel() -> None:
    assert DURATION.cel() == "self.matches(r'^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$')"
    assert POSITIVE_DURATION.cel().endswith("&& self.matches(r'[1-9]')")
