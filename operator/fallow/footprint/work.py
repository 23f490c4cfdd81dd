"""What the engines did since their marks: tokens and requests, and whether a pod had work at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite

from fallow.domain.ledger import Account, EngineMark, Ledger, LineKey
from fallow.domain.readings import EngineReading, PodRef
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.footprint.attribution import line_of
from fallow.footprint.energy import CLOCK_FAULT, SHORTEST
from fallow.footprint.zones import zone_name

# the API server stamps pods in whole seconds by its own clock; a pod cannot have served within this time
START_TOLERANCE = Seconds(30)
# marks of pods that are gone are kept this long, in case only our view of the cluster was interrupted
KEEP_GONE = Seconds(3600)


@dataclass(frozen=True, slots=True)
class Served:
    """Tokens and requests of one engine between two readings."""

    line: LineKey
    start: Instant
    end: Instant
    account: Account


@dataclass(frozen=True, slots=True)
class Work:
    """`idle` names the pods that certainly had no work since their marks; whoever is not in it may have had some."""

    served: tuple[Served, ...]
    idle: frozenset[PodRef]
    marks: Mapping[str, EngineMark]


def work_since(ledger: Ledger, snapshot: Snapshot) -> Work:
    marks: dict[str, EngineMark] = dict(ledger.engines)
    zones = {node: zone_name(snapshot, node) for node in {pod.node for pod in snapshot.cluster.pods.values()}}
    served: list[Served] = []
    idle: set[PodRef] = set()
    for ref, pod in snapshot.cluster.pods.items():
        if pod.service is None:
            continue
        mark = marks.get(pod.uid)
        # of a pod that is only read back nobody may know the node any more: it stays on the line on which it was
        known = mark.line if mark is not None and not pod.node else None
        line = known or line_of(ref, pod)._replace(zone=zones[pod.node])
        mark = mark or _fresh(pod, line, ledger)
        reading = snapshot.readings.engines.get(ref)
        if mark is not None:
            marks[pod.uid] = mark
        if reading is None or not _countable(reading):
            continue
        mark = _set_right(mark, reading)
        if mark is None:
            marks[pod.uid] = _mark_of(reading, line, ref)
        elif reading.at <= mark.at:
            if pod.ready and not mark.working:
                idle.add(ref)
        else:
            account = counted(mark, reading)
            marks[pod.uid] = _mark_of(reading, line, ref)
            advanced = account.generated_tokens + account.prompt_tokens + account.requests > 0
            if advanced:
                served.append(Served(line, mark.at, reading.at, account))
            elif pod.ready and not mark.working and not marks[pod.uid].working:
                idle.add(ref)
    served.extend(_last_served(marks, snapshot))
    return Work(tuple(served), frozenset(idle), _pruned(marks, snapshot))


def _last_served(marks: dict[str, EngineMark], snapshot: Snapshot) -> Iterator[Served]:
    """What a source still tells of pods that are gone: their last requests end between a look and the pod's end."""
    present = {pod.uid for pod in snapshot.cluster.pods.values()}
    for uid, mark in list(marks.items()):
        if uid in present or mark.line is None or mark.pod is None or mark.pod in snapshot.cluster.pods:
            continue
        reading = snapshot.readings.engines.get(mark.pod)
        if reading is None or not _countable(reading) or reading.at <= mark.at:
            continue
        account = counted(mark, reading)
        marks[uid] = _mark_of(reading, mark.line, mark.pod)
        if account.generated_tokens + account.prompt_tokens + account.requests > 0:
            yield Served(mark.line, mark.at, reading.at, account)


def _set_right(mark: EngineMark | None, reading: EngineReading) -> EngineMark | None:
    """A mark from the future, left by a wrong clock, goes before the reading where its counters are the lower ones."""
    if mark is None or mark.at <= reading.at + CLOCK_FAULT:
        return mark
    steps = (
        reading.prompt_tokens - mark.prompt_tokens,
        reading.generated_tokens - mark.generated_tokens,
        reading.requests - mark.requests,
    )
    is_older = min(steps) >= 0 and max(steps) > 0
    return replace(mark, at=Instant(reading.at - SHORTEST)) if is_older else mark


def counted(mark: EngineMark, reading: EngineReading) -> Account:
    """T1: counter differences; an engine of which any counter fell has restarted and counts from zero."""
    now = (reading.prompt_tokens, reading.generated_tokens, reading.requests)
    before = (mark.prompt_tokens, mark.generated_tokens, mark.requests)
    restarted = any(value < old for value, old in zip(now, before, strict=True))
    if restarted:
        before = (0.0, 0.0, 0.0)
    prompt, generated, requests = (value - old for value, old in zip(now, before, strict=True))
    return Account(
        prompt_tokens=prompt,
        cached_prompt_tokens=_advance(mark.cached_prompt_tokens, reading.cached_prompt_tokens, restarted=restarted),
        generated_tokens=generated,
        iterations=_advance(mark.iterations, reading.iterations, restarted=restarted),
        requests=requests,
    )


def _advance(before: float | None, now: float | None, *, restarted: bool) -> float:
    """Of a counter that not every engine has; one that is seen for the first time tells only of what comes."""
    if now is None or not isfinite(now):
        return 0.0
    if restarted:
        return now
    return 0.0 if before is None else max(now - before, 0.0)


def _fresh(pod: Pod, line: LineKey, ledger: Ledger) -> EngineMark | None:
    """A pod that started after the ledger's last step counts from zero; of an older one only the future is known."""
    start = pod.started if pod.started is not None else pod.created
    if start < ledger.since or start < ledger.at - START_TOLERANCE:
        return None
    return EngineMark(at=start, line=line, pod=pod.ref, cached_prompt_tokens=0.0, iterations=0.0)


def _mark_of(reading: EngineReading, line: LineKey, pod: PodRef) -> EngineMark:
    return EngineMark(
        at=reading.at,
        prompt_tokens=reading.prompt_tokens,
        generated_tokens=reading.generated_tokens,
        requests=reading.requests,
        working=reading.running + reading.waiting > 0,
        line=line,
        pod=pod,
        cached_prompt_tokens=reading.cached_prompt_tokens,
        iterations=reading.iterations,
    )


def _countable(reading: EngineReading) -> bool:
    values = (reading.prompt_tokens, reading.generated_tokens, reading.requests, reading.running, reading.waiting)
    return all(isfinite(value) and value >= 0 for value in values)


def _pruned(marks: Mapping[str, EngineMark], snapshot: Snapshot) -> Mapping[str, EngineMark]:
    present = {pod.uid for pod in snapshot.cluster.pods.values()}
    return {uid: mark for uid, mark in marks.items() if uid in present or snapshot.readings.at - mark.at <= KEEP_GONE}
