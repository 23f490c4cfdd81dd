"""A window of the present, for clusters without a history of metrics: the same pages, looked at a few times.

A slot lies between two looks at GPUs: energy and tokens are differences of counters, all else is as it was at its end.
Engines are looked at more often, since how many requests are in work changes by the second.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from urllib.parse import urlsplit

from fallow.adapters.metrics import dcgm
from fallow.adapters.metrics.direct import DirectSource, Page, page_url
from fallow.adapters.metrics.engine_window import COUNTERS, EngineSeries, EngineSignal, engine_slots
from fallow.adapters.metrics.faults import listed
from fallow.adapters.metrics.gpu_window import GpuSeries, Signal, gpu_windows
from fallow.adapters.metrics.samples import Sample
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef
from fallow.domain.units import Instant
from fallow.domain.windows import Window
from fallow.ports import ReadScope

_GPU_SIGNALS = {
    Signal.ENERGY: Signal.ENERGY.value,
    Signal.WATTS: Signal.WATTS.value,
    Signal.PEAK: Signal.WATTS.value,
    Signal.ACTIVE: Signal.ACTIVE.value,
    Signal.UTIL: Signal.UTIL.value,
    Signal.SM: Signal.SM.value,
    Signal.TENSOR: Signal.TENSOR.value,
    Signal.MEMORY: Signal.MEMORY.value,
}
_GPU_NAMES = frozenset(_GPU_SIGNALS.values())
_ENGINE_SIGNALS = {
    EngineSignal.REQUESTS.value: EngineSignal.REQUESTS,
    EngineSignal.PROMPT.value: EngineSignal.PROMPT,
    EngineSignal.GENERATED.value: EngineSignal.GENERATED,
    EngineSignal.RUNNING.value: EngineSignal.RUNNING,
    EngineSignal.WAITING.value: EngineSignal.WAITING,
    EngineSignal.KV_USAGE.value: EngineSignal.KV_USAGE,
    "vllm:gpu_cache_usage_perc": EngineSignal.KV_USAGE,
}

_Key = tuple[tuple[str, str], ...]
_Engine = tuple[PodRef, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that the pages showed at one time, exporters' and, by pod, engines'; `whole` if GPUs were asked."""

    at: Instant
    gpus: tuple[Sample, ...]
    engines: Mapping[PodRef, tuple[Sample, ...]]
    fault: Missing | None
    whole: bool = True


async def look(source: DirectSource, now: Instant, scope: ReadScope, *, exporter_port: int, whole: bool = True) -> Look:
    """An engine that shows no page is left out; nodes that show none are named in the fault."""
    nodes = sorted(scope.nodes) if whole else []
    exporters = [_exporter_page(name, scope.nodes[name], exporter_port) for name in nodes]
    engines = [Page(page_url(one.address, one.port), frozenset(_ENGINE_SIGNALS), {}) for one in scope.engines]
    answers = await source.pages(now, [*exporters, *engines])
    faults = {node: one for node, one in zip(nodes, answers, strict=False) if isinstance(one, Missing)}
    shown = zip(scope.engines, answers[len(nodes) :], strict=True)
    return Look(
        at=now,
        gpus=tuple(one for page in answers[: len(nodes)] if not isinstance(page, Missing) for one in page),
        engines={one.pod: tuple(page) for one, page in shown if not isinstance(page, Missing) and page},
        fault=_fault(faults),
        whole=whole,
    )


def watched(looks: Sequence[Look], nodes: Mapping[str, str], source: str) -> Window:
    """`nodes` are addresses by name. Raises ValueError for fewer than two looks at GPUs."""
    ends = [one for one in looks if one.whole]
    if len(ends) < 2:
        raise ValueError("a window needs two looks")
    edges = tuple(one.at for one in ends)
    exporters = dcgm.Exporters(node_names={address: name for name, address in nodes.items()})
    return Window(
        edges=edges,
        gpus=gpu_windows(_gpu_signals(ends), edges, labels=dcgm.DcgmLabels(), exporters=exporters),
        engines=engine_slots(_engine_signals(looks)),
        source=source,
        faults=tuple(dict.fromkeys(one.fault for one in looks if one.fault is not None)),
    )


def _gpu_signals(looks: Sequence[Look]) -> dict[Signal, list[GpuSeries]]:
    return {
        **{signal: _series(looks, name) for signal, name in _GPU_SIGNALS.items()},
        Signal.ENERGY_TIME: _series(looks, Signal.ENERGY.value, times=True),
    }


def _series(looks: Sequence[Look], name: str, *, times: bool = False) -> list[GpuSeries]:
    by_labels: defaultdict[_Key, dict[int, float]] = defaultdict(dict)
    for edge, one in enumerate(looks):
        for sample in one.gpus:
            if sample.name == name and isfinite(sample.value):
                by_labels[tuple(sorted(sample.labels.items()))][edge] = sample.at if times else sample.value
    return [GpuSeries(dict(labels), values) for labels, values in by_labels.items()]


def _engine_signals(looks: Sequence[Look]) -> dict[EngineSignal, list[EngineSeries]]:
    """By the edge at which a look's slot ends: of counters the last value, of all else the mean."""
    found: defaultdict[EngineSignal, defaultdict[_Engine, defaultdict[int, list[float]]]]
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    edge = 0
    for one in looks:
        for (signal, engine), value in _shown(one).items():
            found[signal][engine][edge].append(value)
            if signal is EngineSignal.RUNNING:
                found[EngineSignal.BUSY][engine][edge].append(float(value > 0))
        edge += one.whole
    return {
        signal: [
            EngineSeries(
                pod,
                engine,
                {edge: many[-1] if signal in COUNTERS else sum(many) / len(many) for edge, many in values.items()},
            )
            for (pod, engine), values in engines.items()
        ]
        for signal, engines in found.items()
    }


def _shown(one: Look) -> dict[tuple[EngineSignal, _Engine], float]:
    """Several series of one engine under one signal (reasons for a request's end) are added."""
    values: defaultdict[tuple[EngineSignal, _Engine], float] = defaultdict(float)
    for pod, sample in _finite(one):
        engine = (pod, (sample.labels.get("engine", "0"), sample.labels.get("model_name", "")))
        values[_ENGINE_SIGNALS[sample.name], engine] += sample.value
    return values


def _finite(one: Look) -> Iterable[tuple[PodRef, Sample]]:
    return ((pod, sample) for pod, page in one.engines.items() for sample in page if isfinite(sample.value))


def _exporter_page(node: str, address: str, port: int) -> Page:
    url = page_url(address, port)
    return Page(url, _GPU_NAMES, {"instance": urlsplit(url).netloc, "node": node})


def _fault(faults: Mapping[str, Missing]) -> Missing | None:
    if not faults:
        return None
    first = faults[min(faults)]
    return Missing(first.reason, f"no GPU readings from {listed(faults)}: {first.detail}")
