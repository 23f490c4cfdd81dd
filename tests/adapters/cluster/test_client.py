"""One call to the API server, over loopback: what is sent, and which of our errors each answer becomes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.cluster.client import KubernetesApi, PatchType
from fallow.domain.errors import Conflict, Refused, Unreachable

PATH = "/apis/apps/v1/namespaces/llm/deployments/chat"


class Server:
    """Answers every request with `answer`; `requests` holds what came."""

    def __init__(self) -> None:
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = ok
        self.requests: list[tuple[str, str, str, str]] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.requests.append((request.method, request.path_qs, request.content_type, body))
        return await self.answer(request)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"


async def ok(_: web.Request) -> web.Response:
    return web.json_response({"kind": "Deployment"})


def status(code: int, message: str = "said so") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)

    return answer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    running = Server()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubernetesApi]:
    client = ApiClient(Configuration(host=server.url))
    yield KubernetesApi(client, timeout=0.5)
    await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped


async def test_a_replica_that_does_not_lead_reads_and_writes_nothing(server: Server) -> None:
    client = ApiClient(Configuration(host=server.url))
    standby = KubernetesApi(client, may_write=lambda: False)

    assert await standby.get(PATH) is not None
    for write in (
        standby.create(PATH, {}),
        standby.replace(PATH, {}),
        standby.apply(PATH, {}, "fallow"),
        standby.patch(PATH, {}, PatchType.MERGE, "fallow"),
        standby.delete(PATH),
    ):
        with pytest.raises(Refused, match="this replica does not lead"):
            await write
    assert [method for method, *_ in server.requests] == ["GET"]
    await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped


async def test_apply_is_a_forced_server_side_apply(server: Server, api: KubernetesApi) -> None:
    answer = await api.apply(PATH, {"spec": {"replicas": 1}}, "fallow")

    assert answer == {"kind": "Deployment"}
    assert server.requests == [
        (
            "PATCH",
            f"{PATH}?fieldManager=fallow&force=true",
            "application/apply-patch+yaml",
            '{"spec": {"replicas": 1}}',
        )
    ]


async def test_a_json_patch_is_a_list_of_operations(server: Server, api: KubernetesApi) -> None:
    await api.patch(PATH, [{"op": "remove", "path": "/spec/replicas"}], PatchType.JSON, "fallow")

    assert server.requests[0][2:] == ("application/json-patch+json", '[{"op": "remove", "path": "/spec/replicas"}]')


async def test_a_merge_patch_keeps_its_type(server: Server, api: KubernetesApi) -> None:
    await api.patch(f"{PATH}/scale", {"spec": {"replicas": 0}}, PatchType.MERGE, "fallow")

    assert server.requests[0][1:] == (
        f"{PATH}/scale?fieldManager=fallow",
        "application/merge-patch+json",
        '{"spec": {"replicas": 0}}',
    )


async def test_what_is_not_there_is_none(server: Server, api: KubernetesApi) -> None:
    server.answer = status(404)

    assert await api.get(PATH) is None


@pytest.mark.parametrize(
    ("code", "error"),
    [
        pytest.param(400, Refused, id="bad-request"),
        pytest.param(401, Refused, id="unauthorised"),
        pytest.param(403, Refused, id="forbidden"),
        pytest.param(404, Refused, id="not-found"),
        pytest.param(409, Conflict, id="conflict"),
        pytest.param(422, Refused, id="invalid"),
        pytest.param(429, Unreachable, id="too-many"),
        pytest.param(500, Unreachable, id="server-error"),
        pytest.param(503, Unreachable, id="unavailable"),
    ],
)
async def test_each_refusal_is_one_of_our_errors_with_the_servers_words(
    server: Server, api: KubernetesApi, code: int, error: type[Exception]
) -> None:
    server.answer = status(code)

    with pytest.raises(error, match=f"{code} said so"):
        await api.apply(PATH, {"spec": {}}, "fallow")


async def test_an_answer_in_plain_text_is_quoted(server: Server, api: KubernetesApi) -> None:
    async def proxy(_: web.Request) -> web.Response:
        return web.Response(text="upstream connect error", status=502)

    server.answer = proxy

    with pytest.raises(Unreachable, match="502 upstream connect error"):
        await api.get(PATH)


async def test_silence_ends_by_the_time_limit(server: Server, api: KubernetesApi) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    server.answer = silent

    with pytest.raises(Unreachable, match=r"no answer within 0.5 s"):
        await api.get(PATH)


async def test_nobody_listening_is_unreachable(server: Server, api: KubernetesApi) -> None:
    await server.stop()

    with pytest.raises(Unreachable, match="no connection to the API server"):
        await api.apply(PATH, {"spec": {}}, "fallow")


async def test_a_restarted_server_is_found_again(server: Server, api: KubernetesApi) -> None:
    await api.get(PATH)
    await server.stop()
    await server.start()

    assert await api.apply(PATH, {"spec": {}}, "fallow") == {"kind": "Deployment"}


async def test_a_broken_connection_is_tried_once_more(server: Server, api: KubernetesApi) -> None:
    async def drop_first(request: web.Request) -> web.StreamResponse:
        if len(server.requests) == 1 and request.transport is not None:
            request.transport.close()
        return web.json_response({})

    server.answer = drop_first
    await api.apply(PATH, {"spec": {}}, "fallow")

    assert len(server.requests) == 2


async def test_a_creation_is_never_sent_twice(server: Server, api: KubernetesApi) -> None:
    async def drop(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.close()
        return web.json_response({})

    server.answer = drop

    with pytest.raises(Unreachable):
        await api.create("/apis/events.k8s.io/v1/namespaces/llm/events", {"kind": "Event"})
    assert len(server.requests) == 1


@pytest.mark.parametrize("items", [None, []])
async def test_a_list_of_nothing_is_empty(server: Server, api: KubernetesApi, items: list[str] | None) -> None:
    """Asked for metadata alone, the API server writes null where there is nothing."""

    async def nothing(_: web.Request) -> web.Response:
        return web.json_response({"kind": "PartialObjectMetadataList", "items": items})

    server.answer = nothing
    assert await api.uids("/api/v1/pods") == frozenset()
