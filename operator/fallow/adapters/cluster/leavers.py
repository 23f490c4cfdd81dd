"""Pods that go first when their Deployment becomes smaller: an annotation that its ReplicaSet's controller reads.

https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost: best effort, and among those
that are ready. It is written when replicas are about to go and not before, as is asked for there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from fallow.adapters.cluster.client import KubernetesApi, PatchType
from fallow.adapters.cluster.labels import DELETION_COST, LEAVES
from fallow.adapters.cluster.mirror import PODS, Mirror
from fallow.domain.errors import WriteError
from fallow.domain.readings import PodRef

log = logging.getLogger(__name__)


class Leavers:
    """What somebody else wrote there is theirs, and stays."""

    def __init__(self, api: KubernetesApi, mirror: Mirror, field_manager: str, *, dry_run: bool = False) -> None:
        self._api = api
        self._mirror = mirror
        self._field_manager = field_manager
        self._dry_run = dry_run

    async def mark(self, leaving: Collection[PodRef], siblings: Collection[PodRef]) -> None:
        """`siblings` that were to go before and did not are no longer to. A pod that cannot be written to is let be:
        then others may go, and the service has as many replicas all the same.
        """
        for pod in leaving:
            await self._write(pod, goes=True)
        for pod in siblings:
            if pod not in leaving:
                await self._write(pod, goes=False)

    async def _write(self, pod: PodRef, *, goes: bool) -> None:
        held = self._mirror.get(PODS, *pod)
        present = None if held is None else _cost(held["metadata"])
        if held is None or present != (None if goes else LEAVES):
            return
        if self._dry_run:
            log.info("dry run: would have pod %s go %s", pod, "first" if goes else "as any other")
            return
        metadata = {part: held["metadata"][part] for part in ("uid", "resourceVersion")}
        patch = {"metadata": {**metadata, "annotations": {DELETION_COST: LEAVES if goes else None}}}
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        try:
            self._mirror.put(PODS, await self._api.patch(path, patch, PatchType.MERGE, self._field_manager))
        except WriteError as error:
            log.warning("pod %s was not told to go first: %s", pod, error)


def _cost(metadata: Mapping[str, Any]) -> str | None:
    found: str | None = (metadata.get("annotations") or {}).get(DELETION_COST)
    return found
