"""Watches a kind that may not be installed, may come later and may go again: KEDA's ScaledObjects.

kopf asks once, at its start, which kinds there are, and ends the operator when one that it watches is gone.
"""

import asyncio
import logging
from contextlib import aclosing

from fallow.adapters.cluster.client import JSON, KubernetesApi
from fallow.adapters.cluster.mirror import Mirror
from fallow.domain.errors import Refused, Unreachable, WriteError

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
RECONNECT_SECONDS = 0.5
MOST_FAILURES = 3


class Following:
    """`looked` is set once the objects were listed, or cannot be; after `absence` seconds it is tried again.

    Who waits for that is not kept waiting by a server that answers everything but this.
    """

    def __init__(self, api: KubernetesApi, mirror: Mirror, plural: str, path: str, *, absence: float = 60.0) -> None:
        self._api = api
        self._mirror = mirror
        self._plural = plural
        self._path = path
        self._absence = absence
        self._complaint = ""
        self._failed = 0
        self.looked = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                pause = await self.follow()
            except WriteError as error:
                # what may not be listed is as if it were not installed; what does not answer is waited for
                pause = RETRY_SECONDS if isinstance(error, Unreachable) else self._absence
                self._complain(error)
            await asyncio.sleep(pause)

    async def follow(self) -> float:
        """List, and watch until it has to be listed anew; the seconds to wait before that."""
        found = await self._api.get(self._path)
        self._take(found)
        self.looked.set()
        if found is None:
            return self._absence
        self._complaint = ""
        version: str | None = str(found["metadata"]["resourceVersion"])
        while version is not None:
            try:
                version = await self._watched(version)
            except Refused:  # too old a version, or no longer installed: the list will tell
                break
            await asyncio.sleep(RECONNECT_SECONDS)
        return RETRY_SECONDS

    async def _watched(self, version: str) -> str | None:
        """The version to go on from; None where the list has to be read again."""
        async with aclosing(self._api.watch(self._path, version)) as events:
            async for event in events:
                body = event.get("object") or {}
                match event.get("type"):
                    case "ADDED" | "MODIFIED":
                        self._mirror.put(self._plural, body)
                    case "DELETED":
                        self._mirror.drop(self._plural, body)
                    case "BOOKMARK":
                        pass
                    case _:
                        return None
                version = str(body["metadata"]["resourceVersion"])
        return version

    def _take(self, found: JSON | None) -> None:
        bodies = [] if found is None else found["items"]
        self._mirror.forget(self._plural, self._mirror.uids(self._plural) - {one["metadata"]["uid"] for one in bodies})
        for body in bodies:
            self._mirror.put(self._plural, body)

    def _complain(self, error: WriteError) -> None:
        self._failed += 1
        if not isinstance(error, Unreachable) or self._failed >= MOST_FAILURES:
            self.looked.set()
        if str(error) != self._complaint:
            log.warning("%s are not seen: %s", self._plural, error)
        self._complaint = str(error)
