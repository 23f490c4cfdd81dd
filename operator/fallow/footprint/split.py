"""Idle energy apart from useful: what a stretch of a GPU's time was for, and its joules by that (D1 to D4).

Whatever is not certainly starting, without work or under-filled counts as useful; so the waste shown is never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.domain.figures import Missing
from fallow.domain.ledger import Ledger, LineKind, Rest
from fallow.domain.readings import EngineReading, GpuReading, PodRef
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Joules, Seconds, energy, mean_power
from fallow.footprint.attribution import Piece
from fallow.footprint.baseline import STILL, Levels, Stretch, rest_of
from fallow.footprint.energy import sample_of
from fallow.footprint.hardware import IDLE_TOLERANCE


@dataclass(frozen=True, slots=True)
class Doing:
    """What a piece's time went to, as shares of it; the rest is work, at `fill` of what the replica should carry."""

    starting: float = 0.0
    idle: float = 0.0
    fill: float = 1.0

    @property
    def working(self) -> float:
        return max(1.0 - self.starting - self.idle, 0.0)


@dataclass(frozen=True, slots=True)
class Parts:
    """Joules of a piece that were not useful, by kind; what is left of its energy is useful."""

    bare: float = 0.0
    parked: float = 0.0
    underfilled: float = 0.0
    starting: float = 0.0


def empty(used: Joules) -> Parts:
    """D1: of a GPU that nobody holds everything is bare."""
    return Parts(bare=used.value)


def parts(used: Joules, duration: Seconds, levels: Levels, doing: Doing) -> Parts:
    """D2 to D4: by time, then by level. `levels` and `used` are of the same GPU, or of the same part of one."""
    starting, resting = used.value * doing.starting, used.value * doing.idle
    bare = min(resting, energy(levels.bare, Seconds(duration * doing.idle)).value)
    working = min(used.value * doing.working, energy(levels.loaded, Seconds(duration * doing.working)).value)
    return Parts(bare, resting - bare, (1.0 - doing.fill) * working, starting)


class Judge:
    """Says what the holders of one snapshot's GPUs did since the ledger's marks. `idle` pods certainly had no work."""

    def __init__(self, ledger: Ledger, snapshot: Snapshot, idle: frozenset[PodRef]) -> None:
        self._ledger = ledger
        self._snapshot = snapshot
        self._idle = idle

    def parts(self, stretch: Stretch, piece: Piece, used: Joules, levels: Levels) -> Parts:
        """The parts of a piece that used so much; `levels` are of the GPU, or of the part of it that the piece has."""
        kind = piece.line.kind
        if kind is LineKind.UNALLOCATED:
            return empty(used)
        doing = self.doing(stretch, piece) if kind is LineKind.SERVICE else self.seen_from_outside(stretch)
        return parts(used, Seconds(piece.end - piece.start), levels, doing)

    def rest(self, stretch: Stretch) -> Rest | None:
        """How the whole GPU rested, for its baseline."""
        return rest_of(self._snapshot, stretch, idle=self._without_work(stretch))

    def doing(self, stretch: Stretch, piece: Piece) -> Doing:
        """Of a service's piece. Of the time before the present holder nothing is known, so it counts as work."""
        pod = stretch.holding.pod
        if not piece.present or pod is None:
            return Doing()
        starting = self._starting(piece, pod)
        if self._without_work(stretch):
            return Doing(starting=starting, idle=_after(piece, pod))
        return Doing(starting=starting, fill=self._fill(pod))

    def seen_from_outside(self, stretch: Stretch) -> Doing:
        """Of a pod that is not ours, or of nobody knows whom: idle without activity at both ends and without the
        power of any between. Whether its work is useful cannot be known; it counts as useful.
        """
        ends = (_activity(stretch.reading), self._activity_at_mark(stretch))
        still = all(activity is not None and activity <= STILL for activity in ends)
        mean = mean_power(stretch.used.energy.best, Seconds(stretch.used.end - stretch.used.start))
        return Doing(idle=1.0 if still and mean <= stretch.hardware.context * IDLE_TOLERANCE else 0.0)

    def _without_work(self, stretch: Stretch) -> bool:
        holder, mark = stretch.holding.holder, stretch.mark
        return holder in self._idle and not (mark.worked and mark.holder == holder)

    def _activity_at_mark(self, stretch: Stretch) -> float | None:
        """None where the readings of then are not at hand, as after a restart."""
        before = self._snapshot.previous.gpus.get(stretch.reading.uuid) if self._snapshot.previous else None
        sample = sample_of(before) if before is not None else None
        if before is None or sample is None or sample.at != stretch.mark.at:
            return None
        return _activity(before)

    def _starting(self, piece: Piece, pod: Pod) -> float:
        """The share before the pod was ready. A pod whose engine has been read was ready once: it is not starting."""
        begun = pod.started if pod.started is not None else pod.created
        start = min(max(begun, piece.start), piece.end)
        ready = piece.end if pod.ready_since is None else min(max(pod.ready_since, start), piece.end)
        mark = self._ledger.engines.get(pod.uid)
        was_ready = mark is not None and mark.at > begun
        return 0.0 if was_ready else (ready - start) / (piece.end - piece.start)

    def _fill(self, pod: Pod) -> float:
        """D4: mean requests in flight over what the replica should carry; full where one of the two is not known."""
        if pod.service is None or pod.variant is None:
            return 1.0
        target = self._snapshot.targets.get((pod.service, pod.variant))
        now = self._snapshot.readings.engines.get(pod.ref)
        if not target or now is None:
            return 1.0
        before = self._snapshot.previous.engines.get(pod.ref) if self._snapshot.previous else None
        seen = [_in_flight(one) for one in (before, now) if one is not None]
        return min(max(sum(seen) / len(seen) / target, 0.0), 1.0)


def _after(piece: Piece, pod: Pod) -> float:
    """The share of a piece after its pod was ready."""
    ready = pod.ready_since
    if ready is None or ready <= piece.start:
        return 1.0
    return max(piece.end - ready, 0.0) / (piece.end - piece.start)


def _in_flight(engine: EngineReading) -> float:
    """Requests that wait say that the engine is full, whatever it runs."""
    return float("inf") if engine.waiting > 0 else engine.running


def _activity(reading: GpuReading) -> float | None:
    return None if isinstance(reading.activity, Missing) else reading.activity.ratio
