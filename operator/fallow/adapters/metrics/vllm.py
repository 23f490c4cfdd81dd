"""From vLLM's samples to engine readings: the one place that knows vLLM's metric names, old and new.

A pod may hold several engines (data-parallel ranks): they are summed, the fullest KV cache counts, and all must rest
for the pod to be asleep. The same engine scraped twice (two jobs, two Prometheus replicas) counts once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from fallow.adapters.metrics.samples import MetricSpec, Sample, checked
from fallow.domain.figures import Missing
from fallow.domain.readings import NOT_COUNTED, EngineReading, Histogram, Operations, PodRef, Queue
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant

_ENGINE = frozenset({"engine", "model_name"})

RUNNING = MetricSpec("vllm:num_requests_running", "gauge", _ENGINE)
WAITING = MetricSpec("vllm:num_requests_waiting", "gauge", _ENGINE)
KV_USAGE = MetricSpec("vllm:kv_cache_usage_perc", "gauge", _ENGINE, older=("vllm:gpu_cache_usage_perc",))
SLEEP = MetricSpec("vllm:engine_sleep_state", "gauge", _ENGINE | {"sleep_state"})
PROMPT_TOKENS = MetricSpec("vllm:prompt_tokens_total", "counter", _ENGINE)
GENERATED_TOKENS = MetricSpec("vllm:generation_tokens_total", "counter", _ENGINE)
FINISHED = MetricSpec("vllm:request_success_total", "counter", _ENGINE | {"finished_reason"})
# vLLM's finish reasons of a request that got no whole answer: its client left, or the engine failed
FAILED = frozenset({"abort", "error"})
CACHED_TOKENS = MetricSpec(
    "vllm:prompt_tokens_cached_total",
    "counter",
    _ENGINE,
    # Both count tokens found in the local cache; before external caches existed that was all of them.
    older=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
)
ITERATIONS = MetricSpec("vllm:iteration_tokens_total", "histogram", _ENGINE, suffix="_count")
# Of each GPU of an engine (pull requests 30738 and 30950). 0.32 shows them at zero where it runs without the flag.
FLOPS = MetricSpec("vllm:estimated_flops_per_gpu_total", "counter", _ENGINE)
READ_BYTES = MetricSpec("vllm:estimated_read_bytes_per_gpu_total", "counter", _ENGINE)
WRITTEN_BYTES = MetricSpec("vllm:estimated_write_bytes_per_gpu_total", "counter", _ENGINE)
TTFT = MetricSpec("vllm:time_to_first_token_seconds", "histogram", _ENGINE | {"le"}, suffix="_bucket")
# A request's mean. Single gaps, which older versions count alone, are long wherever another's prompt comes between.
ITL = MetricSpec(
    "vllm:request_time_per_output_token_seconds",
    "histogram",
    _ENGINE | {"le"},
    suffix="_bucket",
    older=("vllm:inter_token_latency_seconds_bucket", "vllm:time_per_output_token_seconds_bucket"),
)

LATENCIES = (TTFT, ITL)
READ_METRICS = (
    RUNNING,
    WAITING,
    KV_USAGE,
    SLEEP,
    PROMPT_TOKENS,
    GENERATED_TOKENS,
    FINISHED,
    CACHED_TOKENS,
    ITERATIONS,
    FLOPS,
    READ_BYTES,
    WRITTEN_BYTES,
    *LATENCIES,
)
STATE_NAMES = tuple(name for spec in READ_METRICS if spec not in LATENCIES for name in spec.names)
READ_NAMES = frozenset(name for spec in READ_METRICS for name in spec.names)

_KIND_LABELS = ("finished_reason", "sleep_state", "le")

# One engine's newest samples: by metric name, then by the label that splits the metric (a reason, a state, a bound).
_Series = Mapping[str, Mapping[str, Sample]]


@dataclass(frozen=True, slots=True)
class Engines:
    """Readings by pod. A pod in both read in part: the fault says which optional value is missing from its reading."""

    readings: Mapping[PodRef, EngineReading] = field(default_factory=dict)
    faults: Mapping[PodRef, Missing] = field(default_factory=dict)


def read_engines(samples: Iterable[tuple[PodRef, Sample]]) -> Engines:
    by_pod: defaultdict[PodRef, list[Sample]] = defaultdict(list)
    for pod, sample in samples:
        if sample.name in READ_NAMES:
            by_pod[pod].append(sample)
    readings: dict[PodRef, EngineReading] = {}
    faults: dict[PodRef, Missing] = {}
    for pod, found in by_pod.items():
        reading, fault = read_engine(found)
        if reading is not None:
            readings[pod] = reading
        if fault is not None:
            faults[pod] = fault
    return Engines(readings, faults)


def read_engine(samples: Iterable[Sample]) -> tuple[EngineReading | None, Missing | None]:
    """One pod's samples. No reading unless every engine reports its load and its counters, all of them numbers.

    Without any state of an engine there is neither: the source knows better where it looked.
    """
    engines = _by_engine(samples)
    if not engines:
        return None, None
    pod = _PodOfEngines(tuple(engines.values()))
    running, waiting = pod.total(RUNNING), pod.total(WAITING)
    prompt, generated, finished = pod.total(PROMPT_TOKENS), pod.total(GENERATED_TOKENS), pod.total(FINISHED)
    if (
        isinstance(running, Missing)
        or isinstance(waiting, Missing)
        or isinstance(prompt, Missing)
        or isinstance(generated, Missing)
        or isinstance(finished, Missing)
    ):
        return None, next(v for v in (running, waiting, prompt, generated, finished) if isinstance(v, Missing))
    reading = EngineReading(
        at=pod.oldest_gauge(),
        running=running,
        waiting=waiting,
        kv_usage=pod.optional(pod.highest(KV_USAGE)),
        prompt_tokens=prompt,
        generated_tokens=generated,
        requests=finished,
        cached_prompt_tokens=pod.optional(pod.total(CACHED_TOKENS)),
        iterations=pod.optional(pod.total(ITERATIONS)),
        asleep=pod.asleep(),
        model_name=min(model for _, model in engines),
        ttft=pod.histogram(TTFT),
        itl=pod.histogram(ITL),
        operations=pod.operations(),
        failed=pod.optional(pod.total(FINISHED, FAILED)),
    )
    return reading, pod.doubts[0] if pod.doubts else None


def in_work(samples: Iterable[Sample]) -> Queue | None:
    """What a pod's engines have to do; None where one of them does not tell."""
    engines = _by_engine(samples)
    pod = _PodOfEngines(tuple(engines.values()))
    running, waiting = pod.total(RUNNING), pod.total(WAITING)
    if not engines or isinstance(running, Missing) or isinstance(waiting, Missing):
        return None
    return Queue(running, waiting)


def _by_engine(samples: Iterable[Sample]) -> dict[tuple[str, str], _Series]:
    """Newest sample of each series by engine; an engine is known by its state, not by latencies alone."""
    engines: defaultdict[tuple[str, str], defaultdict[str, dict[str, Sample]]] = defaultdict(lambda: defaultdict(dict))
    for sample in samples:
        engine = (sample.labels.get("engine", "0"), sample.labels.get("model_name", ""))
        kind = next((sample.labels[label] for label in _KIND_LABELS if label in sample.labels), "")
        series = engines[engine][sample.name]
        known = series.get(kind)
        if known is None or sample.at > known.at:
            series[kind] = sample
    return {engine: series for engine, series in engines.items() if any(name in series for name in STATE_NAMES)}


class _PodOfEngines:
    """The engines of one pod; `doubts` collects why an optional value had to be left out."""

    def __init__(self, engines: Sequence[_Series]) -> None:
        self._engines = engines
        self.doubts: list[Missing] = []

    def total(self, spec: MetricSpec, kinds: Collection[str] = ()) -> float | Missing:
        """Of all kinds, or of these; a kind that was never counted is zero where others are."""
        values = self._values(spec, kinds)
        return values if isinstance(values, Missing) else sum(values)

    def highest(self, spec: MetricSpec) -> float | Missing:
        values = self._values(spec)
        return values if isinstance(values, Missing) else max(values)

    def optional(self, value: float | Missing) -> float | None:
        """None for what this version does not export; a value that came and was no number is also a doubt."""
        if not isinstance(value, Missing):
            return value
        if value.reason is not Reason.NO_SERIES:
            self.doubts.append(value)
        return None

    def operations(self) -> Operations | Missing:
        """Engines of a pod have as many GPUs each, so the mean over engines is the mean over GPUs."""
        parts = [self.total(spec) for spec in (FLOPS, READ_BYTES, WRITTEN_BYTES)]
        for part in parts:
            if isinstance(part, Missing):
                self.optional(part)
                return NOT_COUNTED if part.reason is Reason.NO_SERIES else part
        flops, read, written = (part / len(self._engines) for part in parts if not isinstance(part, Missing))
        return Operations(flops, read + written)

    def asleep(self) -> bool:
        states = [_pick(engine, SLEEP).get("awake") for engine in self._engines]
        if any(state is None for state in states):
            return False
        awake = [checked(state, highest=1) for state in states if state is not None]
        self.doubts.extend(value for value in awake if isinstance(value, Missing))
        return all(value == 0 for value in awake)

    def oldest_gauge(self) -> Instant:
        gauges = (RUNNING, WAITING, KV_USAGE, SLEEP)
        return min(sample.at for e in self._engines for spec in gauges for sample in _pick(e, spec).values())

    def histogram(self, spec: MetricSpec) -> Histogram | None:
        found = [self._buckets(engine, spec) for engine in self._engines]
        histograms = [histogram for histogram in found if histogram is not None]
        if len(histograms) != len(found) or len({histogram.bounds for histogram in histograms}) != 1:
            return None
        if len(histograms) == 1:
            return histograms[0]
        counts = [sum(column) for column in zip(*(h.counts for h in histograms), strict=True)]
        return Histogram(histograms[0].bounds, counts)

    def _buckets(self, engine: _Series, spec: MetricSpec) -> Histogram | None:
        by_bound: dict[float, float] = {}
        for bound, sample in _pick(engine, spec).items():
            count = checked(sample)
            if isinstance(count, Missing):
                self.doubts.append(count)
                return None
            try:
                by_bound[float(bound)] = count
            except ValueError:
                self.doubts.append(Missing(Reason.BAD_ANSWER, f'{sample.name} has le="{bound}"'))
                return None
        bounds = tuple(sorted(by_bound))
        if not bounds or bounds[-1] != math.inf:
            return None
        return Histogram(_same(bounds), [by_bound[bound] for bound in bounds])

    def _values(self, spec: MetricSpec, kinds: Collection[str] = ()) -> list[float] | Missing:
        """Each engine's value; a sum over only some engines would be too small, so one missing makes it Missing."""
        values: list[float] = []
        for engine in self._engines:
            series = _pick(engine, spec)
            if not series:
                return Missing(Reason.NO_SERIES, f"{spec.sample} is absent")
            if kinds and "" in series:
                return Missing(Reason.NO_SERIES, f"{spec.sample} does not tell of what kind")
            for kind, sample in series.items():
                if kinds and kind not in kinds:
                    continue
                value = checked(sample)
                if isinstance(value, Missing):
                    return value
                values.append(value)
        return values


@lru_cache(maxsize=64)
def _same(bounds: tuple[float, ...]) -> tuple[float, ...]:
    """The bounds of the first histogram that had these: there are few, and thousands of engines have them."""
    return bounds


def _pick(engine: _Series, spec: MetricSpec) -> Mapping[str, Sample]:
    return next((engine[name] for name in spec.names if name in engine), {})
