"""A metric source held in memory: tests say what the meters show and what fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fallow.domain.figures import Missing
from fallow.domain.readings import (
    Activity,
    ActivitySource,
    EnergyCounter,
    EngineReading,
    GpuReading,
    PodRef,
    Power,
    Readings,
    WaitingSeries,
)
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Joules, Watts
from fallow.ports import ReadScope

UNSTAMPED = Instant(0)


@dataclass
class FakeMetricSource:
    """Samples are as old as the read unless `stopped_at` says when the meters stopped.

    As with the real sources, a pod or node is read only where the scope asks for it, and only what was set exists.
    `past` is what `history` gives: the newest of it at each time; without any it keeps no past.
    """

    engines: dict[PodRef, EngineReading] = field(default_factory=dict)
    gpus: dict[str, GpuReading] = field(default_factory=dict)
    waiting: list[WaitingSeries] = field(default_factory=list)
    engine_fault: Missing | None = None
    gpu_fault: Missing | None = None
    waiting_fault: Missing | None = None
    pod_faults: dict[PodRef, Missing] = field(default_factory=dict)
    stopped_at: Instant | None = None
    past: list[Readings] = field(default_factory=list)
    at_once: int = 1000
    reads: list[tuple[Instant, ReadScope]] = field(default_factory=list)
    closed: bool = False

    @property
    def queries(self) -> int:
        return 3 if self.reads else 0

    def serve(self, pod: PodRef, **values: Any) -> None:
        """What a pod's engine shows; names are those of EngineReading, anything unsaid is an idle new engine."""
        idle: dict[str, Any] = {
            "at": UNSTAMPED,
            "running": 0.0,
            "waiting": 0.0,
            "kv_usage": 0.0,
            "prompt_tokens": 0.0,
            "generated_tokens": 0.0,
            "requests": 0.0,
            "model_name": "chat",
        }
        self.engines[pod] = EngineReading(**{**idle, **values})

    def run_gpu(
        self,
        uuid: str,
        *,
        node: str = "node-a",
        watts: float = 72.0,
        joules: float = 0.0,
        active: float = 0.0,
        holder: PodRef | None = None,
        model: str = "NVIDIA H100 80GB HBM3",
    ) -> None:
        self.gpus[uuid] = GpuReading(
            uuid=uuid,
            node=node,
            model_name=model,
            power=Power(Watts(watts), UNSTAMPED),
            counter=EnergyCounter(Joules(joules), UNSTAMPED),
            activity=Activity(active, ActivitySource.ENGINE_ACTIVE, UNSTAMPED),
            holder=holder,
        )

    def hold_requests(self, metric: str, labels: Mapping[str, str], value: float) -> None:
        self.waiting.append(WaitingSeries(metric, dict(labels), value, UNSTAMPED))

    def fail(self, reason: Reason = Reason.SOURCE_UNREACHABLE, detail: str = "connection refused") -> None:
        """All families at once, as when Prometheus is down."""
        self.engine_fault = self.gpu_fault = self.waiting_fault = Missing(reason, detail)

    def recover(self) -> None:
        self.engine_fault = self.gpu_fault = self.waiting_fault = None

    async def read(self, now: Instant, scope: ReadScope) -> Readings:
        self.reads.append((now, scope))
        at = now if self.stopped_at is None else self.stopped_at
        asked = {target.pod for target in scope.engines}
        engines = {} if self.engine_fault else {pod: self.engines[pod] for pod in asked & set(self.engines)}
        unread = {} if self.engine_fault else {pod: self.pod_faults[pod] for pod in asked & set(self.pod_faults)}
        gpus = {} if self.gpu_fault else {u: gpu for u, gpu in self.gpus.items() if gpu.node in scope.nodes}
        waiting = [] if self.waiting_fault else [w for w in self.waiting if w.metric in scope.waiting_metrics]
        unseen_nodes = sorted(set(scope.nodes) - {gpu.node for gpu in gpus.values()})
        no_gpus = Missing(Reason.NO_SERIES, f"no GPU series from {', '.join(unseen_nodes)}") if unseen_nodes else None
        no_engine = Missing(Reason.NO_SERIES, "no vLLM series")
        return Readings(
            at=now,
            engines={pod: replace(engine, at=at) for pod, engine in engines.items() if pod not in unread},
            gpus={uuid: _stamped(gpu, at) for uuid, gpu in gpus.items()},
            waiting=tuple(replace(series, at=at) for series in waiting),
            engine_fault=self.engine_fault,
            gpu_fault=self.gpu_fault or no_gpus,
            waiting_fault=self.waiting_fault if scope.waiting_metrics else None,
            pod_faults=unread if self.engine_fault else {**dict.fromkeys(asked - set(engines), no_engine), **unread},
        )

    async def history(self, times: Sequence[Instant], scope: ReadScope) -> Sequence[Readings] | Missing:  # noqa: ARG002
        if self.gpu_fault or not self.past:
            return self.gpu_fault or Missing(Reason.NO_HISTORY, "nothing was recorded")
        return [self._at(time) for time in times[: self.at_once]]

    def _at(self, time: Instant) -> Readings:
        """The newest readings recorded in the two minutes before, as a source's window gives them."""
        recorded = [one for one in self.past if time - 120 < one.at <= time]
        return replace(max(recorded, key=lambda one: one.at), at=time) if recorded else Readings(at=time)

    async def close(self) -> None:
        self.closed = True


def _stamped(gpu: GpuReading, at: Instant) -> GpuReading:
    """Missing fields stay missing."""
    power, counter, activity = gpu.power, gpu.counter, gpu.activity
    return replace(
        gpu,
        power=power if isinstance(power, Missing) else replace(power, at=at),
        counter=counter if isinstance(counter, Missing) else replace(counter, at=at),
        activity=activity if isinstance(activity, Missing) else replace(activity, at=at),
    )
