"""Pods that go first when their Deployment becomes smaller: an annotation that its ReplicaSet's controller reads.

https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost: best effort, and among those
that are ready. It is written when replicas are about to go and not before, as is asked for there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from fallow.adapters.cluster.annotating import PodAnnotations
from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.labels import DELETION_COST, LEAVES
from fallow.adapters.cluster.mirror import Mirror
from fallow.domain.errors import WriteError
from fallow.domain.readings import PodRef

log = logging.getLogger(__name__)


class Leavers:
    """What somebody else wrote there is theirs, and stays."""

    def __init__(self, api: KubernetesApi, mirror: Mirror, field_manager: str, *, dry_run: bool = False) -> None:
        self._pods = PodAnnotations(api, mirror, field_manager, dry_run=dry_run)

    async def mark(self, leaving: Collection[PodRef], siblings: Collection[PodRef]) -> None:
        """`siblings` that were to go before and did not are no longer to. A pod that cannot be written to is let be:
        then others may go, and the service has as many replicas all the same.
        """
        for pod in leaving:
            await self._write(pod, None, LEAVES)
        for pod in siblings:
            if pod not in leaving:
                await self._write(pod, LEAVES, None)

    async def _write(self, pod: PodRef, before: str | None, cost: str | None) -> None:
        """Where the pod has the cost of `before`."""
        seen = self._pods.metadata(pod)
        if seen is None or (seen.get("annotations") or {}).get(DELETION_COST) != before:
            return
        try:
            await self._pods.write(pod, seen, {DELETION_COST: cost})
        except WriteError as error:
            log.warning("pod %s was not told whether to go first: %s", pod, error)
