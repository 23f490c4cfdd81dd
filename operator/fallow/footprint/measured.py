"""Measured windows: what one replica served and used over the same minute, both by counter.

Energy and work are read at different moments, so the work is interpolated to the time of the GPU's sample, and a
window begins and ends only where the energy counter has just moved: dcgm-exporter renews it every 30 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fallow.domain.figures import Missing
from fallow.domain.learned import Counts, Opening, Placement
from fallow.domain.readings import EngineReading, GpuReading, PodRef
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Instant, Joules, Seconds
from fallow.footprint.attribution import own_gpus

# long against the 15 to 30 s by which energy and work may be out of step, short against changes of load
SHORTEST = Seconds(60)
LONGEST = Seconds(600)
# the share of the highest clock from which on it counts as that: clocks are set in steps of 15 MHz
HIGHEST = 0.98


@dataclass(frozen=True, slots=True)
class Window:
    """`prompt_tokens` are those that were computed: cached ones count nothing. `iterations` None: not counted."""

    placement: Placement
    gpus: int
    start: Instant
    end: Instant
    energy: Joules
    prompt_tokens: float
    generated_tokens: float
    requests: float
    iterations: float | None

    @property
    def seconds(self) -> Seconds:
        return Seconds(self.end - self.start)

    @property
    def works(self) -> bool:
        return self.prompt_tokens + self.generated_tokens + self.requests > 0


def observed(openings: Mapping[str, Opening], snapshot: Snapshot) -> tuple[tuple[Window, ...], dict[str, Opening]]:
    """The windows that end in this snapshot, and the openings (by pod uid) that stand after it."""
    windows: list[Window] = []
    standing: dict[str, Opening] = {}
    for ref, pod in snapshot.cluster.pods.items():
        if pod.service is None or not pod.ready or pod.deleting:
            continue
        before = openings.get(pod.uid)
        if _is_slowed(snapshot, pod):
            continue
        now = _opening(snapshot, ref, pod)
        if now is None:
            if before is not None and snapshot.at - before.at <= LONGEST:
                standing[pod.uid] = before
            continue
        standing[pod.uid] = now
        if before is None or before.joules.keys() != now.joules.keys() or now.at - before.at > LONGEST:
            continue
        if now.at - before.at < SHORTEST:
            standing[pod.uid] = before
            continue
        window = _window(snapshot, pod, before, now)
        if window is not None:
            windows.append(window)
    return tuple(windows), standing


def _is_slowed(snapshot: Snapshot, pod: Pod) -> bool:
    """Whether its clocks are lowered: what engines take then says nothing of what they take otherwise."""
    return any(gpu.clock is not None and gpu.clock.share < HIGHEST for gpu in own_gpus(snapshot, pod))


def _opening(snapshot: Snapshot, ref: PodRef, pod: Pod) -> Opening | None:
    """None unless every GPU of the pod is held whole and its counter has just moved."""
    gpus, engine = own_gpus(snapshot, pod), snapshot.readings.engines.get(ref)
    if engine is None or len(gpus) != pod.gpus or snapshot.previous is None:
        return None
    joules: dict[str, float] = {}
    times: list[float] = []
    for gpu in gpus:
        before = snapshot.previous.gpus.get(gpu.uuid)
        if isinstance(gpu.counter, Missing) or not _has_moved(before, gpu):
            return None
        joules[gpu.uuid] = gpu.counter.joules.value
        times.append(gpu.counter.at)
    if not times:
        return None
    at = Instant(sum(times) / len(times))
    return Opening(at, joules, _counts(snapshot.previous.engines.get(ref), engine, at))


def _has_moved(before: GpuReading | None, now: GpuReading) -> bool:
    if before is None or isinstance(before.counter, Missing) or isinstance(now.counter, Missing):
        return False
    return now.counter.joules != before.counter.joules


def _counts(before: EngineReading | None, now: EngineReading, at: Instant) -> Counts:
    """The counters at a moment between two readings, as if work had been even; at the nearer one outside them."""
    share = 1.0
    if before is not None and before.at < now.at and before.generated_tokens <= now.generated_tokens:
        share = min(max((at - before.at) / (now.at - before.at), 0.0), 1.0)
    old = before or now
    return Counts(
        prompt_tokens=_between(old.prompt_tokens, now.prompt_tokens, share),
        generated_tokens=_between(old.generated_tokens, now.generated_tokens, share),
        requests=_between(old.requests, now.requests, share),
        cached_prompt_tokens=_known_between(old.cached_prompt_tokens, now.cached_prompt_tokens, share),
        iterations=_known_between(old.iterations, now.iterations, share),
    )


def _between(old: float, new: float, share: float) -> float:
    # exactly the new value at the end, so that an idle engine shows no work
    return new if share >= 1.0 else old + (new - old) * share


def _known_between(old: float | None, new: float | None, share: float) -> float | None:
    return None if old is None or new is None else _between(old, new, share)


def _window(snapshot: Snapshot, pod: Pod, before: Opening, now: Opening) -> Window | None:
    """None where a counter fell: the GPU's driver or the engine restarted within the window."""
    used = [now.joules[uuid] - before.joules[uuid] for uuid in now.joules]
    old, new = before.counts, now.counts
    prompt, generated = new.prompt_tokens - old.prompt_tokens, new.generated_tokens - old.generated_tokens
    requests, cached = new.requests - old.requests, _advance(old.cached_prompt_tokens, new.cached_prompt_tokens)
    iterations = _advance(old.iterations, new.iterations)
    if min(prompt, generated, requests, cached or 0.0, iterations or 0.0, *used) < 0 or pod.service is None:
        return None
    node = snapshot.cluster.nodes.get(pod.node)
    product = (node.gpu_product if node else "") or snapshot.readings.gpus[next(iter(now.joules))].model_name
    return Window(
        placement=Placement(pod.service, pod.variant or "", product),
        gpus=pod.gpus,
        start=before.at,
        end=now.at,
        energy=Joules(sum(used)),
        prompt_tokens=max(prompt - (cached or 0.0), 0.0),
        generated_tokens=generated,
        requests=requests,
        iterations=iterations,
    )


def _advance(old: float | None, new: float | None) -> float | None:
    return None if old is None or new is None else new - old
