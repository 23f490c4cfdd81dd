"""What starting a replica takes: seconds of pods that became ready, and the joules that the books have as starting.

A pod counts when its engine is read for the first time, which the ledger remembers, so that no restart counts it twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from fallow.domain.learned import Learned, Placement, Starts
from fallow.domain.ledger import Ledger
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey
from fallow.footprint.steps import LEAST_WATTS, MOST_WATTS

# the mean is that of so many starts
MEMORY = 20.0
# a replica that takes longer had no room, or lost its readiness meanwhile
LONGEST = Seconds(1800)
# who was ready longer ago was there before Fallow was
LATELY = Seconds(3600)


def with_starts(
    learned: Mapping[Placement, Learned], before: Ledger, after: Ledger, snapshot: Snapshot
) -> Mapping[Placement, Learned]:
    """J10: what was learned, with the starts that ended and the joules of those under way."""
    drawn, ready = _drawn(before, after), _ready(before, after, snapshot)
    if not drawn and not ready:
        return learned
    found = dict(learned)
    for service, variant in drawn.keys() | ready.keys():
        pods = tuple(pod for pod in snapshot.pods_of(service) if pod.variant == variant and not pod.deleting)
        where = _where(snapshot, pods)
        if where is None:
            continue
        product, gpus = where
        placement = Placement(service, variant, product)
        known = found.get(placement)
        if known is None or known.gpus != gpus:
            known = Learned(gpus, snapshot.at)
        seconds, joules = ready.get((service, variant), []), drawn.get((service, variant), 0.0)
        starts = _noted(known.starts or Starts(), seconds, joules, gpus)
        if all(pod.ready for pod in pods):
            starts = replace(starts, pending=0.0)
        found[placement] = replace(known, starts=starts)
    return found


def _drawn(before: Ledger, after: Ledger) -> Mapping[tuple[ServiceKey, str], float]:
    """J that went into starting since then, by service and variant."""
    found: dict[tuple[ServiceKey, str], float] = {}
    for line, book in after.books.items():
        old = before.books.get(line)
        if line.service is None or book is old:
            continue
        joules = book.total.account.starting.value - (old.total.account.starting.value if old is not None else 0.0)
        if joules > 0:
            key = (line.service, line.variant)
            found[key] = found.get(key, 0.0) + joules
    return found


def _ready(before: Ledger, after: Ledger, snapshot: Snapshot) -> Mapping[tuple[ServiceKey, str], list[float]]:
    """Seconds from the start of the container to ready, of pods whose engine is read for the first time."""
    found: defaultdict[tuple[ServiceKey, str], list[float]] = defaultdict(list)
    for pod in snapshot.cluster.pods.values():
        ready, started = pod.ready_since, pod.started
        if ready is None or started is None or snapshot.at - ready > LATELY or pod.service is None or not pod.ready:
            continue
        is_new = _is_read(after, pod.uid, started) and not _is_read(before, pod.uid, started)
        if is_new and 0 < ready - started <= LONGEST:
            found[pod.service, pod.variant or ""].append(ready - started)
    return found


def _is_read(ledger: Ledger, uid: str, started: Instant) -> bool:
    mark = ledger.engines.get(uid)
    return mark is not None and mark.at > started


def _where(snapshot: Snapshot, pods: tuple[Pod, ...]) -> tuple[str, int] | None:
    """The GPU type under all of them and how many each has; None where they differ."""
    nodes = (snapshot.cluster.nodes.get(pod.node) for pod in pods)
    products = {node.gpu_product for node in nodes if node is not None and node.gpu_product}
    gpus = {pod.gpus for pod in pods}
    return (products.pop(), gpus.pop()) if len(products) == len(gpus) == 1 else None


def _noted(old: Starts, seconds: list[float], joules: float, gpus: int) -> Starts:
    """Joules are those of the starts that end together; where they are no likely power, as after starts that failed,
    only the seconds count.
    """
    pending = old.pending + joules
    if not seconds:
        return replace(old, pending=pending)
    kept = min(1.0, max(MEMORY - len(seconds), 0.0) / old.number) if old.number else 1.0
    likely = LEAST_WATTS <= pending / (sum(seconds) * gpus) <= MOST_WATTS
    return Starts(
        number=old.number * kept + len(seconds),
        seconds=old.seconds * kept + sum(seconds),
        metered=old.metered * kept + (len(seconds) if likely else 0.0),
        joules=old.joules * kept + (pending if likely else 0.0),
    )
