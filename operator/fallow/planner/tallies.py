"""What became of the requests of two variants that serve side by side: how many failed, and how many were late."""

from collections.abc import Iterable, Mapping, Sequence

from fallow.domain.estimates import Tally
from fallow.domain.policies import Policy
from fallow.domain.readings import EngineReading, Histogram
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Seconds
from fallow.domain.workloads import Service
from fallow.planner.demand import serving_pods
from fallow.planner.lateness import above

# An engine at the start of what is counted, None for all since it began; and as it is now.
Pair = tuple[EngineReading | None, EngineReading]


def tallies(snapshot: Snapshot, service: Service, policy: Policy | None) -> Mapping[str, Tally]:
    """Of a switch by steps; empty where none is under way.

    The new variant is judged by all that its replicas did, since these began with the switch; the old one by the recent
    window, in which both had the same load. A pod of the old one that was there at its start and not read is left out.
    """
    memory = snapshot.cluster.memory_of(service.key)
    if policy is None or policy.shift is None or memory.before is None or memory.switching_to is None:
        return {}
    read, earlier = snapshot.readings.engines, snapshot.earlier
    new: list[Pair] = []
    old: list[Pair] = []
    for pod in serving_pods(snapshot, service):
        now = read.get(pod.ref)
        if now is None:
            continue
        if pod.variant == memory.switching_to:
            new.append((None, now))
        elif pod.variant == memory.serving and earlier is not None and pod.ref in earlier.engines:
            old.append((earlier.engines[pod.ref], now))
    known = {memory.switching_to: new, memory.serving or service.reference.name: old}
    return {name: _tally(pairs, service) for name, pairs in known.items() if pairs}


def _tally(pairs: Sequence[Pair], service: Service) -> Tally:
    wanted = service.objectives
    ttft = _late(((before.ttft if before else None, now.ttft) for before, now in pairs), wanted.ttft_p95)
    itl = _late(((before.itl if before else None, now.itl) for before, now in pairs), wanted.itl_p95)
    ended = [_since(before.requests if before else 0.0, now.requests) for before, now in pairs]
    failed = [
        None if now.failed is None else _since((before.failed if before else None) or 0.0, now.failed)
        for before, now in pairs
    ]
    counted = [one for one in failed if one is not None]
    return Tally(
        requests=sum(ended),
        failed=sum(counted) if len(counted) == len(failed) else None,
        late={name: found for name, found in (("TTFT", ttft), ("ITL", itl)) if found is not None},
    )


def _since(before: float, now: float) -> float:
    """A counter that fell began anew at zero."""
    return now if before > now else now - before


def _late(
    pairs: Iterable[tuple[Histogram | None, Histogram | None]], limit: Seconds | None
) -> tuple[float, float] | None:
    if limit is None:
        return None
    late, of = 0.0, 0.0
    for before, now in pairs:
        if now is None or not now.bounds:
            return None
        same = before is not None and before.bounds == now.bounds and before.counts[-1] <= now.counts[-1]
        late += above(before if same else None, now, limit)
        of += now.counts[-1] - (before.counts[-1] if same and before is not None else 0.0)
    return late, of
