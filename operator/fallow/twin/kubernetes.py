"""Follows Pods and Nodes of a real API server and tells the world what became of them.

List, then watch from there; after a disconnect, a restart or "410 Gone" it lists again and forgets what has vanished.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from fallow.domain.readings import PodRef
from fallow.twin.manifests import PodReader, node_from, ref_of
from fallow.twin.world import World

log = logging.getLogger(__name__)

JSON = Mapping[str, Any]

LIST_SECONDS = 15.0
WATCH_SECONDS = 120
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


class WatchError(Exception):
    """The API server could not be asked, or said something that ends this watch; list again."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What to do with one resource: `put` for what is there, `drop` for what is gone, `known` names of this kind."""

    path: str
    put: Callable[[JSON], None]
    drop: Callable[[JSON], None]
    keep_only: Callable[[Sequence[JSON]], None]


async def connect(kubeconfig: Path | None) -> ApiClient:
    """From a kubeconfig file, or the default one of the environment."""
    configuration = Configuration()
    file = None if kubeconfig is None else str(kubeconfig)
    await config.load_kube_config(config_file=file, client_configuration=configuration)  # type: ignore[no-untyped-call]
    return ApiClient(configuration)


async def follow(client: ApiClient, world: World, reader: PodReader) -> None:
    """Runs until cancelled; nodes are listed before pods, so that a pod finds the GPUs of its node."""
    feed = Feed(world, reader)
    pods, nodes = feed.pods(), feed.nodes()
    listed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_follow(client, nodes, after=None, listed=listed))
        group.create_task(_follow(client, pods, after=listed, listed=asyncio.Event()))


class Feed:
    """Turns objects into facts for the world."""

    def __init__(self, world: World, reader: PodReader) -> None:
        self._world = world
        self._reader = reader
        self._unknown: set[str] = set()

    def nodes(self) -> Kind:
        return Kind("/api/v1/nodes", self._put_node, self._drop_node, self._keep_nodes)

    def pods(self) -> Kind:
        return Kind("/api/v1/pods", self._put_pod, self._drop_pod, self._keep_pods)

    def _put_node(self, body: JSON) -> None:
        facts = node_from(body)
        if isinstance(facts, str):
            name = str(body["metadata"]["name"])
            if name not in self._unknown:
                self._unknown.add(name)
                log.warning("node %s is left out: %s", name, facts)
        elif facts is not None:
            self._world.put_node(facts)

    def _drop_node(self, body: JSON) -> None:
        self._world.remove_node(str(body["metadata"]["name"]))

    def _keep_nodes(self, bodies: Sequence[JSON]) -> None:
        names = {str(body["metadata"]["name"]) for body in bodies}
        for name in set(self._world.fleet.nodes) - names:
            self._world.remove_node(name)

    def _put_pod(self, body: JSON) -> None:
        facts = self._reader.read(body)
        if facts is None:
            self._drop_pod(body)
        else:
            self._world.put_pod(facts)

    def _drop_pod(self, body: JSON) -> None:
        ref = ref_of(body)
        known = self._world.fleet.pods.get(ref)
        if known is not None and known.facts.uid == body["metadata"].get("uid", ""):
            self._world.remove_pod(ref)

    def _keep_pods(self, bodies: Sequence[JSON]) -> None:
        refs: set[PodRef] = {ref_of(body) for body in bodies}
        for ref in set(self._world.fleet.pods) - refs:
            self._world.remove_pod(ref)


async def _follow(client: ApiClient, kind: Kind, *, after: asyncio.Event | None, listed: asyncio.Event) -> None:
    if after is not None:
        await after.wait()
    pause = FIRST_PAUSE
    while True:
        try:
            version = await _list(client, kind)
            listed.set()
            pause = FIRST_PAUSE
            while True:
                version = await _watch(client, kind, version)
        except (WatchError, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("%s: listing again in %.1f s: %s", kind.path, pause, error or type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def _list(client: ApiClient, kind: Kind) -> str:
    timeout = aiohttp.ClientTimeout(total=LIST_SECONDS)
    response = await _get(client, kind.path, {}, timeout)
    content = await response.json()
    items = content.get("items") or []
    kind.keep_only(items)
    for item in items:
        kind.put(item)
    return str(content["metadata"]["resourceVersion"])


async def _watch(client: ApiClient, kind: Kind, version: str) -> str:
    """Until the server ends the watch in good order; gives the version to go on from."""
    query = {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(WATCH_SECONDS),
    }
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=LIST_SECONDS, sock_read=WATCH_SECONDS + LIST_SECONDS)
    response = await _get(client, kind.path, query, timeout)
    try:
        async for line in _lines(response):
            event = json.loads(line)
            body = event["object"]
            if event["type"] == "ERROR":
                raise WatchError(body.get("message", "the watch ended with an error"))
            version = str(body["metadata"]["resourceVersion"])
            if event["type"] in {"ADDED", "MODIFIED"}:
                kind.put(body)
            elif event["type"] == "DELETED":
                kind.drop(body)
    finally:
        response.close()
    return version


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines; a line may be longer than what arrives at once."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line


async def _get(
    client: ApiClient, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
) -> aiohttp.ClientResponse:
    request = await client.param_serialize(
        "GET",
        path,
        query_params=list(query.items()),
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
    )
    answer = await client.call_api(*request, _request_timeout=limits)
    response: aiohttp.ClientResponse = answer.response
    if response.status != 200:
        text = (await response.text())[:200]
        raise WatchError(f"{response.status} {text}")
    return response
