"""The promises of ports.CarbonSource, over every implementation, the router and the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.carbon.configmap import ConfigMapCarbon
from fallow.adapters.carbon.dataset import DatasetCarbon
from fallow.adapters.carbon.electricity_maps import ElectricityMapsCarbon
from fallow.adapters.carbon.file import FileCarbon
from fallow.adapters.carbon.prometheus import PrometheusCarbon
from fallow.adapters.carbon.router import CarbonRouter
from fallow.adapters.carbon.series import PrometheusSeries
from fallow.adapters.carbon.static import StaticCarbon
from fallow.adapters.carbon.uk_carbon_intensity import UKCarbonIntensity
from fallow.adapters.carbon.watttime import WattTimeCarbon
from fallow.api.intensity import SourceName
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh
from fallow.domain.zones import Intensity, IntensitySource
from fallow.ports import CarbonSource
from tests.adapters.carbon.providers import (
    FakeBritain,
    FakeElectricityMaps,
    FakeProvider,
    FakeWattTime,
    credentials,
)
from tests.adapters.carbon.servers import FakeApiServer, FakePrometheus, running
from tests.support.carbon import InMemoryCarbonSource
from tests.support.metered import NOON, later

CONFIG_MAP = {"namespace": "grid", "name": "intensity", "key": "gramsPerKWh"}


@dataclass(frozen=True)
class Case:
    """A source that works, what to ask it, and the value that it should give; what it must not take for a question."""

    source: CarbonSource
    question: IntensitySource
    grams: float
    wrong: Mapping[str, Any] = field(default_factory=dict)
    forecasts: bool = False


@pytest.fixture
async def prometheus() -> AsyncIterator[FakePrometheus]:
    server = FakePrometheus()
    server.at = NOON - 30
    async with running(server):
        yield server


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    server = FakeApiServer()
    async with running(server):
        yield server


@pytest.fixture
async def client(api: FakeApiServer) -> AsyncIterator[ApiClient]:
    configuration = Configuration()
    configuration.host = api.url
    connected = ApiClient(configuration)
    yield connected
    await connected.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped


@pytest.fixture
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[FakeProvider]:
    """The server of the provider under test, where it has one."""
    servers = {"ElectricityMaps": FakeElectricityMaps, "WattTime": FakeWattTime}
    server = servers.get(request.node.callspec.params["case"], FakeBritain)()
    async with server.running():
        yield server


CASES = [*get_args(SourceName), "ConfigMap with a forecast", "router", "fake"]
FORECASTING = {"ConfigMap with a forecast", "File", "ElectricityMaps", "WattTime", "UKCarbonIntensity"}


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest,
    prometheus: FakePrometheus,
    api: FakeApiServer,
    client: ApiClient,
    provider: FakeProvider,
    tmp_path: Path,
) -> Case:
    secrets = credentials(tmp_path)
    table = "time,gramsPerKWh\n2026-03-14T12:00Z,250\n2026-03-14T13:00Z,300\n2026-03-14T14:00Z,350\n"
    (tmp_path / "day.csv").write_text(table)
    api.data = {"gramsPerKWh": "250", "day.csv": table}
    static = IntensitySource("Static", {"gramsPerKWh": 250, "factorType": "lifecycle"})
    cases: dict[str, Callable[[], Case]] = {
        "Static": lambda: Case(StaticCarbon(), static, 250),
        "Dataset": lambda: Case(DatasetCarbon(), IntensitySource("Dataset", {"zone": "FR"}), 56),
        "Prometheus": lambda: Case(
            PrometheusCarbon(PrometheusSeries(prometheus.url)),
            IntensitySource("Prometheus", {"query": "grid_intensity"}),
            250,
        ),
        "ConfigMap": lambda: Case(ConfigMapCarbon(client), IntensitySource("ConfigMap", CONFIG_MAP), 250),
        "ConfigMap with a forecast": lambda: Case(
            ConfigMapCarbon(client), IntensitySource("ConfigMap", {**CONFIG_MAP, "key": "day.csv"}), 250
        ),
        "File": lambda: Case(FileCarbon(tmp_path), IntensitySource("File", {"name": "day.csv"}), 250),
        "ElectricityMaps": lambda: Case(
            ElectricityMapsCarbon(secrets, url=provider.url), IntensitySource("ElectricityMaps", {"zone": "DE"}), 250
        ),
        "WattTime": lambda: Case(
            WattTimeCarbon(secrets, url=provider.url),
            IntensitySource("WattTime", {"region": "CAISO_NORTH", "signal": "marginal"}),
            453.59237,
        ),
        "UKCarbonIntensity": lambda: Case(
            UKCarbonIntensity(url=provider.url), IntensitySource("UKCarbonIntensity", {}), 250, {"region": 99}
        ),
        "router": lambda: Case(CarbonRouter({"Static": StaticCarbon()}), static, 250),
        "fake": lambda: Case(InMemoryCarbonSource(250), static, 250),
    }
    return replace(cases[request.param](), forecasts=request.param in FORECASTING)


async def test_the_value_comes_with_bounds_time_and_source(case: Case) -> None:
    answer = await case.source.intensity(NOON, case.question)
    assert isinstance(answer, Intensity)
    assert answer.grams.best == GramsPerKWh(case.grams)
    assert answer.grams.low < answer.grams.best < answer.grams.high
    assert later(-60) <= answer.at <= NOON
    assert answer.source
    assert answer.kind is case.question.signal


async def test_a_forecast_covers_the_present_in_the_signal_of_the_source(case: Case) -> None:
    answer = await case.source.forecast(NOON, case.question)
    if isinstance(answer, Missing):
        assert (answer.reason, case.forecasts) == (Reason.NO_FORECAST, False)
    else:
        assert answer.at(NOON) is not None
        assert answer.kind is case.question.signal
        assert answer.until > NOON + 3600
        assert answer.source


async def test_a_question_without_its_parameters_is_answered_with_what_is_missing(case: Case) -> None:
    wrong = IntensitySource(case.question.kind, case.wrong)
    answer = await case.source.intensity(NOON, wrong)
    assert isinstance(answer, Missing)
    assert answer.detail
    assert isinstance(await case.source.forecast(NOON, wrong), Missing)


async def test_asking_again_gives_the_same(case: Case) -> None:
    first = await case.source.intensity(NOON, case.question)
    assert await case.source.intensity(NOON, case.question) == first
