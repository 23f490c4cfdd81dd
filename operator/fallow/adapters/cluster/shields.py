"""Shields of pods that load: annotations on the live pod which Karpenter and cluster-autoscaler respect.

Fallow adds what is not there, notes which ones it added, and takes these alone away again. Nothing is written into a
pod template. Why so, and why "true" and not a duration: docs/decisions/startup-shield.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fallow.adapters.cluster.annotating import PodAnnotations, attempted
from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.labels import DO_NOT_DISRUPT, OVER, SAFE_TO_EVICT, SHIELD
from fallow.adapters.cluster.mirror import Mirror
from fallow.domain.plans import Outcome, ShieldPod

VALUES = {DO_NOT_DISRUPT: "true", SAFE_TO_EVICT: "false"}


class Shields:
    """Compares with the pod as last watched, so that nothing has to be read first."""

    def __init__(self, api: KubernetesApi, mirror: Mirror, field_manager: str, *, dry_run: bool = False) -> None:
        self._pods = PodAnnotations(api, mirror, field_manager, dry_run=dry_run)

    async def apply(self, change: ShieldPod) -> Outcome:
        seen = self._pods.metadata(change.pod)
        if seen is None or seen.get("uid") != change.uid:
            return Outcome(change, wrote=False)
        annotations = _raised(seen) if change.up else _lowered(seen)
        if not annotations:
            return Outcome(change, wrote=False)
        return await attempted(change, self._pods.write(change.pod, seen, annotations))


def _raised(metadata: Mapping[str, Any]) -> dict[str, str | None]:
    """What is to be added; an annotation that is there is somebody else's, whatever it says."""
    present = metadata.get("annotations") or {}
    free = {name: value for name, value in VALUES.items() if name not in present}
    return {} if SHIELD in present or not free else {SHIELD: " ".join(free), **free}


def _lowered(metadata: Mapping[str, Any]) -> dict[str, str | None]:
    """What is to be taken away: what Fallow added, unless somebody gave it another value since."""
    present = metadata.get("annotations") or {}
    mark = present.get(SHIELD, OVER)
    ours = [name for name in mark.split() if name in VALUES and present.get(name) == VALUES[name]]
    return {} if mark == OVER else {SHIELD: OVER, **dict.fromkeys(ours)}
