"""Reads all through a Prometheus HTTP API (also Thanos, Mimir, VictoriaMetrics) in at most seven queries a cycle.

The number of queries does not depend on the number of services. A query that fails leaves its own family without
readings and with a fault; the others stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fallow.adapters.metrics import dcgm, host, promql, vllm
from fallow.adapters.metrics.faults import listed
from fallow.adapters.metrics.prometheus_api import Access, PrometheusApi, Question
from fallow.adapters.metrics.samples import MetricSpec, Sample
from fallow.adapters.metrics.waiting import read_waiting
from fallow.domain.figures import Missing
from fallow.domain.readings import GpuReading, PodRef, Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.ports import ReadScope

QUERIES_AT_MOST = 7
_Samples = Question[list[Sample]]
_Answer = list[Sample] | Missing


@dataclass(frozen=True, slots=True)
class EngineLabels:
    """Labels that service discovery puts on a vLLM pod's series."""

    namespace: str = "namespace"
    pod: str = "pod"

    def __post_init__(self) -> None:
        promql.check_label_names((self.namespace, self.pod))


class PrometheusSource:
    """A `MetricSource`. One read at a time; the client's blocking calls run in threads of its own.

    `window` is how far back a sample may lie: at least four times the slowest of scrape and collect interval.
    `matchers` narrow every query, such as {"cluster": "west"} where one Prometheus knows many clusters.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: Seconds = Seconds(10),
        window: Seconds = Seconds(120),
        access: Access | None = None,
        matchers: Mapping[str, str] | None = None,
        engine_labels: EngineLabels | None = None,
        gpu_labels: dcgm.DcgmLabels | None = None,
    ) -> None:
        if timeout <= 0 or window <= 0:
            raise ValueError("the timeout and the window of Prometheus must be above zero seconds")
        promql.check_label_names(matchers or {})
        self._api = PrometheusApi(url, timeout=timeout, access=access, at_once=QUERIES_AT_MOST)
        self._shown_url = self._api.shown_url
        self._window = window
        self._timeout = timeout
        self._matchers = matchers or {}
        self._engine_labels = engine_labels or EngineLabels()
        self._gpu_labels = gpu_labels or dcgm.DcgmLabels()
        self._queries = 0

    @property
    def queries(self) -> int:
        return self._queries

    async def read(self, now: Instant, scope: ReadScope) -> Readings:
        waiting_names = {name for name in scope.waiting_metrics if name}
        questions = self._questions(waiting_names)
        self._queries = len(questions)
        state, ttft, itl, gpu, up, hosts, *waiting = await asyncio.gather(
            *(self._api.ask(question, now) for question in questions)
        )

        if isinstance(state, Missing):
            engines, unseen = vllm.Engines(), dict[PodRef, Missing]()
        else:
            engines, unseen = self._engines([*state, *_found(ttft, itl)], scope)
        gpus = self._gpus(_found(gpu), _found(up), scope)
        waiting_series, doubtful = read_waiting(_found(*waiting))
        return Readings(
            at=now,
            engines=engines.readings,
            gpus=gpus,
            waiting=waiting_series,
            hosts=host.read_hosts(_found(hosts), _by_address(scope)),
            engine_fault=_first_fault(state, ttft, itl),
            gpu_fault=_first_fault(gpu, up) or self._nodes_unseen(gpus, scope),
            waiting_fault=_first_fault(*waiting) or doubtful,
            host_fault=_first_fault(hosts),
            pod_faults={**unseen, **engines.faults},
        )

    async def history(self, times: Sequence[Instant], scope: ReadScope) -> Sequence[Readings] | Missing:
        """One read after the other, for at most the time that one query may take, so that a cycle stays short."""
        ends = asyncio.get_running_loop().time() + self._timeout
        found: list[Readings] = []
        for at in times:
            past = await self._past(at, scope)
            if isinstance(past, Missing):
                return found or past
            found.append(past)
            if asyncio.get_running_loop().time() > ends:
                break
        return found

    async def close(self) -> None:
        await self._api.close()

    async def _past(self, at: Instant, scope: ReadScope) -> Readings | Missing:
        questions = self._meters()
        state, gpu, up, hosts = await asyncio.gather(*(self._api.ask(question, at) for question in questions))
        if fault := _first_fault(state, gpu, up):
            return fault
        engines, _ = self._engines(_found(state), scope)
        return Readings(
            at=at,
            engines=engines.readings,
            gpus=self._gpus(_found(gpu), _found(up), scope),
            hosts=host.read_hosts(_found(hosts), _by_address(scope)),
        )

    def _questions(self, waiting_names: set[str]) -> list[_Samples]:
        state, gpus, targets, hosts = self._meters()
        questions = [
            state,
            self._latency_question("vLLM's time to first token", vllm.TTFT),
            self._latency_question("vLLM's inter-token latency", vllm.ITL),
            gpus,
            targets,
            hosts,
        ]
        if waiting_names:
            query = promql.raw(waiting_names, self._window, self._matchers)
            questions.append(Question("metrics of waiting requests", query, promql.newest_samples))
        return questions

    def _meters(self) -> tuple[_Samples, _Samples, _Samples, _Samples]:
        """What the books are kept from: engines, GPUs, the targets that tell exporters from workloads, and hosts."""
        window, matchers, gpu_names = self._window, self._matchers, dcgm.READ_NAMES
        return (
            Question("vLLM's load and counters", promql.raw(vllm.STATE_NAMES, window, matchers), promql.newest_samples),
            Question("DCGM's GPU series", promql.raw(gpu_names, window, matchers), promql.newest_samples),
            Question(
                "the targets of dcgm-exporter",
                promql.targets_of(gpu_names, matchers),
                lambda result: promql.vector_samples(result, "up"),
            ),
            Question("the nodes' host meters", promql.raw(host.READ_NAMES, window, matchers), promql.newest_samples),
        )

    def _latency_question(self, what: str, spec: MetricSpec) -> _Samples:
        labels = ("__name__", self._engine_labels.namespace, self._engine_labels.pod, "instance", *sorted(spec.labels))
        query = promql.highest_by(labels, spec.names, self._matchers)
        return Question(what, query, lambda result: promql.vector_samples(result, spec.sample))

    def _engines(self, samples: Iterable[Sample], scope: ReadScope) -> tuple[vllm.Engines, dict[PodRef, Missing]]:
        """Readings by pod, and why pods in scope have none."""
        at_address = {target.address: target.pod for target in scope.engines if target.address}
        placed: list[tuple[PodRef, Sample]] = []
        hint = "does Prometheus scrape this pod?"
        for sample in samples:
            pod = self._pod_of(sample, at_address)
            if pod is not None:
                placed.append((pod, sample))
            else:
                label = self._engine_labels.pod
                hint = f"some vLLM series carry no `{label}` label: add it by relabelling, or name the label they carry"
        engines = vllm.read_engines(placed)
        text = f"{self._shown_url}: no vLLM series in the last {self._window:g} s; {hint}"
        fault = Missing(Reason.NO_SERIES, text)
        return engines, {target.pod: fault for target in scope.engines if target.pod not in engines.readings}

    def _pod_of(self, sample: Sample, at_address: Mapping[str, PodRef]) -> PodRef | None:
        namespace = sample.labels.get(self._engine_labels.namespace)
        name = sample.labels.get(self._engine_labels.pod)
        if namespace and name:
            return PodRef(namespace, name)
        return at_address.get(dcgm.host_of(sample.labels.get("instance", "")))

    def _gpus(self, samples: Iterable[Sample], up: Iterable[Sample], scope: ReadScope) -> dict[str, GpuReading]:
        exporters = exporters_of(up, _by_address(scope))
        return dcgm.read_gpus(samples, labels=self._gpu_labels, exporters=exporters)

    def _nodes_unseen(self, gpus: Mapping[str, GpuReading], scope: ReadScope) -> Missing | None:
        unseen = sorted(set(scope.nodes) - {gpu.node for gpu in gpus.values()})
        if not unseen:
            return None
        text = f"no DCGM series in the last {self._window:g} s from {listed(unseen)}"
        return Missing(Reason.NO_SERIES, f"{self._shown_url}: {text}; does Prometheus scrape dcgm-exporter there?")


def exporters_of(up: Iterable[Sample], node_names: Mapping[str, str]) -> dcgm.Exporters:
    """The scraped exporters by the `up` series of their targets; `node_names` are by address."""
    targets = {
        (sample.labels.get("job", ""), sample.labels.get("instance", "")): _target_pod(sample.labels) for sample in up
    }
    return dcgm.Exporters(node_names=node_names, targets=targets)


def _by_address(scope: ReadScope) -> Mapping[str, str]:
    return {address: name for name, address in scope.nodes.items()}


def _found(*answers: _Answer) -> list[Sample]:
    return [sample for answer in answers if not isinstance(answer, Missing) for sample in answer]


def _first_fault(*answers: _Answer) -> Missing | None:
    return next((answer for answer in answers if isinstance(answer, Missing)), None)


def _target_pod(labels: Mapping[str, str]) -> PodRef | None:
    return PodRef(labels.get("namespace", ""), labels["pod"]) if labels.get("pod") else None
