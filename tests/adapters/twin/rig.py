"""The twin's endpoints on loopback addresses, ticking in real time, and a client for them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import aiohttp

from fallow.twin.control import Control
from fallow.twin.scenario import Scenario
from fallow.twin.serve import build, tick
from fallow.twin.server import Endpoints, Ports
from fallow.twin.ticks import Ticks
from fallow.twin.world import World

POD, OTHER_POD, NODE, NOBODY = "127.0.0.2", "127.0.0.3", "127.0.0.9", "127.0.0.30"
HOSTS = (POD, OTHER_POD, NODE, NOBODY)
GATEWAY = "127.0.0.1"


@dataclass
class Rig:
    world: World
    control: Control
    ports: Ports
    control_port: int
    client: aiohttp.ClientSession

    def vllm(self, path: str, address: str = POD) -> str:
        return f"http://{address}:{self.ports.vllm}{path}"

    def dcgm(self, path: str, address: str = NODE) -> str:
        return f"http://{address}:{self.ports.dcgm}{path}"

    def on_node(self, port: int, address: str = NODE) -> str:
        return f"http://{address}:{port}/metrics"

    def gateway(self, path: str) -> str:
        return f"http://{GATEWAY}:{self.ports.gateway}{path}"

    def controls(self, path: str) -> str:
        return f"http://{GATEWAY}:{self.control_port}{path}"

    async def text(self, url: str) -> str:
        async with self.client.get(url) as answer:
            assert answer.status == 200
            return await answer.text()

    async def json(self, url: str) -> Any:
        async with self.client.get(url) as answer:
            assert answer.status == 200
            return await answer.json()

    async def post(self, url: str, body: Any = None) -> tuple[int, Any]:
        async with self.client.post(url, json=body) as answer:
            return answer.status, await answer.json() if answer.content_type == "application/json" else None


def free_ports(count: int) -> list[int]:
    """Free on every address at the moment of asking."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@asynccontextmanager
async def running(folder: Path, scenario: Scenario | None = None) -> AsyncIterator[Rig]:
    world, control = build(scenario or Scenario(sample_seconds=0.1), started=time(), folder=folder)
    ticks = Ticks()
    endpoints = Endpoints(world, ticks, control.faults)
    vllm, dcgm, gateway, agent, rapl, kepler, control_port = free_ports(7)
    ports = Ports(HOSTS, vllm, dcgm, gateway, (GATEWAY,), agent, rapl, kepler)
    ticking = asyncio.create_task(tick(world, ticks, 0.02))
    try:
        await endpoints.start(ports)
        await endpoints.listen(control.app(), (GATEWAY,), control_port)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client:
            yield Rig(world, control, ports, control_port, client)
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        await endpoints.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what other tasks bring about, with a deadline."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 -- the condition belongs to code that knows no events
            await asyncio.sleep(0.02)
