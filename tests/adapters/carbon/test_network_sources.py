"""Prometheus and ConfigMap sources against loopback servers that answer well, badly, late or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.carbon.configmap import ConfigMapCarbon
from fallow.adapters.carbon.prometheus import PrometheusCarbon, PrometheusPue
from fallow.adapters.carbon.series import Access, PrometheusSeries
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.zones import Intensity, IntensityKind, IntensitySource, Ratio
from tests.adapters.carbon.servers import Answer, FakeApiServer, FakePrometheus, running
from tests.support.metered import NOON

QUERY = 'grid_intensity_carbon_average{region="DE"}'


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


async def ask(server: FakePrometheus, *, patience: float = 5.0, **parameters: str) -> Intensity | Missing:
    access = Access(headers={"X-Scope-OrgID": "grid"})
    source = PrometheusCarbon(PrometheusSeries(server.url, access=access, timeout=patience))
    return await source.intensity(NOON, IntensitySource("Prometheus", {"query": QUERY, **parameters}))


async def read(server: FakeApiServer, *, patience: float = 5.0, key: str = "gramsPerKWh") -> Intensity | Missing:
    configuration = Configuration()
    configuration.host = server.url
    async with ApiClient(configuration) as client:
        source = ConfigMapCarbon(client, timeout=patience)
        return await source.intensity(
            NOON, IntensitySource("ConfigMap", {"namespace": "grid", "name": "intensity", "key": key})
        )


def text(body: str, status: int = 200) -> Answer:
    return lambda: web.Response(text=body, status=status, content_type="application/json")


async def test_one_query_brings_the_value_and_the_time_of_its_sample(prometheus: FakePrometheus) -> None:
    answer = await ask(prometheus)
    assert isinstance(answer, Intensity)
    assert answer.at == NOON - 30
    assert len(prometheus.queries) == 1
    assert QUERY in prometheus.queries[0]
    assert prometheus.headers["X-Scope-OrgID"] == "grid"


async def test_a_marginal_series_stays_marginal(prometheus: FakePrometheus) -> None:
    answer = await ask(prometheus, signal="marginal")
    assert isinstance(answer, Intensity)
    assert answer.kind is IntensityKind.MARGINAL


async def test_a_sample_that_is_hours_old_is_not_the_present(prometheus: FakePrometheus) -> None:
    prometheus.at = NOON - 7300
    answer = await ask(prometheus)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.STALE_SERIES
    assert "7300 s old" in answer.detail


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("NaN", Reason.NOT_A_NUMBER),
        ("+Inf", Reason.NOT_A_NUMBER),
        ("-5", Reason.BAD_ANSWER),
        ("380000", Reason.BAD_ANSWER),
    ],
)
async def test_a_value_that_is_no_intensity_is_refused(prometheus: FakePrometheus, value: str, reason: Reason) -> None:
    prometheus.value = value
    answer = await ask(prometheus)
    assert isinstance(answer, Missing)
    assert answer.reason is reason


@pytest.mark.parametrize(("series", "reason"), [(0, Reason.NO_SERIES), (3, Reason.BAD_ANSWER)])
async def test_the_query_must_give_one_series(prometheus: FakePrometheus, series: int, reason: Reason) -> None:
    prometheus.series = series
    answer = await ask(prometheus)
    assert isinstance(answer, Missing)
    assert answer.reason is reason


@pytest.mark.parametrize(
    ("trouble", "reason", "detail"),
    [
        (text('{"status":"error","error":"parse error"}', 400), Reason.BAD_ANSWER, "parse error"),
        (text("", 401), Reason.BAD_ANSWER, "401"),
        (text("", 503), Reason.BAD_ANSWER, "503"),
        (text("<html>"), Reason.BAD_ANSWER, "format"),
        (text("[]"), Reason.BAD_ANSWER, "format"),
        (text('{"data":{"result":[1,2]}}'), Reason.BAD_ANSWER, "no instant vector"),
        (
            text('{"data":{"result":[{"metric":{"fallow_part":"value"},"value":[0,"5"]}]}}'),
            Reason.BAD_ANSWER,
            "has no time",
        ),
        (text('{"data":{"result":"' + "x" * (1 << 20) + '"}}'), Reason.BAD_ANSWER, "format"),
    ],
    ids=["400", "401", "503", "html", "list", "numbers", "no time", "too large"],
)
async def test_a_bad_answer_becomes_a_reason(
    prometheus: FakePrometheus, trouble: Answer, reason: Reason, detail: str
) -> None:
    prometheus.trouble = trouble
    answer = await ask(prometheus)
    assert isinstance(answer, Missing)
    assert answer.reason is reason
    assert detail in answer.detail


async def test_a_slow_prometheus_is_given_up(prometheus: FakePrometheus) -> None:
    prometheus.delay = 3
    answer = await ask(prometheus, patience=0.1)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.SOURCE_UNREACHABLE
    assert "within 0.1 s" in answer.detail


async def test_a_prometheus_that_is_not_there_is_unreachable(prometheus: FakePrometheus) -> None:
    prometheus.url = "http://127.0.0.1:1"
    answer = await ask(prometheus)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.SOURCE_UNREACHABLE


async def test_a_config_map_is_read_where_it_is_named(api: FakeApiServer) -> None:
    answer = await read(api)
    assert isinstance(answer, Intensity)
    assert answer.source == "ConfigMap grid/intensity, key gramsPerKWh"
    assert api.paths == ["/api/v1/namespaces/grid/configmaps/intensity"]


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ({"other": "1"}, "has no key gramsPerKWh; it has other"),
        (None, "it has none"),
        ({"gramsPerKWh": "250 g"}, "must be a plain number"),
        ({"gramsPerKWh": "nan"}, "is nan"),
        ({"gramsPerKWh": "9999"}, "lie between"),
    ],
)
async def test_a_config_map_without_a_number_is_named(
    api: FakeApiServer, data: dict[str, str] | None, detail: str
) -> None:
    api.data = data
    answer = await read(api)
    assert isinstance(answer, Missing)
    assert detail in answer.detail


@pytest.mark.parametrize(
    ("trouble", "reason", "detail"),
    [
        (text("{}", 403), Reason.NO_INTENSITY, "ServiceAccount"),
        (text("{}", 404), Reason.NO_INTENSITY, "create it"),
        (text("{}", 429), Reason.SOURCE_UNREACHABLE, "429"),
        (text("{}", 500), Reason.SOURCE_UNREACHABLE, "500"),
        (text("<html>"), Reason.BAD_ANSWER, "not an API server"),
        (text("[]"), Reason.BAD_ANSWER, "not an API server"),
        (text('{"data": [1]}'), Reason.BAD_ANSWER, "not an API server"),
        (text('{"data": {"gramsPerKWh": 250}}'), Reason.BAD_ANSWER, "not an API server"),
        (text('{"binaryData": {"gramsPerKWh": "MjU"}}'), Reason.BAD_ANSWER, "not an API server"),
    ],
    ids=["403", "404", "429", "500", "html", "a list", "wrong shape", "a number", "not base64"],
)
async def test_a_config_map_that_cannot_be_read_says_why(
    api: FakeApiServer, trouble: Answer, reason: Reason, detail: str
) -> None:
    api.trouble = trouble
    answer = await read(api)
    assert isinstance(answer, Missing)
    assert answer.reason is reason
    assert detail in answer.detail


async def test_a_slow_api_server_is_given_up(api: FakeApiServer) -> None:
    api.delay = 3
    answer = await read(api, patience=0.1)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.SOURCE_UNREACHABLE


async def test_an_api_server_that_is_not_there_is_unreachable(api: FakeApiServer) -> None:
    api.url = "http://127.0.0.1:1"
    answer = await read(api)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.SOURCE_UNREACHABLE


async def measured(server: FakePrometheus) -> Ratio | Missing:
    return await PrometheusPue(PrometheusSeries(server.url)).pue(NOON, "facility_watts / it_watts")


@pytest.mark.parametrize(("value", "low"), [("1.3", 1.235), ("1.02", 1.0)])
async def test_a_measured_pue_has_bounds_and_never_lies_below_one(
    prometheus: FakePrometheus, value: str, low: float
) -> None:
    prometheus.value = value
    answer = await measured(prometheus)
    assert isinstance(answer, Ratio)
    assert answer.best == float(value)
    assert answer.low == pytest.approx(low)
    assert answer.high == pytest.approx(float(value) * 1.05)


@pytest.mark.parametrize("value", ["0.9", "11", "NaN", "-1", "+Inf"])
async def test_what_is_no_pue_is_refused(prometheus: FakePrometheus, value: str) -> None:
    prometheus.value = value
    assert isinstance(await measured(prometheus), Missing)


@pytest.mark.parametrize("off", [-7300, 1e18, float("inf"), float("nan")])
async def test_a_pue_that_is_hours_old_is_not_the_present(prometheus: FakePrometheus, off: float) -> None:
    prometheus.value, prometheus.at = "1.3", NOON + off
    answer = await measured(prometheus)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.STALE_SERIES


async def test_the_token_of_prometheus_is_read_for_each_question(prometheus: FakePrometheus, tmp_path: Path) -> None:
    token = tmp_path / "token"
    series = PrometheusSeries(prometheus.url, access=Access(token_file=token))
    for word in ("first", "second"):
        token.write_text(f"{word}\n")
        await series.read("up", NOON)
        assert prometheus.headers["Authorization"] == f"Bearer {word}"
    token.unlink()
    assert isinstance(await series.read("up", NOON), Missing)
