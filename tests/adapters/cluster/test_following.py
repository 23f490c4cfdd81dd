"""ScaledObjects are seen whether KEDA is there from the beginning, comes later, or goes again; over loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.cluster import following
from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.following import Following
from fallow.adapters.cluster.mirror import SCALED_OBJECTS, Mirror
from tests.adapters.cluster import raw

PATH = "/apis/keda.sh/v1alpha1/scaledobjects"
SOON = 5.0


class Keda:
    """The API server's part: a list of what is installed, and a watch that tells `events` until it is ended."""

    def __init__(self) -> None:
        self.installed: dict[str, dict[str, Any]] | None = None
        self.refuses = 0
        self.refused = 0
        self.events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.lists = 0
        self.versions: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuses:
            self.refused += 1
            return web.json_response({"message": "no"}, status=self.refuses)
        if self.installed is None:
            return web.json_response({"message": "not found"}, status=404)
        if "watch" not in request.query:
            self.lists += 1
            return web.json_response({"metadata": {"resourceVersion": "100"}, "items": list(self.installed.values())})
        self.versions.append(request.query["resourceVersion"])
        answer = web.StreamResponse()
        await answer.prepare(request)
        while (event := await self.events.get()) is not None:
            # in two pieces, as it may come
            line = json.dumps(event).encode() + b"\n"
            await answer.write(line[:20])
            await asyncio.sleep(0.01)
            await answer.write(line[20:])
        return answer

    def tell(self, kind: str, body: dict[str, Any]) -> None:
        self.events.put_nowait({"type": kind, "object": body})

    def end(self) -> None:
        self.events.put_nowait(None)


class Rig:
    def __init__(self, keda: Keda, follows: Following, mirror: Mirror) -> None:
        self.keda, self.follows, self.mirror = keda, follows, mirror

    @property
    def seen(self) -> set[str]:
        return set(self.mirror.uids(SCALED_OBJECTS))

    async def until(self, *seen: str) -> None:
        await until(lambda: self.seen == set(seen))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.01)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(following, "RECONNECT_SECONDS", 0.01)
    keda, app, mirror = Keda(), web.Application(), Mirror()
    app.router.add_get(PATH, keda.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = ApiClient(Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}"))
    follows = Following(KubernetesApi(client, timeout=0.5), mirror, SCALED_OBJECTS, PATH, absence=0.05)
    yield Rig(keda, follows, mirror)
    keda.end()
    await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    await runner.cleanup()


@pytest.fixture
async def running(rig: Rig) -> AsyncIterator[Rig]:
    task = asyncio.create_task(rig.follows.run())
    yield rig
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def version(number: int, name: str = "queue") -> dict[str, Any]:
    body = raw.scaled_object(name=name)
    body["metadata"]["resourceVersion"] = str(number)
    return body


async def test_a_cluster_without_keda_keeps_nobody_waiting(running: Rig) -> None:
    async with asyncio.timeout(SOON):
        await running.follows.looked.wait()
    assert running.seen == set()


@pytest.mark.parametrize("status", [403, 500], ids=["a right is missing", "it does not work"])
async def test_what_cannot_be_listed_keeps_nobody_waiting_and_is_told_once(
    running: Rig, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    running.keda.refuses = status
    await until(lambda: running.keda.refused > 3)
    assert running.follows.looked.is_set()
    assert caplog.text.count("scaledobjects are not seen") == 1


async def test_objects_are_listed_and_then_watched(running: Rig) -> None:
    running.keda.installed = {"queue": version(90)}
    await running.until("so-queue")
    running.keda.tell("ADDED", version(101, "other"))
    await running.until("so-queue", "so-other")
    running.keda.tell("DELETED", version(102))
    await running.until("so-other")
    assert running.keda.lists == 1


async def test_a_watch_that_ends_goes_on_from_where_it_was(running: Rig) -> None:
    running.keda.installed = {}
    running.keda.tell("ADDED", version(101))
    running.keda.tell("BOOKMARK", {"metadata": {"resourceVersion": "120"}})
    running.keda.end()
    running.keda.tell("DELETED", version(121))
    await running.until()
    await until(lambda: len(running.keda.versions) > 1)
    assert (running.keda.versions[:2], running.keda.lists) == (["100", "120"], 1)


async def test_a_version_that_is_too_old_is_listed_anew(running: Rig) -> None:
    running.keda.installed = {"queue": version(90)}
    await running.until("so-queue")
    running.keda.installed = {"other": version(130, "other")}
    running.keda.tell("ERROR", {"code": 410})
    await running.until("so-other")


async def test_keda_that_goes_takes_its_objects_with_it_and_may_come_again(running: Rig) -> None:
    running.keda.installed = {"queue": version(90)}
    await running.until("so-queue")
    running.keda.installed = None
    running.keda.end()
    await running.until()
    running.keda.installed = {"other": version(95, "other")}
    await running.until("so-other")
