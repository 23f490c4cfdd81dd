"""What the world must offer. Adapters and the twin implement these; the cycle knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.figures import Missing
from fallow.domain.ledger import Ledger
from fallow.domain.plans import Change, GpuLimits, Outcome
from fallow.domain.readings import PodRef, Queues, Readings
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import ClusterView
from fallow.domain.tenure import Tenure
from fallow.domain.units import Instant
from fallow.domain.zones import Forecast, Intensity, IntensitySource, Ratio


@dataclass(frozen=True, slots=True)
class EngineTarget:
    pod: PodRef
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class ReadScope:
    """Whom to ask: engines by pod, GPU exporters by node address, names of metrics of waiting requests."""

    engines: tuple[EngineTarget, ...] = ()
    nodes: Mapping[str, str] = field(default_factory=dict)
    waiting_metrics: frozenset[str] = frozenset()


class MetricSource(Protocol):
    """Never raises: what cannot be read is absent from the readings and named in their faults."""

    async def read(self, now: Instant, scope: ReadScope) -> Readings: ...

    async def history(self, times: Sequence[Instant], scope: ReadScope) -> Sequence[Readings] | Missing:
        """What GPUs, hosts and engines showed at past times, for the books: without latencies and waiting requests.

        In the order of the times and as many of them, from the first on, as a short while allows; a time of which the
        source has nothing gives empty readings. Missing: none could be read, or the source keeps no past (NoHistory).
        """
        ...

    @property
    def queries(self) -> int:
        """Requests sent by the last read."""
        ...

    async def close(self) -> None: ...


class QueueSource(Protocol):
    """Looks between two cycles, straight at engines and gateways. Never raises: what does not answer is left out."""

    async def queues(self, now: Instant, engines: Sequence[EngineTarget], waiting: frozenset[str]) -> Queues:
        """Requests that run and wait in engines, and the series of these metrics of waiting requests."""
        ...

    async def close(self) -> None: ...


class CarbonSource(Protocol):
    """Never raises: without an answer it is `Missing` with the reason.

    `forecast` is `Missing` with the reason NoForecast where the source has none to give.
    """

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing: ...

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing: ...


class PueSource(Protocol):
    """Reads a facility's measured PUE. Never raises: without an answer it is `Missing` with the reason."""

    async def pue(self, now: Instant, query: str) -> Ratio | Missing: ...


class Cluster(Protocol):
    """Reads come from watches; each write is sent only where it makes a difference.

    `apply` never raises for a failed write: the outcome carries the error; nor does `limit`, which gives the errors.
    """

    def view(self) -> ClusterView: ...

    async def apply(self, change: Change) -> Outcome: ...

    async def limit(self, limits: Mapping[str, Mapping[str, GpuLimits]], now: Instant) -> tuple[str, ...]:
        """By node and GPU; a node's other GPUs are limited no more, other nodes stay as they are."""
        ...

    async def hand_back(self, scaler: Autoscaler) -> str:
        """Give an autoscaler the minimum that its owner declared; the error, empty where it is done."""
        ...


class LedgerStore(Protocol):
    """`load` gives None when nothing was ever stored.

    Both raise `WriteError`s; `save` raises Conflict where another writer was first.
    """

    async def load(self) -> Ledger | None: ...

    async def save(self, ledger: Ledger) -> Ledger: ...


class Lease(Protocol):
    """The claim to lead. `read` gives None where nobody ever claimed it.

    Both raise `WriteError`s; `write` raises Conflict where another replica was first.
    """

    async def read(self) -> Tenure | None: ...

    async def write(self, tenure: Tenure) -> Tenure: ...


class Reporter(Protocol):
    """A reporter that cannot deliver logs it and is asked again next cycle; it never stops the cycle."""

    async def report(self, report: CycleReport) -> None: ...
