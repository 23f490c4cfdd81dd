"""The ledger in a ConfigMap: marks and amounts change together or not at all, and the older writer is refused.

A large ledger continues in further ConfigMaps, which are written first, never changed, and named by their content; the
one write that counts is that of the first. Why, and why not the status of the services: docs/decisions/ledger.md.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes.aio.client import ApiClient

from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.ledger_codec import Unreadable, decode, encode
from fallow.domain.errors import Conflict, Refused, WriteError
from fallow.domain.ledger import Ledger

KEY = "ledger.json.gz"
# names of the ConfigMaps that the ledger continues in, in their order, one a line
PARTS = "parts"
# the API server refuses more than 1 MiB of data in a ConfigMap; the rest is for the object around it
PART_BYTES = 1_000_000
# 20,000,000 bytes are some 200,000 GPUs; beyond, reading and writing take longer than a cycle
MOST_PARTS = 20
PART_LABEL = "ledger-part"
LEFT_BEHIND = timedelta(hours=1)
_LABEL = "app.kubernetes.io/component"


class ConfigMapLedgerStore:
    """Implements ports.LedgerStore. `part_bytes` is what one ConfigMap may hold."""

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        name: str = "fallow-ledger",
        *,
        timeout: float = 10.0,
        part_bytes: int = PART_BYTES,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._api = KubernetesApi(api, timeout, may_write=may_write)
        self._namespace = namespace
        self._name = name
        self._part_bytes = part_bytes
        self._collection = f"/api/v1/namespaces/{namespace}/configmaps"
        self._parts: frozenset[str] = frozenset()
        self._is_tidy = False

    async def load(self) -> Ledger | None:
        found = await self._api.get(self._path(self._name))
        if found is None:
            return None
        try:
            names = _parts(found)
            content = _content(found) + b"".join([await self._part(name) for name in names])
            ledger = await asyncio.to_thread(decode, content)
        except (KeyError, TypeError, binascii.Error, Unreadable) as error:
            if await self._has_moved(found):
                raise Conflict(f"ConfigMap {self._namespace}/{self._name} changed while it was read") from error
            raise Refused(self._unreadable(error)) from error
        self._parts = frozenset(names)
        return replace(ledger, version=str(found["metadata"]["resourceVersion"]))

    async def save(self, ledger: Ledger) -> Ledger:
        # encoding a large cluster takes longer than the loop should wait
        content = await asyncio.to_thread(encode, ledger)
        first, *rest = [content[at : at + self._part_bytes] for at in range(0, len(content), self._part_bytes)]
        if len(rest) >= MOST_PARTS:
            most = MOST_PARTS * self._part_bytes / 1e3
            raise Refused(
                f"the ledger takes {len(content) / 1e3:.0f} kB and may take {most:g} kB: "
                f"{len(ledger.gpus)} GPUs, {len(ledger.books)} lines. Run one Fallow per part of the cluster"
            )
        names = [await self._add_part(part) for part in rest]
        body = self._body(self._name, first, "ledger", {PARTS: "\n".join(names)} if names else {})
        if ledger.version:
            body["metadata"]["resourceVersion"] = ledger.version
        stored = await (self._replaced(body) if ledger.version else self._api.create(self._collection, body))
        await self._clear(frozenset(names))
        return replace(ledger, version=str(stored["metadata"]["resourceVersion"]))

    async def _replaced(self, body: dict[str, Any]) -> dict[str, Any]:
        """Replace; an object that somebody deleted is made anew, since totals must not vanish."""
        try:
            return await self._api.replace(self._path(self._name), body)
        except Refused:
            if await self._api.get(self._path(self._name)) is not None:
                raise
        del body["metadata"]["resourceVersion"]
        return await self._api.create(self._collection, body)

    async def _part(self, name: str) -> bytes:
        found = await self._api.get(self._path(name))
        if found is None:
            raise Unreadable(f"its part {name} is gone")
        content = _content(found)
        if self._part_name(content) != name:
            raise Unreadable(f"its part {name} was changed")
        return content

    async def _add_part(self, content: bytes) -> str:
        name = self._part_name(content)
        # the same name is the same content
        with suppress(Conflict):
            await self._api.create(self._collection, {**self._body(name, content, PART_LABEL, {}), "immutable": True})
        return name

    async def _clear(self, kept: frozenset[str]) -> None:
        """Remove the parts of the ledger before this one, and at the first time what a crash left behind.

        What is young may belong to another writer that has not stored its first part yet.
        """
        gone = self._parts
        with suppress(WriteError):
            if not self._is_tidy:
                found = await self._api.listed(self._collection, f"{_LABEL}={PART_LABEL}")
                gone |= {str(one["name"]) for one in found if _age(one) > LEFT_BEHIND}
            for name in gone - kept:
                await self._api.delete(self._path(name))
            self._parts, self._is_tidy = kept, True

    async def _has_moved(self, read: Mapping[str, Any]) -> bool:
        """Whether another writer stored a newer ledger meanwhile, and removed the parts of the one that was read."""
        now = await self._api.get(self._path(self._name))
        return now is not None and now["metadata"]["resourceVersion"] != read["metadata"]["resourceVersion"]

    def _path(self, name: str) -> str:
        return f"{self._collection}/{name}"

    def _part_name(self, content: bytes) -> str:
        return f"{self._name}-{hashlib.sha256(content).hexdigest()[:32]}"

    def _body(self, name: str, content: bytes, component: str, data: Mapping[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {"app.kubernetes.io/managed-by": "fallow", _LABEL: component},
            },
            "data": dict(data),
            "binaryData": {KEY: base64.b64encode(content).decode()},
        }

    def _unreadable(self, error: Exception) -> str:
        why = f"it has no key {KEY}" if isinstance(error, KeyError) else str(error)
        return (
            f"ConfigMap {self._namespace}/{self._name} holds no ledger that can be read ({why}) and is left as it is. "
            "Restore it from a backup, or delete it to start new books"
        )


def _age(metadata: Mapping[str, Any]) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(str(metadata["creationTimestamp"]))


def _content(found: Mapping[str, Any]) -> bytes:
    return base64.b64decode(found["binaryData"][KEY], validate=True)


def _parts(found: Mapping[str, Any]) -> Sequence[str]:
    return str((found.get("data") or {}).get(PARTS, "")).split()
