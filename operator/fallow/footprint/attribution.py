"""Who holds each GPU now, whole or in parts, and on which line each holder is booked.

The meters name the holders (dcgm-exporter's labels, then the node agent's word). Where they name none, what the node's
pods asked for decides as far as it is certain; then it is nobody's, or nobody knows whose. Watts and activity are never
proof: a pod that loads its model draws as little as nobody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fallow.domain.figures import Missing
from fallow.domain.ledger import GpuMark, LineKey, LineKind
from fallow.domain.readings import GpuReading, PodRef, Share, Sharing
from fallow.domain.slices import COMPUTE_SLICES
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.footprint.zones import zone_name

UNALLOCATED = LineKey(LineKind.UNALLOCATED)
UNATTRIBUTED = LineKey(LineKind.UNATTRIBUTED)
# compute slices of an A30 under MIG; slices that belong to no instance are nobody's
SLICES_A30 = 4
# a pod that has run for longer and is not named shares a GPU that names another: the meters' labels are not that late
NAMED_WITHIN = Seconds(60)


class Holding(NamedTuple):
    """Who holds a GPU, or a part of one; `pod` is the holder as the cluster knows it, `holder` as the meter names it.

    Holders of the same `place` have its `share` of the GPU in common: a MIG instance, or all of a GPU that is whole or
    used in turns. `activity` is the place's, or the holder's own where it takes turns; None: not measured.
    """

    line: LineKey
    holder: PodRef | None = None
    pod: Pod | None = None
    place: str = ""
    share: float = 1.0
    activity: float | None = None

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


def sole(held: Sequence[Holding]) -> Holding:
    """The holder of a whole GPU; of one with several, that there is no one line for it."""
    return held[0] if len(held) == 1 else Holding(UNATTRIBUTED._replace(zone=held[0].line.zone))


def holdings(snapshot: Snapshot, marks: Mapping[str, GpuMark]) -> Mapping[str, tuple[Holding, ...]]:
    """The holders of every GPU that was read, by UUID; the shares of its places add up to one."""
    nodes: dict[str, list[GpuReading]] = defaultdict(list)
    for reading in snapshot.readings.gpus.values():
        nodes[reading.node].append(reading)
    asking: dict[str, list[Pod]] = defaultdict(list)
    for pod in snapshot.cluster.pods.values():
        if pod.scheduled and pod.gpus and pod.node in nodes:
            asking[pod.node].append(pod)
    found: dict[str, tuple[Holding, ...]] = {}
    for name, gpus in nodes.items():
        zone = zone_name(snapshot, name)
        for uuid, held in _Site(snapshot, marks, name, gpus, asking[name]).holdings():
            found[uuid] = tuple(_placed(one, zone, alone=len(held) == 1) for one in held)
    return found


def own_gpus(snapshot: Snapshot, pod: Pod) -> tuple[GpuReading, ...]:
    """The GPUs whose meters tell of this pod alone. Where a node hands out copies, a name may be one of several."""
    node = snapshot.cluster.nodes.get(pod.node)
    if node is not None and node.in_turns:
        return ()
    return tuple(gpu for gpu in snapshot.readings.gpus_by_holder.get(pod.ref, ()) if not gpu.shares)


def _placed(holding: Holding, zone: str, *, alone: bool) -> Holding:
    """In its zone, and with all of the GPU where it is the only one to hold it."""
    line, holder, pod, place, share, activity = holding
    placed = line if line.zone == zone else LineKey(*line[:4], zone)
    return Holding(placed, holder, pod, *(("", 1.0) if alone else (place, share)), activity)


class _Site:
    """One node: the GPUs that were read there, and the pods that asked for some."""

    def __init__(
        self,
        snapshot: Snapshot,
        marks: Mapping[str, GpuMark],
        name: str,
        gpus: Sequence[GpuReading],
        asking: Sequence[Pod],
    ) -> None:
        node = snapshot.cluster.nodes.get(name)
        self._name = name
        self._now = snapshot.at
        self._pods = snapshot.cluster.pods
        self._marks = marks
        self._asking = asking
        self._divided = [gpu for gpu in gpus if _is_divided(gpu)]
        self._whole = [gpu for gpu in gpus if not _is_divided(gpu)]
        self._in_turns = (node is not None and node.in_turns) or any(gpu.shares for gpu in self._whole)
        self._complete = node is not None and len(gpus) >= node.gpus

    def holdings(self) -> Iterator[tuple[str, tuple[Holding, ...]]]:
        yield from self._of_turns() if self._in_turns else self._of_whole()
        yield from self._of_instances()

    def _of_whole(self) -> Iterator[tuple[str, tuple[Holding, ...]]]:
        named = Counter(gpu.holder for gpu in self._whole if gpu.holder is not None)
        unnamed = [gpu.uuid for gpu in self._whole if gpu.holder is None]
        for gpu in self._whole:
            if gpu.holder is not None:
                yield gpu.uuid, (self._held(gpu.uuid, gpu.holder),)
        if unnamed:
            hidden = [(pod, _whole_of(pod) - named[pod.ref]) for pod in self._asking]
            claim = _claim(hidden, len(unnamed), complete=self._complete)
            yield from ((uuid, claim) for uuid in unnamed)

    def _of_turns(self) -> Iterator[tuple[str, tuple[Holding, ...]]]:
        """Labels may name one of those that share a GPU. Of a node's only GPU the others are known all the same."""
        names = {gpu.uuid: _sharers(gpu) for gpu in self._whole}
        named = {pod for pods in names.values() for pod in pods}
        hidden = [pod for pod in self._asking if pod.copies + _whole_of(pod) > 0 and pod.ref not in named]
        listed = any(len(pods) > 1 for pods in names.values())
        doubtful = set() if listed else {line_of(pod.ref, pod) for pod in hidden if self._is_settled(pod)}
        unnamed = [uuid for uuid, pods in names.items() if not pods]
        claim = _claim([(pod, 1) for pod in hidden], len(unnamed), complete=self._complete, in_turns=True)
        for gpu in self._whole:
            own = tuple(self._turn(gpu, pod) for pod in names[gpu.uuid])
            if len(self._whole) == 1 and self._complete and hidden:
                yield gpu.uuid, (*own, *(Holding(line_of(pod.ref, pod), pod.ref, pod) for pod in hidden))
            elif not own:
                yield gpu.uuid, claim
            elif doubtful - {one.line for one in own}:
                yield gpu.uuid, (Holding(UNATTRIBUTED),)
            else:
                yield gpu.uuid, own

    def _of_instances(self) -> Iterator[tuple[str, tuple[Holding, ...]]]:
        """Under MIG's single strategy pods ask for instances as if they were GPUs, else by profile."""
        by_profile = any(pod.instances for pod in self._asking)
        named: Counter[tuple[PodRef, str]] = Counter()
        unnamed: Counter[str] = Counter()
        for gpu in self._divided:
            for share in gpu.shares:
                kind = share.profile if by_profile else ""
                if share.holder is None:
                    unnamed[kind] += 1
                else:
                    named[share.holder, kind] += 1
        claims: dict[str, tuple[Holding, ...]] = {}
        for kind, count in unnamed.items():
            asked = [(pod, self._instances_of(pod, kind, by_profile=by_profile)) for pod in self._asking]
            hidden = [(pod, amount - named[pod.ref, kind]) for pod, amount in asked]
            claims[kind] = _claim(hidden, count, complete=self._complete)
        for gpu in self._divided:
            yield gpu.uuid, tuple(self._instances(gpu, claims, by_profile=by_profile))

    def _instances(
        self, gpu: GpuReading, claims: Mapping[str, tuple[Holding, ...]], *, by_profile: bool
    ) -> Iterator[Holding]:
        copies = Counter(share.name for share in gpu.shares)
        slices = {share.name: share.slices for share in gpu.shares}
        whole = max(SLICES_A30 if "A30" in gpu.model_name.split() else COMPUTE_SLICES, sum(slices.values()))
        for share in gpu.shares:
            part, activity = share.slices / whole, _activity(share) if copies[share.name] == 1 else None
            if share.holder is not None:
                held = self._held(gpu.uuid, share.holder)
                yield held._replace(place=share.name, share=part, activity=activity)
                continue
            claim = claims[share.profile if by_profile else ""]
            for one in claim:
                place = f"{share.name}/{one.place}" if one.place else share.name
                known = activity if len(claim) == 1 else None
                yield one._replace(place=place, share=part * one.share, activity=known)
        free = whole - sum(slices.values())
        if free:
            yield Holding(UNALLOCATED, place="-", share=free / whole)

    def _instances_of(self, pod: Pod, kind: str, *, by_profile: bool) -> int:
        if by_profile:
            return pod.instances.get(kind, 0)
        return 0 if self._whole else _whole_of(pod)

    def _turn(self, gpu: GpuReading, pod: PodRef) -> Holding:
        activity = next((_activity(share) for share in gpu.shares if share.holder == pod), None)
        return self._held(gpu.uuid, pod)._replace(activity=activity)

    def _held(self, uuid: str, holder: PodRef) -> Holding:
        pod = self._pods.get(holder)
        if pod is None:
            # the pod is gone and the meter still names it: it stays on the line on which it was
            mark = self._marks.get(uuid)
            held = mark.held if mark is not None and mark.node == self._name else ()
            line = next((part.line for part in held if part.holder == holder), None)
            if line is not None:
                return Holding(line, holder)
        return Holding(line_of(holder, pod), holder, pod)

    def _is_settled(self, pod: Pod) -> bool:
        return pod.started is not None and self._now - pod.started > NAMED_WITHIN


def _claim(
    hidden: Iterable[tuple[Pod, int]], count: int, *, complete: bool, in_turns: bool = False
) -> tuple[Holding, ...]:
    """Who holds `count` alike places that have no name: pods with how many more each asked for than it is named for.

    One line that must hold them all holds them. One that must hold some of them, with all of the node in sight, holds
    as many, whichever they are: the others are nobody's, and an empty place draws no more than bare power.
    """
    claims = [(pod, more) for pod, more in hidden if more > 0]
    if not claims:
        return (Holding(UNALLOCATED),)
    lines, more = {line_of(pod.ref, pod) for pod, _ in claims}, sum(more for _, more in claims)
    if in_turns:
        # several copies may be on one GPU
        more = min(more, count)
    if len(lines) > 1 or more > count or (more < count and not complete):
        return (Holding(UNATTRIBUTED),)
    pod = claims[0][0] if len(claims) == 1 else None
    holding = Holding(lines.pop(), pod.ref if pod else None, pod)
    if more == count:
        return (holding,)
    share = more / count
    return (holding._replace(place="held", share=share), Holding(UNALLOCATED, place="free", share=1.0 - share))


def _is_divided(gpu: GpuReading) -> bool:
    return bool(gpu.shares) and gpu.shares[0].sharing is Sharing.MIG


def _sharers(gpu: GpuReading) -> list[PodRef]:
    holders = [gpu.holder, *(share.holder for share in gpu.shares)]
    return list(dict.fromkeys(pod for pod in holders if pod is not None))


def _whole_of(pod: Pod) -> int:
    return pod.gpus - pod.copies - sum(pod.instances.values())


def _activity(share: Share) -> float | None:
    return None if isinstance(share.activity, Missing) else share.activity.ratio
