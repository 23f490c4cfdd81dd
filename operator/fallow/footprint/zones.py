"""Which grid zone a node belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain.snapshots import Node, Snapshot
from fallow.domain.zones import ZoneReading


def zone_of(node: Node | None, zones: Mapping[str, ZoneReading]) -> ZoneReading | None:
    """The first zone by name whose selector matches the node's labels, else the default zone, else None."""
    default = None
    for name in sorted(zones):
        reading = zones[name]
        if reading.zone.is_default:
            default = default or reading
        elif node is not None and reading.zone.nodes.matches(node.labels):
            return reading
    return default


def zone_name(snapshot: Snapshot, node: str) -> str:
    """The name of a node's zone, empty where it has none."""
    zone = node_zone(snapshot, node)
    return zone.zone.name if zone else ""


def node_zone(snapshot: Snapshot, node: str) -> ZoneReading | None:
    """The zone of a node by name; a node that is no longer seen belongs to the default zone."""
    return zone_of(snapshot.cluster.nodes.get(node), snapshot.zones)
