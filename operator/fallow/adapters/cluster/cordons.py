"""Nodes that are cordoned to have their replicas move: `spec.unschedulable`, and an annotation that says by whom.

Only what Fallow cordoned is it to open again; a person's word in between stands.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fallow.adapters.cluster.client import KubernetesApi, PatchType
from fallow.adapters.cluster.labels import EMPTYING, KEPT
from fallow.adapters.cluster.mirror import NODES, Mirror
from fallow.domain.errors import Conflict, Refused, WriteError
from fallow.domain.plans import Cordon, CordonNode, Outcome

log = logging.getLogger(__name__)

ADVICE = "emptying nodes takes the right to patch them: install the chart with consolidation.cordon=true"


class Cordons:
    """Compares with the node as last watched, so that nothing has to be read first."""

    def __init__(self, api: KubernetesApi, mirror: Mirror, field_manager: str, *, dry_run: bool = False) -> None:
        self._api = api
        self._mirror = mirror
        self._field_manager = field_manager
        self._dry_run = dry_run

    async def apply(self, change: CordonNode) -> Outcome:
        """A node that is gone, or changes at this very moment, is no error: the next cycle sees what became of it."""
        seen = self._mirror.get(NODES, "", change.node)
        patch = None if seen is None else _patch(seen, change)
        if seen is None or patch is None:
            return Outcome(change, wrote=False)
        if self._dry_run:
            log.info("dry run: would write %s to node %s", patch, change.node)
            return Outcome(change, wrote=False)
        metadata = {part: seen["metadata"][part] for part in ("uid", "resourceVersion")}
        body = {**patch, "metadata": {**metadata, **patch["metadata"]}}
        try:
            answer = await self._api.patch(f"/api/v1/nodes/{change.node}", body, PatchType.MERGE, self._field_manager)
        except Conflict:
            return Outcome(change, wrote=False)
        except Refused as error:
            return Outcome(change, wrote=False, error=f"{error}; {ADVICE}")
        except WriteError as error:
            return Outcome(change, wrote=False, error=str(error))
        self._mirror.put(NODES, answer)
        return Outcome(change, wrote=True)


def _patch(node: Mapping[str, Any], change: CordonNode) -> dict[str, Any] | None:
    """None where nothing is to be done: a node that somebody else has cordoned is theirs."""
    mark = (node["metadata"].get("annotations") or {}).get(EMPTYING, "")
    ours, closed = bool(mark) and not mark.startswith(KEPT), bool(node.get("spec", {}).get("unschedulable"))
    at = datetime.fromtimestamp(change.at, UTC).isoformat(timespec="seconds")
    if change.to is Cordon.EMPTY:
        return None if closed else {"metadata": {"annotations": {EMPTYING: at}}, "spec": {"unschedulable": True}}
    if not ours:
        return None
    note = f"{KEPT} {at}" if change.to is Cordon.KEEP else None
    return {"metadata": {"annotations": {EMPTYING: note}}, **({"spec": {"unschedulable": None}} if closed else {})}
