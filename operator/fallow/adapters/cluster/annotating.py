"""Live objects of others, patched over what was last watched of them: annotations of pods, and cordons of nodes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from typing import Any

from fallow.adapters.cluster.client import KubernetesApi, PatchType
from fallow.adapters.cluster.mirror import PODS, Mirror
from fallow.domain.errors import Conflict, Refused, WriteError
from fallow.domain.plans import Outcome, SideChange
from fallow.domain.readings import PodRef

log = logging.getLogger(__name__)


async def attempted(change: SideChange, writing: Awaitable[bool]) -> Outcome:
    """What is gone, or changes at this very moment, is no error: the next cycle sees what became of it."""
    try:
        return Outcome(change, wrote=await writing)
    except Conflict:
        return Outcome(change, wrote=False)
    except WriteError as error:
        return Outcome(change, wrote=False, error=str(error), refused=isinstance(error, Refused))


class LiveObjects:
    """Nothing is read first, and in a dry run nothing is sent."""

    def __init__(self, api: KubernetesApi, mirror: Mirror, field_manager: str, *, dry_run: bool = False) -> None:
        self._api = api
        self._mirror = mirror
        self._field_manager = field_manager
        self._dry_run = dry_run

    def seen(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """As last watched; None where it is gone."""
        return self._mirror.get(kind, namespace, name)

    async def write(self, kind: str, path: str, seen: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
        """Whether it wrote; None in a patch removes. Raises WriteError, a Conflict where it is not as it was `seen`."""
        if self._dry_run:
            log.info("dry run: would write %s to %s", patch, path)
            return False
        # the uid and version make sure that it is the object that was looked at, and as it was then
        version = {part: seen["metadata"][part] for part in ("uid", "resourceVersion")}
        body = {**patch, "metadata": {**version, **patch["metadata"]}}
        self._mirror.put(kind, await self._api.patch(path, body, PatchType.MERGE, self._field_manager))
        return True


class PodAnnotations:
    def __init__(self, api: KubernetesApi, mirror: Mirror, field_manager: str, *, dry_run: bool = False) -> None:
        self._live = LiveObjects(api, mirror, field_manager, dry_run=dry_run)

    def metadata(self, pod: PodRef) -> Mapping[str, Any] | None:
        """As last watched; None where the pod is gone."""
        held = self._live.seen(PODS, *pod)
        return None if held is None else held["metadata"]

    async def write(self, pod: PodRef, seen: Mapping[str, Any], annotations: Mapping[str, str | None]) -> bool:
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        return await self._live.write(PODS, path, {"metadata": seen}, {"metadata": {"annotations": annotations}})
