"""Nodes that are cordoned to have their replicas move: `spec.unschedulable`, and an annotation that says by whom.

Only what Fallow cordoned is it to open again; a person's word in between stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fallow.adapters.cluster.annotating import LiveObjects, attempted
from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.labels import EMPTYING, KEPT
from fallow.adapters.cluster.mirror import NODES, Mirror
from fallow.domain.errors import Refused
from fallow.domain.plans import Cordon, CordonNode, Outcome

ADVICE = "emptying nodes takes the right to patch them: install the chart with consolidation.cordon=true"


class Cordons:
    """Compares with the node as last watched, so that nothing has to be read first."""

    def __init__(self, api: KubernetesApi, mirror: Mirror, field_manager: str, *, dry_run: bool = False) -> None:
        self._live = LiveObjects(api, mirror, field_manager, dry_run=dry_run)

    async def apply(self, change: CordonNode) -> Outcome:
        seen = self._live.seen(NODES, "", change.node)
        patch = None if seen is None else _patch(seen, change)
        if seen is None or patch is None:
            return Outcome(change, wrote=False)
        return await attempted(change, self._write(change.node, seen, patch))

    async def _write(self, node: str, seen: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
        try:
            return await self._live.write(NODES, f"/api/v1/nodes/{node}", seen, patch)
        except Refused as error:
            raise Refused(f"{error}; {ADVICE}") from error


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
