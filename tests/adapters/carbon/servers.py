"""Loopback servers for the carbon sources: a Prometheus with one series, and an API server with one ConfigMap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Answer = Callable[[], web.StreamResponse]


class FakePrometheus:
    """Answers the instant query for a value and the time of its sample; `trouble`, where set, answers instead."""

    def __init__(self) -> None:
        self.value = "250"
        self.at = 0.0
        self.series = 1
        self.trouble: Answer | None = None
        self.delay = 0.0
        self.queries: list[str] = []
        self.headers: dict[str, str] = {}
        self.url = ""

    async def query(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(request.query["query"])
        self.headers = dict(request.headers)
        await asyncio.sleep(self.delay)
        if self.trouble:
            return self.trouble()
        rows: list[dict[str, Any]] = []
        for number in range(self.series):
            labels = {"provider": f"p{number}"}
            rows.append({"metric": {**labels, "fallow_part": "value"}, "value": [0, self.value]})
            rows.append({"metric": {**labels, "fallow_part": "time"}, "value": [0, str(self.at)]})
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": rows}})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/v1/query", self.query)
        return app


class FakeApiServer:
    def __init__(self) -> None:
        self.data: dict[str, str] | None = {"gramsPerKWh": "250"}
        self.trouble: Answer | None = None
        self.delay = 0.0
        self.paths: list[str] = []
        self.url = ""

    async def read(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        await asyncio.sleep(self.delay)
        if self.trouble:
            return self.trouble()
        return web.json_response(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": self.data}
        )

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/{namespace}/configmaps/{name}", self.read)
        return app


@asynccontextmanager
async def running(server: FakePrometheus | FakeApiServer) -> AsyncIterator[None]:
    test_server = TestServer(server.app())
    await test_server.start_server()
    server.url = str(test_server.make_url("")).rstrip("/")
    try:
        yield
    finally:
        await test_server.close()
