"""From range queries over vLLM's series to engines slot by slot: counters as differences, gauges as means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from fallow.domain.readings import PodRef
from fallow.domain.windows import EngineSlot


class EngineSignal(StrEnum):
    """What is asked of each engine, and the metric it is asked of."""

    REQUESTS = "vllm:request_success_total"
    PROMPT = "vllm:prompt_tokens_total"
    GENERATED = "vllm:generation_tokens_total"
    RUNNING = "vllm:num_requests_running"
    BUSY = "share of time with vllm:num_requests_running"
    WAITING = "vllm:num_requests_waiting"
    KV_USAGE = "vllm:kv_cache_usage_perc"


COUNTERS = (EngineSignal.REQUESTS, EngineSignal.PROMPT, EngineSignal.GENERATED)


@dataclass(frozen=True, slots=True)
class EngineSeries:
    """Of one engine of a pod, told apart by `engine` (its rank and model): values by edge.

    `fresh` where the pod began within the window: its counters then began at zero.
    """

    pod: PodRef
    engine: tuple[str, str]
    values: Mapping[int, float]
    fresh: bool = False


def engine_slots(signals: Mapping[EngineSignal, Sequence[EngineSeries]]) -> dict[PodRef, dict[int, EngineSlot]]:
    """A slot in which the number of running requests is not known is absent."""
    by_pod: defaultdict[PodRef, defaultdict[tuple[str, str], dict[EngineSignal, dict[int, float]]]]
    by_pod = defaultdict(lambda: defaultdict(dict))
    for signal, series in signals.items():
        for one in series:
            values = dict(one.values)
            own = by_pod[one.pod][one.engine].setdefault(signal, {})
            for edge, value in (_rises(values, fresh=one.fresh) if signal in COUNTERS else values).items():
                # an engine that two jobs scrape is one engine
                own[edge] = max(own.get(edge, 0.0), value)
    return {pod: slots for pod, engines in by_pod.items() if (slots := _summed(list(engines.values())))}


def _summed(engines: list[dict[EngineSignal, dict[int, float]]]) -> dict[int, EngineSlot]:
    numbers = {edge - 1 for engine in engines for edge in engine.get(EngineSignal.RUNNING, {}) if edge > 0}
    return {number: _slot(engines, number + 1) for number in sorted(numbers)}


def _slot(engines: list[dict[EngineSignal, dict[int, float]]], edge: int) -> EngineSlot:
    def found(signal: EngineSignal) -> list[float]:
        return [engine[signal][edge] for engine in engines if edge in engine.get(signal, {})]

    busy = found(EngineSignal.BUSY)
    return EngineSlot(
        requests=sum(found(EngineSignal.REQUESTS)),
        tokens=sum(found(EngineSignal.PROMPT)) + sum(found(EngineSignal.GENERATED)),
        running=sum(found(EngineSignal.RUNNING)),
        waiting=sum(found(EngineSignal.WAITING)),
        busy=min(max(busy), 1.0) if busy else None,
        kv_usage=max(found(EngineSignal.KV_USAGE), default=None),
        engines=len(found(EngineSignal.RUNNING)),
    )


def _rises(values: Mapping[int, float], *, fresh: bool) -> dict[int, float]:
    """By how much a counter rose up to each edge since the one before; one that fell began anew at zero."""
    edges = sorted(values)
    rises = {
        edge: values[edge] - values[before] if values[edge] >= values[before] else values[edge]
        for before, edge in pairwise(edges)
    }
    if fresh and edges and edges[0] > 0:
        rises[edges[0]] = values[edges[0]]
    return rises
