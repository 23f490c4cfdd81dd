"""One contract for every claim to lead: the Lease on a loopback API server, and the fake in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.lease import KubernetesLease
from fallow.domain.errors import Conflict, Refused, Unreachable
from fallow.domain.tenure import Tenure
from fallow.domain.units import Instant, Seconds
from fallow.ports import Lease
from tests.support.lease import InMemoryLease

NAMESPACE = "fallow-system"
PATH = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
CLAIM = Tenure("fallow-a", Instant(1.8e9), Instant(1.8e9 + 12.25), Seconds(30), terms=3)


class ApiServer:
    """The one Lease with the API server's rules; `status`, where set, is answered instead."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.status = 0
        self._version = 7

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(PATH + "/fallow", self.read)
        app.router.add_post(PATH, self.write)
        app.router.add_put(PATH + "/fallow", self.write)
        return app

    async def read(self, _: web.Request) -> web.Response:
        if self.status:
            return _failure(self.status)
        return _failure(404) if self.lease is None else web.json_response(self.lease)

    async def write(self, request: web.Request) -> web.Response:
        if self.status:
            return _failure(self.status)
        body = await request.json()
        if body["spec"]["leaseDurationSeconds"] < 1:
            return _failure(422)
        known = self.lease["metadata"]["resourceVersion"] if self.lease else None
        if body["metadata"].get("resourceVersion") != known:
            return _failure(409)
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.lease = body
        return web.json_response(body, status=201 if request.method == "POST" else 200)


def _failure(code: int) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": "because"}, status=code)


@pytest.fixture
async def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def kept(server: ApiServer) -> AsyncIterator[KubernetesLease]:
    running = TestServer(server.app())
    await running.start_server()
    configuration = Configuration()
    configuration.host = str(running.make_url("")).rstrip("/")
    client = ApiClient(configuration)
    yield KubernetesLease(KubernetesApi(client), NAMESPACE)
    await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    await running.close()


@pytest.fixture(params=["Lease", "in memory"])
def lease(request: pytest.FixtureRequest, kept: KubernetesLease) -> Lease:
    return kept if request.param == "Lease" else InMemoryLease()


async def test_nobody_ever_claimed_it(lease: Lease) -> None:
    assert await lease.read() is None


async def test_a_claim_is_read_as_it_was_written(lease: Lease) -> None:
    written = await lease.write(CLAIM)

    assert written == replace(CLAIM, version=written.version)
    assert await lease.read() == written


async def test_a_claim_is_renewed_and_given_up(lease: Lease) -> None:
    first = await lease.write(CLAIM)
    await lease.write(replace(first, holder=""))

    read = await lease.read()
    assert read is not None
    assert (read.holder, read.terms, read.version != first.version) == ("", 3, True)


async def test_of_two_who_write_the_second_is_refused(lease: Lease) -> None:
    first = await lease.write(CLAIM)
    await lease.write(replace(first, holder="fallow-b"))

    with pytest.raises(Conflict):
        await lease.write(replace(first, renewed=Instant(1.8e9 + 20)))
    with pytest.raises(Conflict):
        await lease.write(CLAIM)


async def test_the_object_is_what_other_tools_expect(kept: KubernetesLease, server: ApiServer) -> None:
    await kept.write(CLAIM)

    assert server.lease is not None
    assert server.lease["spec"] == {
        "holderIdentity": "fallow-a",
        "leaseDurationSeconds": 30,
        "acquireTime": "2027-01-15T08:00:00.000000Z",
        "renewTime": "2027-01-15T08:00:12.250000Z",
        "leaseTransitions": 3,
    }


async def test_a_lease_that_somebody_emptied_is_a_claim_of_nobody(kept: KubernetesLease, server: ApiServer) -> None:
    server.lease = {"metadata": {"name": "fallow", "resourceVersion": "5"}, "spec": None}

    read = await kept.read()

    assert read is not None
    assert (read.holder, read.duration, read.version) == ("", Seconds(0), "5")


@pytest.mark.parametrize(("code", "error"), [(403, Refused), (409, Conflict), (500, Unreachable)])
async def test_each_failure_becomes_one_of_three(
    kept: KubernetesLease, server: ApiServer, code: int, error: type[Exception]
) -> None:
    server.status = code

    with pytest.raises(error, match="because"):
        await kept.write(CLAIM)
    with pytest.raises(error, match="because"):
        await kept.read()
