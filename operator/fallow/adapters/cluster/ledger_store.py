"""The ledger in one ConfigMap: marks and amounts change together or not at all, and the older writer is refused.

Why one object, and why not the status of the services: docs/decisions/ledger.md.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import replace
from typing import Any

from kubernetes.aio.client import ApiClient

from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.ledger_codec import Unreadable, decode, encode
from fallow.domain.errors import Refused
from fallow.domain.ledger import Ledger

KEY = "ledger.json.gz"
# the API server refuses more than 1 MiB of data in a ConfigMap; the rest is for the object around it
SIZE_LIMIT = 1_000_000


class ConfigMapLedgerStore:
    """Implements ports.LedgerStore."""

    def __init__(self, api: ApiClient, namespace: str, name: str = "fallow-ledger", *, timeout: float = 10.0) -> None:
        self._api = KubernetesApi(api, timeout)
        self._namespace = namespace
        self._name = name
        self._collection = f"/api/v1/namespaces/{namespace}/configmaps"

    async def load(self) -> Ledger | None:
        found = await self._api.get(self._path)
        if found is None:
            return None
        try:
            content = base64.b64decode(found["binaryData"][KEY], validate=True)
            ledger = await asyncio.to_thread(decode, content)
        except (KeyError, TypeError, binascii.Error, Unreadable) as error:
            raise Refused(self._unreadable(error)) from error
        return replace(ledger, version=str(found["metadata"]["resourceVersion"]))

    async def save(self, ledger: Ledger) -> Ledger:
        # encoding a large cluster takes longer than the loop should wait
        content = await asyncio.to_thread(encode, ledger)
        if len(content) > SIZE_LIMIT:
            raise Refused(
                f"the ledger takes {len(content)} bytes and a ConfigMap holds {SIZE_LIMIT}: {len(ledger.gpus)} GPUs, "
                f"{len(ledger.books)} lines. Run one Fallow per part of the cluster"
            )
        body = self._body(content, ledger.version)
        stored = await (self._replaced(body) if ledger.version else self._api.create(self._collection, body))
        return replace(ledger, version=str(stored["metadata"]["resourceVersion"]))

    async def _replaced(self, body: dict[str, Any]) -> dict[str, Any]:
        """Replace; an object that somebody deleted is made anew, since totals must not vanish."""
        try:
            return await self._api.replace(self._path, body)
        except Refused:
            if await self._api.get(self._path) is not None:
                raise
        del body["metadata"]["resourceVersion"]
        return await self._api.create(self._collection, body)

    @property
    def _path(self) -> str:
        return f"{self._collection}/{self._name}"

    def _body(self, content: bytes, version: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": self._name,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": "fallow", "app.kubernetes.io/component": "ledger"},
        }
        if version:
            metadata["resourceVersion"] = version
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "binaryData": {KEY: base64.b64encode(content).decode()},
        }

    def _unreadable(self, error: Exception) -> str:
        why = f"it has no key {KEY}" if isinstance(error, KeyError) else str(error)
        return (
            f"ConfigMap {self._namespace}/{self._name} holds no ledger that can be read ({why}) and is left as it is. "
            "Restore it from a backup, or delete it to start new books"
        )
