"""A small plant for cycle tests: a clock that stands still, pods that follow their Deployments, and their meters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fallow.app.bookkeeping import Bookkeeper
from fallow.app.cycle import Cycle, Sources
from fallow.domain.errors import WriteError
from fallow.domain.plans import Change, ClearRequest, Outcome, RunVariant, ShieldPod
from fallow.domain.policies import Policy
from fallow.domain.readings import Readings
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import ClusterView, Pod
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Service, ServiceKey
from fallow.domain.zones import IntensitySource, Zone
from fallow.ports import CarbonSource, ReadScope, Reporter
from tests.support.builders import CHAT, CYCLE, NOW, WAITING, node, pod
from tests.support.carbon import InMemoryCarbonSource
from tests.support.cluster import FakeCluster
from tests.support.ledger import InMemoryLedgerStore
from tests.support.metrics import FakeMetricSource


class Clock:
    """Stands still until told."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class StatusWriter:
    """Puts memories where a restarted operator finds them, as the status of a real object does."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    async def report(self, report: CycleReport) -> None:
        told = {key: plan.memory for key, plan in report.plan.services.items()}
        self._cluster.show(replace(self._cluster.view(), memories=told))


class MeddledMetrics(FakeMetricSource):
    """Lets something happen in the middle of a cycle, after the cluster was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None

    async def read(self, now: Instant, scope: ReadScope) -> Readings:
        self.meanwhile()
        self.meanwhile = lambda: None
        return await super().read(now, scope)


class PickyCluster(FakeCluster):
    """A cluster that refuses one kind of change, where told to."""

    refuses: type[RunVariant | ClearRequest | ShieldPod] | None = None

    async def apply(self, change: Change) -> Outcome:
        if self.refuses is not None and isinstance(change, self.refuses):
            return Outcome(change, wrote=False, error="refused by an admission webhook")
        return await super().apply(change)


class Plant:
    """Pods become ready when the test says `settle`; engines share the load that the test gives them."""

    def __init__(
        self,
        service: Service,
        policy: Policy | None,
        *,
        grams: float = 200.0,
        grid: tuple[IntensitySource, CarbonSource] | None = None,
    ) -> None:
        question = grid[0] if grid else IntensitySource("Static", {"grams": grams})
        zone = Zone("north", question, is_default=True)
        self.cluster = PickyCluster(
            ClusterView(
                nodes={"node-a": node()},
                services={service.key: service},
                policies=(policy,) if policy else (),
                zones=(zone,),
            )
        )
        self.clock = Clock()
        self.metrics = MeddledMetrics()
        self.carbon = InMemoryCarbonSource(grams)
        self.grid: CarbonSource = grid[1] if grid else self.carbon
        self.store = InMemoryLedgerStore()
        self.running = 0.0
        self.starts: frozenset[str] = frozenset({"bf16", "fp8"})
        self._done = 0.0
        self._born: dict[str, Instant] = {}
        self.cycle = self.started()

    def started(self, reporters: Sequence[Reporter] = ()) -> Cycle:
        """A freshly started operator on this plant."""
        sources = Sources(self.cluster, self.metrics, self.grid)
        books = Bookkeeper(self.store, Seconds(300))
        writers = (*reporters, StatusWriter(self.cluster))
        return Cycle(sources, books, writers, window=Seconds(120), clock=self.clock)

    @property
    def replicas(self) -> dict[str, int]:
        return {workload.variant: workload.replicas for workload in self.cluster.view().workloads}

    @property
    def service(self) -> Service:
        return self.cluster.view().services[CHAT]

    def declare(self, service: Service) -> None:
        """The owner writes the object again."""
        changed = replace(service, generation=self.service.generation + 1)
        self.cluster.show(replace(self.cluster.view(), services={service.key: changed}))

    def settle(self) -> None:
        """Pods follow their Deployments, meters the load; a variant that is not among `starts` never gets ready."""
        view = self.cluster.view()
        pods = [one for load in view.workloads for one in self._pods_of(load.variant, load.replicas, load.service)]
        self.cluster.show(replace(view, pods={one.ref: one for one in pods}))
        ready = [one for one in pods if one.ready]
        self._done += self.running
        self.metrics.engines.clear()
        self.metrics.gpus.clear()
        for one in ready:
            share = self.running / len(ready)
            work = self._done / len(ready)
            self.metrics.serve(one.ref, running=share, generated_tokens=work * 100, requests=work)
        for one in pods:
            busy = one.ready and self.running > 0
            self.metrics.run_gpu(
                f"GPU-{one.ref.name}", holder=one.ref, watts=500 if busy else 122, active=0.9 if busy else 0.0
            )

    def hold_requests(self, count: float) -> None:
        self.metrics.waiting.clear()
        self.metrics.hold_requests(WAITING, {"service": "chat"}, count)

    async def pass_time(self, cycles: int = 1) -> CycleReport:
        """Each cycle sees what the cluster made of the one before."""
        for _ in range(cycles):
            self.settle()
            self.clock.now += CYCLE
            report = await self.cycle.run()
        return report

    def _pods_of(self, variant: str, replicas: int, key: ServiceKey) -> list[Pod]:
        names, ready = [f"{variant}-{index}" for index in range(replicas)], variant in self.starts
        born = {name: self._born.setdefault(name, Instant(self.clock.now)) for name in names}
        return [pod(name, variant, key=key, ready=ready, created=born[name], started=None) for name in names]


class FailingReporter:
    async def report(self, report: CycleReport) -> None:
        raise WriteError(f"cannot tell about {report.snapshot.at}")


class Listener:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[CycleReport] = []

    async def report(self, report: CycleReport) -> None:
        self.heard.append(report)
