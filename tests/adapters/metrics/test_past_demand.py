"""What engines served in the past, from a Prometheus on loopback: minutes, restarts, missing series, and failures."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fallow.adapters.metrics.past_demand import PastDemand
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.windows import Served
from tests.adapters.metrics.prometheus_server import Series
from tests.adapters.metrics.range_server import RangeServer
from tests.adapters.metrics.trouble import Trouble

END = Instant(1_800_000_000.0)
POD = PodRef("llm", "chat-bf16-7d9f-x1")


@pytest.fixture
async def prometheus() -> AsyncIterator[tuple[RangeServer, str]]:
    server = RangeServer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    async with TestServer(app) as running:
        yield server, str(running.make_url("")).rstrip("/")


def put(server: RangeServer, name: str, values: list[float], **labels: str) -> None:
    """One value a minute, the last one at the end."""
    start = END - 60.0 * (len(values) - 1)
    plain = {"__name__": name, "namespace": POD.namespace, "pod": POD.name, "engine": "0", "model_name": "chat"}
    samples = [(start + 60.0 * number, value) for number, value in enumerate(values)]
    server.series.append(Series({**plain, **labels}, samples))


def engine(server: RangeServer, requests: list[float], prompt: list[float], generated: list[float]) -> None:
    put(server, "vllm:request_success_total", requests, finished_reason="stop")
    put(server, "vllm:prompt_tokens_total", prompt)
    put(server, "vllm:generation_tokens_total", generated)


async def read(url: str, minutes: int) -> object:
    source = PastDemand(url)
    try:
        return await source.read(END, Seconds(60 * minutes))
    finally:
        await source.close()


async def test_each_minute_has_what_counters_grew_by(prometheus: tuple[RangeServer, str]) -> None:
    server, url = prometheus
    engine(server, [10, 14, 14, 20], [1000, 1400, 1400, 2600], [100, 180, 180, 300])

    assert await read(url, 3) == {POD: {0: Served(4, 400, 80), 2: Served(6, 1200, 120)}}


async def test_a_restarted_engine_counts_from_zero(prometheus: tuple[RangeServer, str]) -> None:
    server, url = prometheus
    engine(server, [50, 3, 5], [5000, 300, 500], [500, 30, 50])

    assert await read(url, 2) == {POD: {0: Served(3, 300, 30), 1: Served(2, 200, 20)}}


async def test_days_are_asked_for_one_by_one_with_three_questions_each(prometheus: tuple[RangeServer, str]) -> None:
    server, url = prometheus
    engine(server, [1, 2], [100, 200], [10, 20])
    await read(url, 3 * 1440)

    assert len(server.ranges) == 9


async def test_nothing_served_is_said_and_is_no_zero(prometheus: tuple[RangeServer, str]) -> None:
    _, url = prometheus
    answer = await read(url, 5)

    assert isinstance(answer, Missing)
    assert answer.reason is Reason.NO_SERIES


async def test_a_failure_is_told_with_its_cause(prometheus: tuple[RangeServer, str]) -> None:
    server, url = prometheus
    engine(server, [1, 2], [100, 200], [10, 20])
    server.trouble = next(iter(Trouble))

    assert isinstance(await read(url, 1), Missing)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="is no address of Prometheus"):
        PastDemand("prometheus")
