"""Who holds each GPU now, on which line that is booked, and how an interval is shared when the holder changed.

Whole GPUs only: dcgm-exporter names the holder; where it names none on a node, the pods that hold GPUs there decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fallow.domain.ledger import GpuMark, LineKey, LineKind
from fallow.domain.readings import GpuReading, PodRef
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Instant
from fallow.footprint.zones import zone_name

UNALLOCATED = LineKey(LineKind.UNALLOCATED)
UNATTRIBUTED = LineKey(LineKind.UNATTRIBUTED)


@dataclass(frozen=True, slots=True)
class Holding:
    """The line of a GPU now; `pod` is the holder as the cluster knows it, `holder` as the meter names it."""

    line: LineKey
    holder: PodRef | None = None
    pod: Pod | None = None

    @property
    def since(self) -> Instant | None:
        """When the holder took the GPU: its start on the node, or its creation where that is not reported."""
        if self.pod is None:
            return None
        return self.pod.started if self.pod.started is not None else self.pod.created


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an interval on one line; `present` where it belongs to the holder of now."""

    line: LineKey
    start: Instant
    end: Instant
    present: bool


def line_of(ref: PodRef, pod: Pod | None) -> LineKey:
    if pod is None or pod.service is None:
        return LineKey(LineKind.FOREIGN, namespace=ref.namespace)
    return LineKey(LineKind.SERVICE, pod.service.namespace, pod.service.name, pod.variant or "")


def holdings(snapshot: Snapshot, marks: Mapping[str, GpuMark]) -> Mapping[str, Holding]:
    """Every GPU that was read, by UUID, with its line."""
    pods = snapshot.cluster.pods
    held: dict[str, Holding] = {}
    unnamed: dict[str, list[str]] = defaultdict(list)
    named: dict[PodRef, int] = defaultdict(int)
    for uuid, reading in snapshot.readings.gpus.items():
        if reading.holder is None:
            unnamed[reading.node].append(uuid)
        else:
            named[reading.holder] += 1
            held[uuid] = _named(reading, reading.holder, pods.get(reading.holder), marks.get(uuid))
    if unnamed:
        hidden = _hidden(pods.values(), unnamed, named)
        for node, uuids in unnamed.items():
            holding = _unnamed(hidden.get(node, []), len(uuids))
            held.update(dict.fromkeys(uuids, holding))
    zones = {node: zone_name(snapshot, node) for node in {gpu.node for gpu in snapshot.readings.gpus.values()}}
    return {uuid: _placed(holding, zones[snapshot.readings.gpus[uuid].node]) for uuid, holding in held.items()}


def _placed(holding: Holding, zone: str) -> Holding:
    return replace(holding, line=replace(holding.line, zone=zone))


def _named(reading: GpuReading, holder: PodRef, pod: Pod | None, mark: GpuMark | None) -> Holding:
    if pod is None and mark is not None and mark.holder == holder and mark.node == reading.node:
        # the pod is gone and the meter still names it: it stays on the line on which it was
        return Holding(mark.line, holder)
    return Holding(line_of(holder, pod), holder, pod)


def _hidden(
    pods: Iterable[Pod], nodes: Mapping[str, list[str]], named: Mapping[PodRef, int]
) -> Mapping[str, list[tuple[Pod, int]]]:
    """Pods that hold more GPUs than the meter names them for, with how many more, by node."""
    hidden: dict[str, list[tuple[Pod, int]]] = defaultdict(list)
    for pod in pods:
        if pod.scheduled and pod.node in nodes and pod.gpus > named.get(pod.ref, 0):
            hidden[pod.node].append((pod, pod.gpus - named.get(pod.ref, 0)))
    return hidden


def _unnamed(hidden: list[tuple[Pod, int]], unnamed: int) -> Holding:
    """The line of a node's GPUs without a name: a line that must hold them all, else nobody's, else not known whose."""
    if not hidden:
        return Holding(UNALLOCATED)
    lines = {line_of(pod.ref, pod) for pod, _ in hidden}
    if len(lines) > 1 or sum(more for _, more in hidden) != unnamed:
        return Holding(UNATTRIBUTED)
    if len(hidden) > 1:
        return Holding(lines.pop())
    pod = hidden[0][0]
    return Holding(lines.pop(), pod.ref, pod)


def pieces(mark: GpuMark, holding: Holding, start: Instant, end: Instant) -> tuple[Piece, ...]:
    """The interval on its lines. Where the line changed in between, it is cut:

    at the start of the present holder where that is known, else in the middle, since nothing says when it happened.
    """
    if holding.line == mark.line:
        return (Piece(holding.line, start, end, present=True),)
    since = holding.since
    cut = Instant((start + end) / 2) if since is None else Instant(min(max(since, start), end))
    before, after = Piece(mark.line, start, cut, present=False), Piece(holding.line, cut, end, present=True)
    return tuple(piece for piece in (before, after) if piece.end > piece.start)
