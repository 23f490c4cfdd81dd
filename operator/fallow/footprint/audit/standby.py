"""Whether a loaded GPU without work stands by, or is idle: by when its workload last worked, and what was declared.

Standing by is a purpose and is not accused. The rule is told to users in docs/how-to/audit.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from fallow.domain.readings import PodRef
from fallow.domain.units import Instant, Seconds
from fallow.domain.windows import Scaled

# a quiet hour between two requests is what a replica stays loaded for
RECENT = Seconds(3600)
# a declared minimum answers for a day's rhythm; who was not asked for a whole day does not stand by
DECLARED = Seconds(0.95 * 86_400)
# above the declared minimum a scaler would have taken the replica away by now (HPA waits 5 min)
SURPLUS = Seconds(600)


@dataclass(slots=True)
class Life:
    """Of one workload: in which slots each of its pods was seen, and in which it worked."""

    seen: dict[PodRef, set[int]] = field(default_factory=dict)
    worked: dict[PodRef, set[int]] = field(default_factory=dict)

    def note(self, pod: PodRef, slot: int, *, worked: bool) -> None:
        self.seen.setdefault(pod, set()).add(slot)
        if worked:
            self.worked.setdefault(pod, set()).add(slot)


class Standby:
    """The judgement over a window, for one workload."""

    def __init__(self, life: Life, scaled: Scaled, edges: tuple[Instant, ...]) -> None:
        self._edges = edges
        self._floor = scaled.floor
        self._life = life
        self._surpluses: dict[int, float] = {}
        self._whole = _Quiet(_union(life.worked.values()), _union(life.seen.values()), edges)
        self._of = {
            pod: _Quiet(tuple(sorted(life.worked.get(pod, ()))), tuple(sorted(slots)), edges)
            for pod, slots in life.seen.items()
        }

    @property
    def worked(self) -> bool:
        return bool(self._whole.worked)

    def share(self, pod: PodRef, slot: int) -> float:
        """Of the pod's energy in a slot without work: how much of it is standby, 0..1; the rest is idle."""
        floor = self._floor or 0
        if not self.worked and floor < 1:
            return 0.0
        if self._whole.gap(slot) >= (DECLARED if floor >= 1 else RECENT):
            return 0.0
        if self._floor is None:
            return 1.0
        return 1.0 if self._of[pod].gap(slot) < SURPLUS else 1.0 - self._surplus(slot, floor)

    def _surplus(self, slot: int, floor: int) -> float:
        """Of the replicas without work in a slot: the share that the declared minimum does not ask for."""
        known = self._surpluses.get(slot)
        if known is None:
            present = [one for one, slots in self._life.seen.items() if slot in slots]
            still = sum(1 for one in present if slot not in self._life.worked.get(one, ()))
            known = max(min(len(present) - floor, still), 0) / max(still, 1)
            self._surpluses[slot] = known
        return known


@dataclass(frozen=True, slots=True)
class _Quiet:
    """Sorted slots with work, and all in which it was seen."""

    worked: tuple[int, ...]
    seen: tuple[int, ...]
    edges: tuple[Instant, ...]

    def gap(self, slot: int) -> Seconds:
        """From the last work before the slot, or the first sight, to the next after it, or the last sight."""
        place = bisect_left(self.worked, slot)
        begins = self.worked[place - 1] + 1 if place else self.seen[0]
        ends = self.worked[place] if place < len(self.worked) else self.seen[-1] + 1
        return Seconds(self.edges[ends] - self.edges[begins])


def _union(sets: Iterable[set[int]]) -> tuple[int, ...]:
    return tuple(sorted(set().union(*sets)))
