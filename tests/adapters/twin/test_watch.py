"""Following an API server: list, watch, and getting well again after disconnects, 410 and restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from fallow.domain.readings import PodRef
from fallow.twin.kubernetes import follow
from fallow.twin.manifests import PodReader
from fallow.twin.pods import PodPhase
from fallow.twin.world import World
from tests.adapters.twin.rig import free_ports, until


def a_pod_object(name: str, *, ready: bool = True, uid: str = "", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "demo",
            "name": name,
            "uid": uid or name,
            "labels": {"app.kubernetes.io/managed-by": "fallow", "fallow.dev/service": "chat"},
            **metadata,
        },
        "spec": {
            "nodeName": "gpu-1",
            "containers": [
                {"name": "main", "args": ["--model", "m-8b"], "resources": {"limits": {"nvidia.com/gpu": "1"}}}
            ],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


NODE = {
    "metadata": {"name": "gpu-1", "uid": "n1", "labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}},
    "status": {"capacity": {"nvidia.com/gpu": "8"}, "addresses": [{"type": "InternalIP", "address": "127.0.0.9"}]},
}


class FakeApiServer:
    """Lists what it holds; a watch gets what came after its version, or 410 where that was compacted away."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"nodes": {"gpu-1": NODE}, "pods": {}}
        self.version = 1
        self.compacted = 0
        self.history: list[tuple[int, bytes]] = []
        self.watched_from: list[int] = []
        self._watches: dict[str, list[asyncio.Queue[bytes | None]]] = {"nodes": [], "pods": []}
        self._runner: web.AppRunner | None = None
        self.port = free_ports(1)[0]

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.get("/api/v1/{plural}", self._get)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        self.disconnect()
        if self._runner is not None:
            await self._runner.cleanup()

    def disconnect(self) -> None:
        for queues in self._watches.values():
            for queue in queues:
                queue.put_nowait(None)

    @property
    def watches(self) -> int:
        return sum(map(len, self._watches.values()))

    def compact(self) -> None:
        self.compacted = self.version
        self.history.clear()

    def put(self, body: dict[str, Any], *, silently: bool = False) -> None:
        known = body["metadata"]["name"] in self.objects["pods"]
        self.objects["pods"][body["metadata"]["name"]] = body
        self._tell("MODIFIED" if known else "ADDED", body, silently)

    def delete(self, name: str, *, silently: bool = False) -> None:
        self._tell("DELETED", self.objects["pods"].pop(name), silently)

    def _tell(self, kind: str, body: dict[str, Any], silently: bool) -> None:
        self.version += 1
        told = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        line = json.dumps({"type": kind, "object": told}).encode() + b"\n"
        self.history.append((self.version, line))
        for queue in [] if silently else self._watches["pods"]:
            # In two pieces, as a network may cut it.
            queue.put_nowait(line[:50])
            queue.put_nowait(line[50:])

    async def _get(self, request: web.Request) -> web.StreamResponse:
        plural = request.match_info["plural"]
        if "watch" not in request.query:
            items = list(self.objects[plural].values())
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})
        version = int(request.query["resourceVersion"])
        if version < self.compacted:
            error = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
            return web.Response(body=json.dumps(error).encode() + b"\n")
        if plural == "pods":
            self.watched_from.append(version)
        missed = [line for at, line in self.history if at > version] if plural == "pods" else []
        return await self._stream(request, plural, missed)

    async def _stream(self, request: web.Request, plural: str, missed: list[bytes]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watches[plural].append(queue)
        try:
            for line in missed:
                await response.write(line)
            while (piece := await queue.get()) is not None:
                await response.write(piece)
        finally:
            self._watches[plural].remove(queue)
        return response


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    server = FakeApiServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def world(server: FakeApiServer) -> AsyncIterator[World]:
    world = World(started=0.0)
    client = ApiClient(Configuration(host=f"http://127.0.0.1:{server.port}"))
    following = asyncio.create_task(follow(client, world, PodReader(lambda _: 0.0)))
    await until(lambda: server.watches == 2)
    yield world
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped


def pods(world: World) -> dict[str, PodPhase]:
    return {ref.name: pod.facts.phase for ref, pod in world.fleet.pods.items()}


async def test_nodes_and_pods_become_gpus_and_engines(server: FakeApiServer, world: World) -> None:
    server.put(a_pod_object("a", ready=False))
    await until(lambda: pods(world) == {"a": PodPhase.LOADING})
    server.put(a_pod_object("a"))
    await until(lambda: world.fleet.pods[PodRef("demo", "a")].listening)
    assert len(list(world.fleet.gpus())) == 8
    server.put(a_pod_object("a", deletionTimestamp="2026-11-22T10:00:00Z"))
    await until(lambda: pods(world) == {"a": PodPhase.DRAINING})
    server.delete("a")
    await until(lambda: pods(world) == {})
    assert all(gpu.holder is None for gpu in world.fleet.gpus())


async def test_a_watch_that_ends_goes_on_from_its_version(server: FakeApiServer, world: World) -> None:
    server.put(a_pod_object("a"))
    await until(lambda: "a" in pods(world))
    server.disconnect()
    await until(lambda: len(server.watched_from) == 2)
    assert server.watched_from == [1, 2]


async def test_what_vanished_unseen_is_forgotten_after_410(server: FakeApiServer, world: World) -> None:
    server.put(a_pod_object("a"))
    server.put(a_pod_object("b"))
    await until(lambda: len(pods(world)) == 2)
    server.delete("a", silently=True)
    server.put(a_pod_object("c"), silently=True)
    server.compact()
    server.disconnect()
    await until(lambda: set(pods(world)) == {"b", "c"})


@pytest.mark.parametrize("forgets", [False, True], ids=["with its history", "without its history"])
async def test_an_api_server_that_restarts_is_followed_again(
    server: FakeApiServer, world: World, forgets: bool
) -> None:
    server.put(a_pod_object("a"))
    await until(lambda: "a" in pods(world))
    await server.stop()
    await asyncio.sleep(0.3)
    server.delete("a", silently=True)
    server.put(a_pod_object("b"), silently=True)
    if forgets:
        server.compact()
    await server.start()
    await until(lambda: set(pods(world)) == {"b"})


async def test_a_late_deletion_of_a_pod_does_not_take_its_successor(server: FakeApiServer, world: World) -> None:
    server.put(a_pod_object("a", uid="old"))
    await until(lambda: "a" in pods(world))
    server.put(a_pod_object("a", uid="new"))
    await until(lambda: world.fleet.pods[PodRef("demo", "a")].facts.uid == "new")
    server._tell("DELETED", a_pod_object("a", uid="old"), silently=False)
    server.put(a_pod_object("z"))
    await until(lambda: "z" in pods(world))
    assert "a" in pods(world)
