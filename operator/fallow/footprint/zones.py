"""Which grid zone a node belongs to, and what was read of it at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fallow.domain.figures import Bounds, Missing
from fallow.domain.snapshots import Node, Snapshot
from fallow.domain.units import Instant
from fallow.domain.zones import IntensityTier, Spell, ZoneReading

# intensities that do not change with the time of day
TIMELESS = frozenset({IntensityTier.DECLARED, IntensityTier.YEARLY})
# a value of another time, as for the last known one
OTHER_TIME = Bounds(0.9, 1.1)
# the time before the first spell
UNWATCHED = Instant(0)


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


def reading_at(at: Instant, present: ZoneReading | None, spells: Sequence[Spell]) -> tuple[Instant, ZoneReading | None]:
    """The zone's reading at a time, and since when it held. Without spells the present one holds for all time.

    Before the first spell nobody watched: the first value that is known stands in, with wider bounds.
    """
    if present is None or not spells:
        return UNWATCHED, present
    place = bisect_right(spells, at, key=_since)
    if place:
        return spells[place - 1].since, spells[place - 1].reading
    known = next((spell.reading for spell in spells if not isinstance(spell.reading.intensity, Missing)), present)
    intensity = known.intensity
    if isinstance(intensity, Missing) or intensity.tier in TIMELESS:
        return UNWATCHED, known
    grams = intensity.grams.spread(OTHER_TIME.low, 1.0, OTHER_TIME.high)
    return UNWATCHED, replace(known, intensity=replace(intensity, grams=grams))


def changes_after(at: Instant, spells: Sequence[Spell]) -> Iterator[Instant]:
    """When the reading changed, after a time."""
    return (spell.since for spell in spells[bisect_right(spells, at, key=_since) :])


def _since(spell: Spell) -> Instant:
    return spell.since
