"""One call to the Kubernetes API: raw JSON in and out, a timeout, and our three errors instead of foreign ones."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient

from fallow.domain.errors import Conflict, Refused, Unreachable

JSON = Mapping[str, Any]

TIMEOUT_SECONDS = 10.0
WATCH_SECONDS = 300
PAGE_OBJECTS = 500
MAX_PAGE = 8 * 1024 * 1024
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class PatchType(StrEnum):
    APPLY = "application/apply-patch+yaml"
    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"


class _Dropped(Unreachable):
    """The connection broke; after a restart of the API server each kept-alive one does so once."""


class KubernetesApi:
    """Sends requests through the official client, which owns TLS, tokens and their renewal.

    Raises Refused, Conflict or Unreachable; an object that is not there is None for `get`. Nothing is written while
    `may_write` says no.
    """

    def __init__(
        self, client: ApiClient, timeout: float = TIMEOUT_SECONDS, *, may_write: Callable[[], bool] = lambda: True
    ) -> None:
        self._client = client
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._may_write = may_write

    async def get(self, path: str) -> dict[str, Any] | None:
        status, answer = await self._send("GET", path)
        if status == 404:
            return None
        return _checked(status, answer, f"GET {path}")

    async def uids(self, path: str) -> frozenset[str]:
        """The uids of all objects of a kind: metadata only, and the newest state: a lagging one loses some."""
        return frozenset(str(metadata["uid"]) for metadata in await self.listed(path))

    async def delete(self, path: str) -> None:
        """Delete; what is already gone is as good."""
        status, answer = await self._send("DELETE", path)
        if status != 404:
            _checked(status, answer, f"DELETE {path}")

    async def listed(self, path: str, labels: str = "") -> list[JSON]:
        """The metadata of all objects of a kind, or of those with these labels."""
        query = [("labelSelector", labels)] if labels else []
        status, answer = await self._send("GET", path, accept=METADATA_LIST, query=query)
        # of an empty list of metadata the API server writes null
        items = _checked(status, answer, f"list {path}").get("items", "none at all") or []
        if not isinstance(items, list):
            raise Unreachable(f"list {path}: the answer holds no items")
        return [item["metadata"] for item in items]

    async def pages(self, path: str, *, metadata_only: bool = False) -> AsyncIterator[list[dict[str, Any]]]:
        """A list in pages, so that a large cluster's fits into memory; nothing for a kind that is not installed.

        An object of a built-in kind comes without its own kind and version.
        """
        accept = METADATA_LIST if metadata_only else "application/json"
        query = [("limit", str(PAGE_OBJECTS))]
        while True:
            status, answer = await self._send("GET", path, query=query, accept=accept)
            if status == 404:
                return
            answer = _checked(status, answer, f"list {path}")
            yield list(answer.get("items") or ())
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return
            query = [("limit", str(PAGE_OBJECTS)), ("continue", token)]

    async def text(self, path: str) -> str:
        """A page that the API server hands on, such as a pod's metrics; at most MAX_PAGE bytes."""
        try:
            response = await self._ask("GET", path, accept="text/plain")
            body = bytearray()
            async for chunk in response.response.content.iter_chunked(64 * 1024):
                body += chunk
                if len(body) > MAX_PAGE:
                    raise Refused(f"GET {path}: a page longer than {MAX_PAGE} bytes")
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Unreachable(f"GET {path}: {error or type(error).__name__}") from error
        if response.status != 200:
            _checked(response.status, _parsed(bytes(body)), f"GET {path}")
        return body.decode(errors="replace")

    async def watch(self, path: str, version: str) -> AsyncGenerator[dict[str, Any], None]:
        """Events since a version until the server ends the stream, which it does every few minutes."""
        query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", version)]
        query.append(("timeoutSeconds", str(WATCH_SECONDS)))
        patience = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30, sock_connect=self._timeout.total)
        try:
            response = await self._ask("GET", path, accept="application/json", query=query, patience=patience)
            if response.status != 200:
                _checked(response.status, _parsed(await response.read()), f"watch {path}")
            with closing(response.response):
                # a line may be longer than a reader of lines allows
                rest = b""
                async for chunk in response.response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for one in lines:
                        yield _parsed(one)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Unreachable(f"watch {path}: {error or type(error).__name__}") from error

    async def create(self, path: str, body: JSON) -> dict[str, Any]:
        return _checked(*await self._send("POST", path, body=body), f"POST {path}")

    async def replace(self, path: str, body: JSON) -> dict[str, Any]:
        return _checked(*await self._send("PUT", path, body=body), f"PUT {path}")

    async def apply(self, path: str, body: JSON, field_manager: str) -> dict[str, Any]:
        """Server-side apply; our own fields are taken back from whoever changed them."""
        query = [("fieldManager", field_manager), ("force", "true")]
        answer = await self._send("PATCH", path, body=body, content_type=PatchType.APPLY, query=query)
        return _checked(*answer, f"apply {path}")

    async def patch(
        self, path: str, body: JSON | Sequence[JSON], content_type: PatchType, field_manager: str
    ) -> dict[str, Any]:
        query = [("fieldManager", field_manager)]
        answer = await self._send("PATCH", path, body=body, content_type=content_type, query=query)
        return _checked(*answer, f"PATCH {path}")

    async def _send(
        self,
        method: str,
        path: str,
        *,
        body: JSON | Sequence[JSON] | None = None,
        content_type: str = "application/json",
        query: Sequence[tuple[str, str]] = (),
        accept: str = "application/json",
    ) -> tuple[int, dict[str, Any]]:
        """One request, and a second one where a kept-alive connection turned out to be dead.

        A POST is not repeated: it may have been carried out.
        """
        try:
            return await self._translated(
                method, path, body=body, content_type=content_type, query=query, accept=accept
            )
        except _Dropped:
            if method == "POST":
                raise
        return await self._translated(method, path, body=body, content_type=content_type, query=query, accept=accept)

    async def _translated(self, method: str, path: str, **parts: Any) -> tuple[int, dict[str, Any]]:
        try:
            return await self._send_once(method, path, **parts)
        except TimeoutError as error:
            raise Unreachable(f"{method} {path}: no answer within {self._timeout.total:g} s") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise _Dropped(f"{method} {path}: no connection to the API server: {error}") from error
        except aiohttp.ClientError as error:
            raise Unreachable(f"{method} {path}: {type(error).__name__}: {error}") from error

    async def _send_once(
        self,
        method: str,
        path: str,
        *,
        body: JSON | Sequence[JSON] | None,
        content_type: str,
        query: Sequence[tuple[str, str]],
        accept: str,
    ) -> tuple[int, dict[str, Any]]:
        if method != "GET" and not self._may_write():
            raise Refused(f"{method} {path}: not sent, since this replica does not lead")
        response = await self._ask(method, path, body=body, content_type=content_type, query=query, accept=accept)
        raw: bytes = await response.read()
        return response.status, _parsed(raw)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        body: JSON | Sequence[JSON] | None = None,
        content_type: str = "application/json",
        query: Sequence[tuple[str, str]] = (),
        patience: aiohttp.ClientTimeout | None = None,
    ) -> Any:
        """The client's answer with its body still to be read."""
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params={"Accept": accept, "Content-Type": str(content_type)},
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(*request, _request_timeout=patience or self._timeout)


def _parsed(raw: bytes) -> dict[str, Any]:
    """The answer's object; proxies and load balancers answer errors in plain text."""
    try:
        answer = json.loads(raw)
    except ValueError:
        return {"message": raw[:300].decode(errors="replace").strip()}
    return answer if isinstance(answer, dict) else {"message": str(answer)}


def _checked(status: int, answer: dict[str, Any], call: str) -> dict[str, Any]:
    """The answer, or the domain error that its status means."""
    if status < 300:
        return answer
    said = f"{call}: {status} {answer.get('message') or answer.get('reason') or 'without a message'}"
    if status == 409:
        raise Conflict(said)
    if status == 429 or status >= 500:
        raise Unreachable(said)
    raise Refused(said)
