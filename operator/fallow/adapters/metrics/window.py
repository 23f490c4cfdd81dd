"""Reads a window of the past from a Prometheus HTTP API: range queries whose number and size do not grow with time.

A window is cut into about a hundred slots. Counters are read at the slots' edges, with the times of their samples, so
that energy is the exact difference over the exact time; gauges as their means over each slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from fallow.adapters.metrics import dcgm, promql
from fallow.adapters.metrics.engine_window import EngineSeries, EngineSignal, engine_slots
from fallow.adapters.metrics.gpu_window import GpuSeries, Signal, gpu_windows
from fallow.adapters.metrics.prometheus import EngineLabels, exporters_of
from fallow.adapters.metrics.prometheus_api import Access, Grid, PrometheusApi, Question
from fallow.adapters.metrics.promql import Series
from fallow.adapters.metrics.samples import Sample
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.windows import Survey, Window

SLOTS = 96
# of a window under three hours
SHORT_SLOT, FEWEST_SLOTS = 120.0, 12
SAMPLES_PER_SLOT = 4
# how far back is looked for the time between two samples
INTERVAL_FROM = Seconds(300)
AT_ONCE = 6
# how finely "was a request in work?" is asked within a slot
LOOKS_PER_SLOT = 30

Signals = Signal | EngineSignal


def slot_length(window: Seconds, interval: Seconds) -> Seconds:
    """Whole seconds: a hundredth of the window, of short ones two minutes or a twelfth; but some samples at least."""
    length = max(window / SLOTS, min(SHORT_SLOT, window / FEWEST_SLOTS), SAMPLES_PER_SLOT * interval)
    return Seconds(max(1, round(min(length, window))))


class PrometheusWindow:
    """`matchers` narrow every query, such as {"cluster": "west"} where one Prometheus knows many clusters."""

    def __init__(
        self,
        url: str,
        *,
        timeout: Seconds = Seconds(60),
        access: Access | None = None,
        matchers: Mapping[str, str] | None = None,
        engine_labels: EngineLabels | None = None,
        gpu_labels: dcgm.DcgmLabels | None = None,
    ) -> None:
        promql.check_label_names(matchers or {})
        self._api = PrometheusApi(url, timeout=timeout, access=access, at_once=AT_ONCE)
        self._matchers = matchers or {}
        self._engine_labels = engine_labels or EngineLabels()
        self._gpu_labels = gpu_labels or dcgm.DcgmLabels()

    async def read(self, end: Instant, length: Seconds, survey: Survey) -> Window:
        """The window that ends at `end`, shortened to whole slots. What could not be read is in its faults."""
        step = slot_length(length, await self._interval(end))
        slots = max(1, int(length // step))
        edges = tuple(Instant(end - step * (slots - number)) for number in range(slots + 1))
        grid = Grid(edges[0], end, step)
        queries = self._queries(step)
        exporters = Question("the targets of dcgm-exporter", self._targets(), _up)
        answers, targets = await asyncio.gather(
            asyncio.gather(
                *(
                    self._api.ask(Question(signal.value, query, promql.matrix_series, grid), end)
                    for signal, query in queries.items()
                )
            ),
            self._api.ask(exporters, end),
        )
        asked = dict(zip(queries, answers, strict=True))
        found: dict[Signals, list[Series]] = {s: a for s, a in asked.items() if not isinstance(a, Missing)}
        up = [] if isinstance(targets, Missing) else targets
        gpus = gpu_windows(
            {
                signal: [GpuSeries(one.labels, _by_edge(one, edges, step)) for one in found.get(signal, ())]
                for signal in Signal
            },
            edges,
            labels=self._gpu_labels,
            exporters=exporters_of(up, {node.address: name for name, node in survey.nodes.items() if node.address}),
        )
        engines = engine_slots(
            {signal: self._engine_series(found.get(signal, ()), edges, step, survey) for signal in EngineSignal}
        )
        faults = tuple(a for a in (*asked.values(), targets) if isinstance(a, Missing))
        if faults and not found:
            # one dead server, not one fault for each question
            faults = faults[:1]
        if not gpus and not faults:
            text = f"{self._api.shown_url}: no DCGM series in the window; does it scrape dcgm-exporter?"
            faults = (Missing(Reason.NO_SERIES, text),)
        return Window(edges, gpus, engines, f"Prometheus {self._api.shown_url}", faults)

    async def close(self) -> None:
        await self._api.close()

    async def _interval(self, end: Instant) -> Seconds:
        """The median time between two samples of a GPU; 0 where that cannot be seen."""
        query = promql.raw([Signal.WATTS.value, Signal.ENERGY.value], INTERVAL_FROM, self._matchers)
        found = await self._api.ask(Question("samples of the last minutes", query, promql.matrix_series), end)
        gaps = [
            later - earlier
            for one in (() if isinstance(found, Missing) else found)
            for earlier, later in pairwise(sorted(one.values))
        ]
        return Seconds(median(gaps)) if gaps else Seconds(0)

    def _targets(self) -> str:
        return promql.targets_of([Signal.WATTS.value, Signal.ENERGY.value], self._matchers)

    def _queries(self, step: Seconds) -> dict[Signals, str]:
        """One query for each signal, whatever the number of GPUs, pods and days."""
        return {**self._gpu_queries(step), **self._engine_queries(step)}

    def _gpu_queries(self, step: Seconds) -> dict[Signals, str]:
        over = f"[{step:.0f}s]"
        energy = promql.selector(Signal.ENERGY.value, self._matchers)
        watts = promql.selector(Signal.WATTS.value, self._matchers)
        means: dict[Signals, str] = {
            signal: f"avg_over_time({promql.selector(signal.value, self._matchers)}{over})"
            for signal in (Signal.WATTS, Signal.ACTIVE, Signal.UTIL, Signal.SM, Signal.TENSOR, Signal.MEMORY)
        }
        return {
            Signal.ENERGY: f"last_over_time({energy}{over})",
            Signal.ENERGY_TIME: f"timestamp({energy})",
            Signal.PEAK: f"max_over_time({watts}{over})",
            Signal.SAMPLES: f"count_over_time({watts}{over})",
            **means,
        }

    def _engine_queries(self, step: Seconds) -> dict[Signals, str]:
        over = f"[{step:.0f}s]"
        labels = self._engine_labels
        by = f"by ({labels.namespace}, {labels.pod}, instance, engine, model_name)"

        def metric(signal: EngineSignal) -> str:
            return promql.selector(signal.value, self._matchers)

        reasons = f"max by ({labels.namespace}, {labels.pod}, instance, engine, model_name, finished_reason)"
        older = promql.selector("vllm:gpu_cache_usage_perc", self._matchers)
        looks = f"[{step:.0f}s:{max(1, int(step // LOOKS_PER_SLOT))}s]"
        running, waiting = metric(EngineSignal.RUNNING), metric(EngineSignal.WAITING)
        kv_usage = f"avg_over_time({metric(EngineSignal.KV_USAGE)}{over}) or avg_over_time({older}{over})"
        return {
            EngineSignal.REQUESTS: f"sum {by} ({reasons} (last_over_time({metric(EngineSignal.REQUESTS)}{over})))",
            EngineSignal.PROMPT: f"max {by} (last_over_time({metric(EngineSignal.PROMPT)}{over}))",
            EngineSignal.GENERATED: f"max {by} (last_over_time({metric(EngineSignal.GENERATED)}{over}))",
            EngineSignal.RUNNING: f"max {by} (avg_over_time({running}{over}))",
            EngineSignal.BUSY: f"max {by} (avg_over_time(({running} > bool 0){looks}))",
            EngineSignal.WAITING: f"max {by} (avg_over_time({waiting}{over}))",
            EngineSignal.KV_USAGE: f"max {by} ({kv_usage})",
        }

    def _engine_series(
        self, found: Sequence[Series], edges: Sequence[Instant], step: Seconds, survey: Survey
    ) -> list[EngineSeries]:
        at_address = {pod.address: pod.ref for pod in survey.pods.values() if pod.address}
        placed: list[EngineSeries] = []
        for one in found:
            labels = one.labels
            namespace, name = labels.get(self._engine_labels.namespace), labels.get(self._engine_labels.pod)
            address = dcgm.host_of(labels.get("instance", ""))
            pod = PodRef(namespace, name) if namespace and name else at_address.get(address)
            if pod is None:
                continue
            known = survey.pods.get(pod)
            fresh = known is not None and known.started >= edges[0]
            engine = (labels.get("engine", "0"), labels.get("model_name", ""))
            placed.append(EngineSeries(pod, engine, _by_edge(one, edges, step), fresh=fresh))
        return placed


def _up(result: Any) -> list[Sample]:
    return promql.vector_samples(result, "up")


def _by_edge(series: Series, edges: Sequence[Instant], step: Seconds) -> dict[int, float]:
    return {round((at - edges[0]) / step): value for at, value in series.values.items()}
