"""One contract for every ledger store, run over the ConfigMap on a loopback API server and over the fake in memory."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.cluster.ledger_codec import encode
from fallow.adapters.cluster.ledger_store import KEY, ConfigMapLedgerStore
from fallow.domain.errors import Conflict, Refused, Unreachable
from fallow.domain.ledger import Ledger
from fallow.footprint.bookkeeping import book
from fallow.ports import LedgerStore
from tests.support.ledger import InMemoryLedgerStore
from tests.support.metered import NOON, booked, gpu, later, opened, snapshot

NAMESPACE = "fallow-system"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


class ApiServer:
    """One namespace's ConfigMaps with the API server's rules; `trouble`, where set, answers instead."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.trouble: Callable[[], web.StreamResponse | None] | None = None
        self.delay = 0.0
        self.url = ""
        self._version = 100
        self.now = datetime.now(UTC).isoformat()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=4 * 2**20)
        app.router.add_get(PATH + "/{name}", self.read)
        app.router.add_post(PATH, self.create)
        app.router.add_put(PATH + "/{name}", self.replace)
        app.router.add_delete(PATH + "/{name}", self.delete)
        app.router.add_get(PATH, self.list)
        return app

    async def read(self, request: web.Request) -> web.StreamResponse:
        if answer := await self._disturbed():
            return answer
        found = self.objects.get(request.match_info["name"])
        return web.json_response(found) if found else failure(404, "NotFound")

    async def create(self, request: web.Request) -> web.StreamResponse:
        if answer := await self._disturbed():
            return answer
        body = await request.json()
        name = body["metadata"]["name"]
        if "resourceVersion" in body["metadata"]:
            return failure(400, "resourceVersion should not be set on objects to be created")
        if name in self.objects:
            return failure(409, "AlreadyExists")
        return web.json_response(self._store(name, body), status=201)

    async def replace(self, request: web.Request) -> web.StreamResponse:
        if answer := await self._disturbed():
            return answer
        name, body = request.match_info["name"], await request.json()
        if name not in self.objects:
            return failure(404, "NotFound")
        if body["metadata"]["resourceVersion"] != self.objects[name]["metadata"]["resourceVersion"]:
            return failure(409, "the object has been modified")
        return web.json_response(self._store(name, body))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        if answer := await self._disturbed():
            return answer
        gone = self.objects.pop(request.match_info["name"], None)
        return web.json_response({}) if gone else failure(404, "NotFound")

    async def list(self, request: web.Request) -> web.StreamResponse:
        if answer := await self._disturbed():
            return answer
        key, value = request.query["labelSelector"].split("=")
        found = [one for one in self.objects.values() if one["metadata"].get("labels", {}).get(key) == value]
        return web.json_response({"items": found})

    def _store(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        body["metadata"].setdefault("creationTimestamp", self.now)
        self.objects[name] = body
        return body

    async def _disturbed(self) -> web.StreamResponse | None:
        await asyncio.sleep(self.delay)
        return self.trouble() if self.trouble else None


def failure(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    api = ApiServer()
    running = TestServer(api.app())
    await running.start_server()
    api.url = str(running.make_url(""))
    yield api
    await running.close()


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[ApiClient]:
    configuration = Configuration()
    configuration.host = server.url.rstrip("/")
    connected = ApiClient(configuration)
    yield connected
    await connected.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped


@pytest.fixture
def store(client: ApiClient) -> ConfigMapLedgerStore:
    return ConfigMapLedgerStore(client, NAMESPACE)


@pytest.fixture(params=["ConfigMap", "in memory"])
def any_store(request: pytest.FixtureRequest, store: ConfigMapLedgerStore) -> LedgerStore:
    return store if request.param == "ConfigMap" else InMemoryLedgerStore()


def some_ledger() -> Ledger:
    ledger = book(opened(), snapshot(0, [gpu(0, 1000.0, 300.0)]))
    return book(ledger, snapshot(15, [gpu(15, 5500.0, 300.0)]))


async def test_nothing_was_ever_stored(any_store: LedgerStore) -> None:
    assert await any_store.load() is None


async def test_what_is_stored_is_loaded_again(any_store: LedgerStore) -> None:
    stored = await any_store.save(some_ledger())
    loaded = await any_store.load()
    assert loaded is not None
    assert loaded.version == stored.version != ""
    assert booked(loaded) == booked(some_ledger())
    assert loaded.gpus["GPU-a"].joules == some_ledger().gpus["GPU-a"].joules
    assert loaded.at == later(15)


async def test_the_stored_ledger_goes_on(any_store: LedgerStore) -> None:
    first = await any_store.save(some_ledger())
    second = await any_store.save(replace(first, resets=7))
    loaded = await any_store.load()
    assert second.version != first.version
    assert loaded is not None
    assert loaded.resets == 7


async def test_the_older_writer_is_refused(any_store: LedgerStore) -> None:
    first = await any_store.save(some_ledger())
    await any_store.save(replace(first, resets=1))
    with pytest.raises(Conflict):
        await any_store.save(replace(first, resets=2))
    loaded = await any_store.load()
    assert loaded is not None
    assert loaded.resets == 1


async def test_two_who_begin_at_once_are_told_apart(any_store: LedgerStore) -> None:
    await any_store.save(some_ledger())
    with pytest.raises(Conflict):
        await any_store.save(some_ledger())


async def test_a_deleted_object_is_made_anew(store: ConfigMapLedgerStore, server: ApiServer) -> None:
    first = await store.save(some_ledger())
    server.objects.clear()
    second = await store.save(replace(first, resets=4))
    loaded = await store.load()
    assert loaded is not None
    assert (loaded.resets, loaded.version) == (4, second.version)


@pytest.mark.parametrize(
    ("code", "error"),
    [(403, Refused), (422, Refused), (409, Conflict), (429, Unreachable), (500, Unreachable), (503, Unreachable)],
)
async def test_each_failure_becomes_one_of_three(
    store: ConfigMapLedgerStore, server: ApiServer, code: int, error: type[Exception]
) -> None:
    server.trouble = lambda: failure(code, "because")
    with pytest.raises(error, match="because"):
        await store.save(some_ledger())
    with pytest.raises(error, match="because"):
        await store.load()


async def test_no_answer_in_time_is_unreachable(client: ApiClient, server: ApiServer) -> None:
    server.delay = 5
    hurried = ConfigMapLedgerStore(client, NAMESPACE, timeout=0.05)
    with pytest.raises(Unreachable, match="no answer within"):
        await hurried.load()


async def test_a_refused_write_to_an_existing_object_stays_refused(
    store: ConfigMapLedgerStore, server: ApiServer
) -> None:
    first = await store.save(some_ledger())
    server.objects["fallow-ledger"]["immutable"] = True
    answers = iter([failure(422, "field is immutable"), web.json_response(server.objects["fallow-ledger"])])
    server.trouble = lambda: next(answers)
    with pytest.raises(Refused, match="immutable"):
        await store.save(first)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, f"it has no key {KEY}"),
        ({"other": "aGk="}, f"it has no key {KEY}"),
        ({KEY: "not base64!"}, "holds no ledger that can be read"),
        ({KEY: base64.b64encode(b"hello").decode()}, "not gzipped JSON"),
    ],
    ids=["empty", "another key", "no base64", "no gzip"],
)
async def test_content_that_cannot_be_read_is_named_and_never_overwritten(
    store: ConfigMapLedgerStore, server: ApiServer, data: dict[str, str] | None, message: str
) -> None:
    foreign: dict[str, Any] = {"metadata": {"name": "fallow-ledger", "resourceVersion": "5"}}
    if data is not None:
        foreign["binaryData"] = data
    server.objects["fallow-ledger"] = foreign
    with pytest.raises(Refused, match=message):
        await store.load()
    with pytest.raises(Conflict):
        await store.save(some_ledger())
    assert server.objects["fallow-ledger"] == foreign


@pytest.fixture
def small(client: ApiClient) -> ConfigMapLedgerStore:
    """A store whose ConfigMaps hold so little that every ledger continues in further ones."""
    return ConfigMapLedgerStore(client, NAMESPACE, part_bytes=100)


def parts(server: ApiServer) -> set[str]:
    return set(server.objects) - {"fallow-ledger"}


def named(server: ApiServer) -> set[str]:
    """The parts that the first object names; what did not change between two ledgers may be a part of both."""
    return set(server.objects["fallow-ledger"]["data"]["parts"].split())


async def test_a_large_ledger_continues_in_further_objects(small: ConfigMapLedgerStore, server: ApiServer) -> None:
    stored = await small.save(some_ledger())
    loaded = await small.load()
    assert loaded is not None
    assert (booked(loaded), loaded.version) == (booked(some_ledger()), stored.version)
    assert len(parts(server)) > 1
    assert all(len(base64.b64decode(one["binaryData"][KEY])) <= 100 for one in server.objects.values())


async def test_the_parts_of_the_ledger_before_are_removed(small: ConfigMapLedgerStore, server: ApiServer) -> None:
    first = await small.save(some_ledger())
    before = parts(server)
    second = await small.save(replace(first, resets=7))
    assert parts(server) == named(server) != before
    loaded = await small.load()
    assert loaded is not None
    assert (loaded.resets, loaded.version) == (7, second.version)


async def test_another_process_removes_them_too(
    client: ApiClient, small: ConfigMapLedgerStore, server: ApiServer
) -> None:
    await small.save(some_ledger())
    before = parts(server)
    successor = ConfigMapLedgerStore(client, NAMESPACE, part_bytes=100)
    loaded = await successor.load()
    assert loaded is not None
    await successor.save(replace(loaded, resets=7))
    assert parts(server) == named(server) != before


async def test_a_crash_before_the_first_object_is_stored_leaves_the_ledger_before(
    small: ConfigMapLedgerStore, server: ApiServer
) -> None:
    first = await small.save(some_ledger())
    stored = len(server.objects)
    answers: list[web.StreamResponse | None] = [None, failure(500, "killed")]
    server.trouble = lambda: answers.pop(0) if answers else failure(500, "killed")
    with pytest.raises(Unreachable):
        await small.save(replace(first, resets=7))
    server.trouble = None
    assert len(server.objects) == stored + 1
    loaded = await small.load()
    assert loaded is not None
    assert (loaded.resets, loaded.version) == (0, first.version)


async def test_what_a_crash_left_behind_is_removed_once_it_is_old(
    client: ApiClient, small: ConfigMapLedgerStore, server: ApiServer
) -> None:
    server.now = "2026-01-01T00:00:00Z"
    first = await small.save(some_ledger())
    old = parts(server)
    server.now = datetime.now(UTC).isoformat()
    young = await ConfigMapLedgerStore(client, NAMESPACE, "other", part_bytes=100).save(some_ledger())
    assert young
    between = parts(server) - old - {"other"}
    await ConfigMapLedgerStore(client, NAMESPACE).save(replace(first, resets=7))
    assert parts(server) == between | {"other"}


async def test_a_part_that_is_gone_or_changed_is_named(small: ConfigMapLedgerStore, server: ApiServer) -> None:
    await small.save(some_ledger())
    name = min(parts(server))
    server.objects[name]["binaryData"][KEY] = base64.b64encode(b"else").decode()
    with pytest.raises(Refused, match=f"its part {name} was changed"):
        await small.load()
    del server.objects[name]
    with pytest.raises(Refused, match=f"its part {name} is gone"):
        await small.load()


async def test_a_ledger_of_too_many_parts_is_refused_with_the_size(client: ApiClient, server: ApiServer) -> None:
    with pytest.raises(Refused, match=r"takes \d+ kB and may take 0.2 kB: 1 GPUs"):
        await ConfigMapLedgerStore(client, NAMESPACE, part_bytes=10).save(some_ledger())
    assert server.objects == {}


async def test_the_object_says_whose_it_is(store: ConfigMapLedgerStore, server: ApiServer) -> None:
    await store.save(Ledger(NOON, NOON))
    stored = server.objects["fallow-ledger"]
    assert stored["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "fallow"
    assert base64.b64decode(stored["binaryData"][KEY]) == encode(Ledger(NOON, NOON))


async def test_a_fault_of_the_fake_is_raised() -> None:
    fake = InMemoryLedgerStore()
    fake.fault = Unreachable("down")
    with pytest.raises(Unreachable):
        await fake.load()
    with pytest.raises(Unreachable):
        await fake.save(some_ledger())
