"""Annotations of live pods, written over what was last watched of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fallow.adapters.cluster.client import KubernetesApi, PatchType
from fallow.adapters.cluster.mirror import PODS, Mirror
from fallow.domain.readings import PodRef

log = logging.getLogger(__name__)


class PodAnnotations:
    """Nothing is read first, and in a dry run nothing is sent."""

    def __init__(self, api: KubernetesApi, mirror: Mirror, field_manager: str, *, dry_run: bool = False) -> None:
        self._api = api
        self._mirror = mirror
        self._field_manager = field_manager
        self._dry_run = dry_run

    def metadata(self, pod: PodRef) -> Mapping[str, Any] | None:
        """As last watched; None where the pod is gone."""
        held = self._mirror.get(PODS, *pod)
        return None if held is None else held["metadata"]

    async def write(self, pod: PodRef, seen: Mapping[str, Any], annotations: Mapping[str, str | None]) -> bool:
        """Whether it wrote; None removes one. Raises WriteError, a Conflict where the pod is not as it was `seen`."""
        if self._dry_run:
            log.info("dry run: would write %s to pod %s", annotations, pod)
            return False
        # the uid and version make sure that it is the pod that was looked at, and as it was then
        metadata = {part: seen[part] for part in ("uid", "resourceVersion")}
        patch = {"metadata": {**metadata, "annotations": annotations}}
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        self._mirror.put(PODS, await self._api.patch(path, patch, PatchType.MERGE, self._field_manager))
        return True
