"""The promises of ports.CarbonSource, over every implementation, the router and the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.carbon.configmap import ConfigMapCarbon
from fallow.adapters.carbon.dataset import DatasetCarbon
from fallow.adapters.carbon.prometheus import PrometheusCarbon
from fallow.adapters.carbon.router import CarbonRouter
from fallow.adapters.carbon.series import PrometheusSeries
from fallow.adapters.carbon.static import StaticCarbon
from fallow.domain.figures import Missing
from fallow.domain.units import GramsPerKWh
from fallow.domain.zones import Intensity, IntensityKind, IntensitySource
from fallow.ports import CarbonSource
from tests.adapters.carbon.servers import FakeApiServer, FakePrometheus, running
from tests.support.carbon import InMemoryCarbonSource
from tests.support.metered import NOON, later

CONFIG_MAP = {"namespace": "grid", "name": "intensity", "key": "gramsPerKWh"}


@dataclass(frozen=True)
class Case:
    """A source that works, what to ask it, and the value that it should give."""

    source: CarbonSource
    question: IntensitySource
    grams: float


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


@pytest.fixture(params=["Static", "Dataset", "Prometheus", "ConfigMap", "router", "fake"])
def case(request: pytest.FixtureRequest, prometheus: FakePrometheus, client: ApiClient) -> Case:
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
        "router": lambda: Case(CarbonRouter({"Static": StaticCarbon()}), static, 250),
        "fake": lambda: Case(InMemoryCarbonSource(250), static, 250),
    }
    return cases[request.param]()


async def test_the_value_comes_with_bounds_time_and_source(case: Case) -> None:
    answer = await case.source.intensity(NOON, case.question)
    assert isinstance(answer, Intensity)
    assert answer.grams.best == GramsPerKWh(case.grams)
    assert answer.grams.low < answer.grams.best < answer.grams.high
    assert later(-60) <= answer.at <= NOON
    assert answer.source
    assert answer.kind is IntensityKind.AVERAGE


async def test_a_question_without_its_parameters_is_answered_with_what_is_missing(case: Case) -> None:
    answer = await case.source.intensity(NOON, IntensitySource(case.question.kind, {}))
    assert isinstance(answer, Missing)
    assert answer.detail


async def test_asking_again_gives_the_same(case: Case) -> None:
    first = await case.source.intensity(NOON, case.question)
    assert await case.source.intensity(NOON, case.question) == first
