"""Loopback servers that speak the documented formats of Electricity Maps, WattTime and the British API."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from fallow.adapters.carbon.credentials import Credentials
from fallow.domain.units import Instant
from tests.support.metered import NOON

KEY, LOGIN = "key-of-a-paid-plan", "ada:correct horse"
HALF = 1800

Trouble = Callable[["FakeProvider", web.Request], Any]


@dataclass(frozen=True)
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class FakeProvider:
    """Notes what it is asked; `trouble`, where set, answers instead, except on the paths that are `sound`."""

    def __init__(self, sound: frozenset[str] = frozenset()) -> None:
        self.sound = sound
        self.trouble: Trouble | None = None
        self.asked: list[Asked] = []
        self.url = ""
        self.over = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(request.path, dict(request.query), dict(request.headers)))
        if self.trouble is not None and request.path not in self.sound:
            made = self.trouble(self, request)
            answer: web.StreamResponse | None = await made if asyncio.iscoroutine(made) else made
            if answer is not None:
                return answer
        return await self.answer(request)

    @property
    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.handle)
        server = TestServer(app)
        await server.start_server()
        self.url = str(server.make_url("")).rstrip("/")
        try:
            yield
        finally:
            self.over.set()
            await server.close()


class FakeElectricityMaps(FakeProvider):
    def __init__(self) -> None:
        super().__init__()
        self.grams: Any = 250
        self.at = NOON
        self.estimated = False
        self.zone = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("auth-token") != KEY:
            return web.json_response({"error": "Invalid auth-token"}, status=401)
        zone = self.zone or request.query["zone"]
        if request.path == "/v3/carbon-intensity/latest":
            return web.json_response(
                {
                    "zone": zone,
                    "carbonIntensity": self.grams,
                    "datetime": z(self.at, millis=True),
                    "updatedAt": z(self.at + 120, millis=True),
                    "createdAt": z(self.at - 86_400, millis=True),
                    "emissionFactorType": request.query["emissionFactorType"],
                    "isEstimated": self.estimated,
                    "estimationMethod": "TIME_SLICER_AVERAGE" if self.estimated else None,
                }
            )
        if request.path == "/v3/carbon-intensity/forecast":
            points = [{"carbonIntensity": 200 + hour, "datetime": z(NOON + 3600 * hour)} for hour in range(24)]
            return web.json_response({"zone": zone, "forecast": points, "updatedAt": z(NOON - 600)})
        return web.json_response({"error": "not found"}, status=404)


class FakeWattTime(FakeProvider):
    """`tokens` are valid as long as they are the newest."""

    def __init__(self, sound: frozenset[str] = frozenset()) -> None:
        super().__init__(sound)
        self.pounds: Any = 1000.0
        self.at = NOON
        self.tokens = 0
        self.units = "lbs_co2_per_mwh"

    @property
    def logins(self) -> int:
        return self.paths.count("/login")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if request.path == "/login":
            if kind != "Basic" or b64decode(given).decode() != LOGIN:
                return web.json_response({"error": "Invalid login"}, status=401)
            self.tokens += 1
            return web.json_response({"token": f"token-{self.tokens}"})
        if kind != "Bearer" or given != f"token-{self.tokens}":
            return web.json_response({"error": "token has expired"}, status=401)
        horizon = int(request.query.get("horizon_hours", 0))
        points = [{"point_time": z(self.at + 300 * n), "value": self.pounds} for n in range(horizon * 12 + 1)]
        meta = {
            "region": request.query["region"],
            "signal_type": request.query["signal_type"],
            "model": {"date": "2026-03-01"},
            "units": self.units,
            "data_point_period_seconds": 300,
            "generated_at": z(self.at),
        }
        return web.json_response({"data": points, "meta": meta})


class FakeBritain(FakeProvider):
    """National figures are measured where `actual` is not None; regions are only ever expected."""

    def __init__(self) -> None:
        super().__init__()
        self.actual: Any = 250
        self.expected: Any = 240

    def half(self, start: float, actual: Any) -> dict[str, Any]:
        intensity = {"forecast": self.expected, "actual": actual, "index": "moderate"}
        return {"from": minute(start), "to": minute(start + HALF), "intensity": intensity}

    def region(self, start: float) -> dict[str, Any]:
        mix = [{"fuel": "gas", "perc": 43.6}, {"fuel": "wind", "perc": 20.1}]
        intensity = {"forecast": self.expected, "index": "moderate"}
        return {"from": minute(start), "to": minute(start + HALF), "intensity": intensity, "generationmix": mix}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = {"regionid": 13, "dnoregion": "UKPN London", "shortname": "London"}
        ahead = [NOON + HALF * n for n in range(-1, 96)]
        if request.path == "/intensity":
            return web.json_response({"data": [self.half(NOON, self.actual)]})
        if request.path == f"/intensity/{minute(NOON)}/fw48h":
            return web.json_response({"data": [self.half(start, None) for start in ahead]})
        if request.path == "/regional/regionid/13":
            return web.json_response({"data": [{**name, "data": [self.region(NOON)]}]})
        if request.path == f"/regional/intensity/{minute(NOON)}/fw48h/regionid/13":
            return web.json_response({"data": {**name, "data": [self.region(start) for start in ahead]}})
        error = {"code": "400 Bad Request", "message": "Please enter a valid path"}
        return web.json_response({"error": error}, status=400)


def credentials(folder: Path) -> Credentials:
    """Valid ones, as a Secret is mounted."""
    (folder / "electricity-maps").write_text(f"{KEY}\n")
    (folder / "watttime").write_text(f"{LOGIN}\n")
    return Credentials(folder)


def z(when: float, *, millis: bool = False) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S" + (".000Z" if millis else "+00:00"))


def minute(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%MZ")


def http_date(when: Instant) -> str:
    return format_datetime(datetime.fromtimestamp(when, UTC), usegmt=True)


def status(code: int, text: str = "", **headers: str) -> Trouble:
    """An answer of any status; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _server, _request: web.Response(status=code, text=text, headers=named)


def body(text: str) -> Trouble:
    return lambda _server, _request: web.Response(text=text, content_type="application/json")


async def hang(server: FakeProvider, _request: web.Request) -> None:
    await server.over.wait()


async def cut(_server: FakeProvider, request: web.Request) -> web.StreamResponse:
    """Half of the answer, and then the connection ends."""
    answer = web.StreamResponse(headers={"Content-Length": "4000", "Content-Type": "application/json"})
    await answer.prepare(request)
    await answer.write(b'{"zone": "DE", "data": [')
    assert request.transport is not None
    request.transport.close()
    return answer
