"""What a zone's reading is made of: the source in use and those passed over, its forecast, its PUE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes.aio.client import ApiClient

from fallow.adapters.carbon.file import FileCarbon
from fallow.adapters.carbon.router import CarbonRouter
from fallow.app.settings import Settings
from fallow.app.wiring import zone_sources
from fallow.app.zones import Zones
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.workloads import Service
from fallow.domain.zones import (
    Forecast,
    ForecastPoint,
    Intensity,
    IntensityKind,
    IntensitySource,
    IntensityTier,
    Ratio,
    Zone,
    ZoneReading,
)
from tests.adapters.carbon.providers import FakeElectricityMaps, credentials
from tests.support.builders import BF16, FP8, NOW, PRECISION, policy, service
from tests.support.carbon import InMemoryCarbonSource
from tests.support.metered import NOON, later
from tests.support.plant import Plant

DOWN = Missing(Reason.SOURCE_UNREACHABLE, "down")
LIVE, OTHER = IntensitySource("Live", {"zone": "a"}), IntensitySource("Other", {"zone": "b"})
SAMPLES = Path(__file__).resolve().parents[2] / "docs" / "samples"


class TieredSource(InMemoryCarbonSource):
    """Answers as of a tier and a signal."""

    def __init__(self, grams: float, tier: IntensityTier, kind: IntensityKind = IntensityKind.AVERAGE) -> None:
        super().__init__(grams)
        self.tier = tier
        self.kind = kind

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        answer = await super().intensity(now, source)
        return answer if isinstance(answer, Missing) else replace(answer, tier=self.tier, kind=self.kind)


class Meter:
    def __init__(self, answer: Ratio | Missing) -> None:
        self.answer = answer

    async def pue(self, now: Instant, query: str) -> Ratio | Missing:
        assert (now, query) == (NOON, "pue")
        return self.answer


def declared(source: IntensitySource = LIVE, *fallbacks: IntensitySource, **more: object) -> Zone:
    return replace(Zone("north", source, fallbacks=fallbacks, is_default=True), **more)  # type: ignore[arg-type]


async def read(zones: Zones, zone: Zone, seconds: float = 0) -> ZoneReading:
    return (await zones.read(later(seconds), (zone,)))[zone.name]


def present(reading: ZoneReading) -> Intensity:
    assert isinstance(reading.intensity, Intensity)
    return reading.intensity


def ahead(grams: float, hours: float = 24) -> Forecast:
    return Forecast((ForecastPoint(NOON, GramsPerKWh(grams)),), later(hours * 3600), "ahead")


async def test_the_preferred_source_is_used_and_nobody_else_asked() -> None:
    live, other = InMemoryCarbonSource(100), InMemoryCarbonSource(200)
    reading = await read(Zones(CarbonRouter({"Live": live, "Other": other})), declared(LIVE, OTHER))
    assert present(reading).grams.best.value == 100
    assert (reading.passed_over, other.asked) == ((), 0)


async def test_last_known_then_forecast_then_fallback_and_bounds_widen_with_each_step() -> None:
    live = InMemoryCarbonSource(100, ahead(100, hours=3))
    mean = TieredSource(100, IntensityTier.YEARLY)
    zones, zone = Zones(CarbonRouter({"Live": live, "Other": mean})), declared(LIVE, OTHER)
    seen = [await read(zones, zone)]
    live.grams, live.ahead = DOWN, DOWN
    seen += [await read(zones, zone, seconds) for seconds in (600, 7300, 10_900)]
    assert [present(reading).tier for reading in seen] == [
        IntensityTier.LIVE,
        IntensityTier.CACHED,
        IntensityTier.FORECAST,
        IntensityTier.YEARLY,
    ]
    figures = [present(reading).grams for reading in seen]
    widths = [figure.high.value - figure.low.value for figure in figures]
    assert widths == sorted(widths)
    assert len(set(widths)) == 4
    assert all(reading.passed_over[0].why == DOWN for reading in seen[1:])
    assert present(seen[3]).instead_of == DOWN


async def test_what_was_expected_of_an_earlier_hour_gives_way_to_what_was_expected_of_this_one() -> None:
    hours = (ForecastPoint(NOON, GramsPerKWh(100)), ForecastPoint(later(3600), GramsPerKWh(300)))
    written = TieredSource(100, IntensityTier.FORECAST)
    written.ahead = Forecast(hours, later(7200), "ahead")
    zones, zone = Zones(CarbonRouter({"Live": written})), declared()
    await read(zones, zone)
    written.grams, written.ahead = DOWN, DOWN
    reading = await read(zones, zone, 3600)
    assert (present(reading).grams.best.value, present(reading).tier) == (300, IntensityTier.FORECAST)
    assert reading.passed_over[0].why == DOWN


async def test_recovery_takes_the_preferred_source_again() -> None:
    live, other = InMemoryCarbonSource(DOWN), InMemoryCarbonSource(200)
    zones = Zones(CarbonRouter({"Live": live, "Other": other}))
    assert present(await read(zones, declared(LIVE, OTHER))).grams.best.value == 200
    live.grams = 100
    reading = await read(zones, declared(LIVE, OTHER), 60)
    assert (present(reading).grams.best.value, reading.passed_over) == (100, ())


async def test_when_nothing_answers_the_preferred_source_s_reason_is_given_and_all_are_named() -> None:
    empty = Missing(Reason.NO_SERIES, "no sample")
    sources = {"Live": InMemoryCarbonSource(DOWN), "Other": InMemoryCarbonSource(empty)}
    reading = await read(Zones(CarbonRouter(sources)), declared(LIVE, OTHER))
    assert reading.intensity == DOWN
    assert [(part.source, part.why) for part in reading.passed_over] == [("Live", DOWN), ("Other", empty)]


@pytest.mark.parametrize("says", list(IntensityKind))
async def test_a_marginal_value_never_stands_in_for_an_average_nor_the_other_way_round(says: IntensityKind) -> None:
    """Neither by declaration nor by what the answer turns out to be."""
    other = next(kind for kind in IntensityKind if kind is not says)
    wanted = IntensitySource("Live", {"signal": says.value})
    marginal = TieredSource(200, IntensityTier.LIVE, other)
    zones = Zones(CarbonRouter({"Live": InMemoryCarbonSource(DOWN), "Other": marginal}))
    reading = await read(zones, declared(wanted, IntensitySource("Other", {"signal": other.value})))
    assert reading.intensity == DOWN
    assert reading.passed_over[1].why.reason is Reason.WRONG_SIGNAL


async def test_a_forecast_of_the_other_signal_does_not_stand_in() -> None:
    live = InMemoryCarbonSource(DOWN, replace(ahead(100), kind=IntensityKind.MARGINAL))
    reading = await read(Zones(CarbonRouter({"Live": live})), declared())
    assert reading.intensity == DOWN


async def test_the_marginal_signal_is_shown_beside_and_not_in_the_place_of_the_average() -> None:
    marginal = IntensitySource("Other", {"zone": "b", "signal": "marginal"})
    sources = {"Live": InMemoryCarbonSource(DOWN), "Other": InMemoryCarbonSource(500)}
    reading = await read(Zones(CarbonRouter(sources)), declared(marginal=marginal))
    assert reading.intensity == DOWN
    assert isinstance(reading.marginal, Intensity)
    assert reading.marginal.kind is IntensityKind.MARGINAL


async def test_a_source_without_forecasts_has_none_and_no_fault() -> None:
    reading = await read(Zones(InMemoryCarbonSource(100)), declared())
    assert reading.forecast is None
    failing = await read(Zones(InMemoryCarbonSource(100, DOWN)), declared())
    assert failing.forecast == DOWN


async def test_errors_of_forecasts_are_kept_while_the_zone_and_its_source_stay() -> None:
    live = InMemoryCarbonSource(130, ahead(100))
    zones = Zones(live)
    await read(zones, declared())
    after = await read(zones, declared(), 3600)
    assert [(error.samples, error.mean.value) for error in after.errors] == [(1, 30)]
    assert (await read(zones, declared(OTHER), 5400)).errors == ()
    assert (await read(zones, declared(), 5400)).errors == ()


async def test_a_measured_pue_goes_before_the_declared_one_which_stands_in_while_it_is_missing() -> None:
    metered = Ratio(1.3, 1.35, 1.4)
    zone = declared(pue=Ratio(1.1, 1.2, 1.3), pue_query="pue")
    carbon = InMemoryCarbonSource(100)
    assert (await read(Zones(carbon, Meter(metered)), zone)).pue == metered
    missing = await read(Zones(carbon, Meter(DOWN)), zone)
    assert (missing.pue, missing.live_pue) == (zone.pue, DOWN)
    without = await read(Zones(carbon), zone)
    assert isinstance(without.live_pue, Missing)
    assert (await read(Zones(carbon, Meter(metered)), declared())).live_pue is None


TWO_VARIANTS: Service = service(BF16, FP8)


async def test_a_forecast_file_moves_a_service_to_fp8_in_its_dirty_hours_and_back_after_them() -> None:
    """The sample of the documentation: above 350 from four in the afternoon, below 332 from ten in the evening."""
    grid = (IntensitySource("File", {"name": "forecast.csv"}), CarbonRouter({"File": FileCarbon(SAMPLES)}))
    plant = Plant(TWO_VARIANTS, policy(precision=PRECISION), grid=grid)
    plant.running = 15
    served: dict[int, str] = {}
    for hour in range(8, 24):
        plant.clock.now = NOW + (hour - 8) * 3600
        report = await plant.pass_time(20)
        served[hour] = next(iter(report.plan.services.values())).serving or ""
        assert sum(plant.replicas.values()) >= 2
    assert [hour for hour, variant in served.items() if variant == "fp8"] == [16, 17, 18, 19, 20, 21]
    reading = report.snapshot.zones["north"]
    assert present(reading).tier is IntensityTier.FORECAST
    assert isinstance(reading.forecast, Forecast)


async def test_after_its_last_entry_a_forecast_moves_nothing() -> None:
    grid = (IntensitySource("File", {"name": "forecast.csv"}), CarbonRouter({"File": FileCarbon(SAMPLES)}))
    plant = Plant(TWO_VARIANTS, policy(precision=PRECISION), grid=grid)
    plant.running = 15
    plant.clock.now = NOW + 10 * 3600
    await plant.pass_time(40)
    assert plant.replicas == {"bf16": 0, "fp8": 2}
    plant.clock.now = NOW + 48 * 3600
    report = await plant.pass_time(40)
    assert plant.replicas == {"bf16": 0, "fp8": 2}
    assert isinstance(report.snapshot.zones["north"].intensity, Missing)


async def test_the_settings_lead_a_zone_to_its_provider_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    credentials(tmp_path)
    server = FakeElectricityMaps()
    async with server.running(), ApiClient() as api:
        settings = Settings(credentials_dir=tmp_path, carbon_urls={"ElectricityMaps": server.url})
        carbon, pue = zone_sources(settings, api)
        zone = declared(IntensitySource("ElectricityMaps", {"zone": "DE"}), pue_query="pue")
        reading = await read(Zones(carbon, pue), zone)
        await carbon.close()
        await pue.close()
    assert present(reading).grams.best.value == 250
    assert isinstance(reading.forecast, Forecast)
    assert isinstance(reading.live_pue, Missing)
    assert "prometheus URL" in reading.live_pue.detail
