"""Two hours of a cluster in seconds: what happens to it, what fails, and how often the operator is killed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import pi, sin
from random import Random

from fallow.adapters.cluster.ledger_codec import decode, encode
from fallow.app.bookkeeping import Bookkeeper
from fallow.app.catching_up import CatchUp
from fallow.domain.ledger import Account, Ledger, LineKey, LineKind
from fallow.domain.readings import EngineReading, PodRef, Readings
from fallow.domain.snapshots import ClusterView, Snapshot, Workload
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey
from fallow.domain.zones import ZoneReading
from fallow.ports import ReadScope
from fallow.twin.faults import DcgmFault
from fallow.twin.pods import PodPhase
from fallow.twin.rates import Piecewise
from fallow.twin.simulated import SimulatedPod
from fallow.twin.traffic import GeneratedTraffic, Lengths
from tests.accounting.source import Prometheus
from tests.accounting.stage import JSON, Stage, node
from tests.support.ledger import InMemoryLedgerStore
from tests.support.metered import NOON, zone

CYCLE = 15.0
HOURS = 2 * 3600.0
GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
MIG_1G, MIG_3G = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
STORED_EVERY, MISSED = Seconds(300), Seconds(60)
# All misfortune ends before the run does: what cannot be read yet is not booked yet.
LONGEST_OUTAGE = 1200.0


def nodes() -> list[JSON]:
    """Thirteen GPUs in two grid zones: eight whole, two in MIG instances, three in turns.

    Who shares turns-0 is told by dcgm-exporter, who shares turns-1 by the node agent alone, with each one's time.
    """
    told = {"twin.fallow.dev/virtual-gpus": "true", "twin.fallow.dev/nvidia-resource-names": SHARED}
    mig = {GPU: 0, MIG_3G: 2, MIG_1G: 8}
    return [
        node("whole-0", "10.1.0.1", {GPU: 4}, gpus=4, zone="north", agent=True),
        node("whole-1", "10.1.0.2", {GPU: 4}, gpus=4, zone="south"),
        node("mig-0", "10.1.0.3", mig, gpus=2, zone="north"),
        node("turns-0", "10.1.0.4", {SHARED: 8}, gpus=2, replicas=4, zone="south", annotations=told),
        node("turns-1", "10.1.0.5", {SHARED: 4}, gpus=1, replicas=4, zone="north", agent=True),
    ]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A service's variant: `replicas` by the minute of the run; load and pull times are drawn around these."""

    service: str
    variant: str
    resource: str
    gpus: int
    model: str
    rate: tuple[tuple[float, float], ...]
    replicas: Callable[[float], int]
    load: float = 60.0

    @property
    def name(self) -> str:
        return f"{self.service}-{self.variant}"

    @property
    def key(self) -> ServiceKey:
        return ServiceKey("llm", self.service)

    @property
    def workload(self) -> Workload:
        return Workload("llm", self.name, self.key, self.variant, replicas=1, ready=1, generation=1)


def waves(low: int, high: int, minutes: float) -> Callable[[float], int]:
    return lambda minute: round(low + (high - low) * (0.5 - 0.5 * sin(2 * pi * minute / minutes)))


DEPLOYMENTS = (
    Deployment("chat", "bf16", GPU, 1, "org/Chat-8B", ((0, 1.5), (3000, 3), (5000, 0), (6000, 2)), waves(1, 3, 37)),
    Deployment("code", "bf16", GPU, 4, "org/Code-70B", ((0, 0.3),), waves(0, 1, 53), load=150.0),
    Deployment("tiny", "awq", MIG_1G, 1, "org/Tiny-8B-AWQ", ((0, 0.5), (4000, 0), (4600, 1)), waves(1, 4, 29)),
    Deployment("mid", "fp8", MIG_3G, 1, "org/Mid-8B-FP8", ((0, 0.7),), waves(1, 2, 41)),
    Deployment("draft", "int4", SHARED, 1, "org/Draft-8B-AWQ", ((0, 0.6), (3600, 0.1)), waves(2, 5, 31)),
)
# Pods of others: name, what they ask for, what they do, and how long they stay, in seconds.
VISITORS = (
    ("train", GPU, "training", (400, 1500)),
    ("notebook", GPU, "notebook", (900, 3000)),
    ("spin", GPU, "spin", (60, 600)),
    ("blink", GPU, "training", (3, 14)),
    ("lab", SHARED, "notebook", (600, 2400)),
    ("batch", SHARED, "training", (120, 900)),
    ("probe", MIG_1G, "training", (30, 700)),
    ("demo", GPU, "half-filled", (600, 1200)),
)


class CodedStore(InMemoryLedgerStore):
    """What is loaded has been bytes, as in a ConfigMap."""

    async def load(self) -> Ledger | None:
        stored = await super().load()
        return None if stored is None else replace(decode(encode(stored)), version=stored.version)


@dataclass
class Operator:
    """A bookkeeper that may be killed: what it remembers is lost, what it stored is not."""

    source: Prometheus
    store: CodedStore = field(default_factory=CodedStore)
    kills: int = 0
    back_at: float = 0.0
    _keeper: Bookkeeper | None = None

    async def cycle(self, snapshot: Snapshot) -> None:
        if snapshot.at < self.back_at:
            return
        if self._keeper is None:
            self._keeper = Bookkeeper(self.store, STORED_EVERY, CatchUp(self.source, MISSED))
        await self._keeper.book(snapshot)

    def kill(self, *, until: float) -> None:
        self._keeper, self.back_at = None, until
        self.kills += 1

    @property
    def ledger(self) -> Ledger:
        assert self._keeper is not None
        assert self._keeper.ledger is not None
        return self._keeper.ledger


@dataclass
class Run:
    """`calm` leaves out every fault; pods come and go as ever. `steady` is an operator that is never killed."""

    seed: int
    seconds: float = HOURS
    sample_seconds: float = 1.0
    calm: bool = False
    happened: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.stage = Stage(nodes(), started=NOON, sample_seconds=self.sample_seconds, slice_seconds=2.5)
        self.zones: Mapping[str, ZoneReading] = {name: zone(name, region=name) for name in ("north", "south")}
        self.source = Prometheus(self._scrape)
        self.operator, self.steady = Operator(self.source), Operator(self.source)
        self.seen: dict[str, tuple[LineKey, EngineReading]] = {}
        self._order = count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []

    async def live(self) -> None:
        self._plan()
        for cycle in range(int(self.seconds / CYCLE) + 1):
            self._advance(NOON + cycle * CYCLE)
            self.source.scrape(Instant(self.stage.now))
            snapshot = await self.look()
            await self.operator.cycle(snapshot)
            if not self.calm:
                await self.steady.cycle(snapshot)

    async def look(self) -> Snapshot:
        now = Instant(self.stage.now)
        readings = await self.source.read(now, ReadScope())
        return Snapshot(at=now, cluster=self._view(), readings=readings, zones=self.zones)

    def readable(self) -> dict[LineKey, Truth]:
        """What the last scrape of each engine told: more of it than this nobody can book."""
        lines: dict[LineKey, Truth] = {}
        for line, reading in self.seen.values():
            known = lines.setdefault(line, Truth())
            known.prompt_tokens += reading.prompt_tokens
            known.generated_tokens += reading.generated_tokens
        return lines

    def _scrape(self) -> Readings:
        readings, view = self.stage.scrape(), self._view()
        for ref, reading in readings.engines.items():
            pod = view.pods[ref]
            if pod.service is not None:
                zone_name = view.nodes[pod.node].labels["region"]
                line = LineKey(LineKind.SERVICE, ref.namespace, pod.service.name, pod.variant or "", zone_name)
                self.seen[pod.uid] = (line, reading)
        return readings

    def _view(self) -> ClusterView:
        return self.stage.view(tuple(deployment.workload for deployment in DEPLOYMENTS))

    def _advance(self, until: float) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            at, _, act = heappop(self._agenda)
            self.stage.world.advance(max(at, self.stage.now))
            act()
        self.stage.world.advance(until)

    def _at(self, at: float, act: Callable[[], None]) -> None:
        heappush(self._agenda, (at, next(self._order), act))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(self.stage.now + seconds, act)

    def _note(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1

    def _plan(self) -> None:
        for number, deployment in enumerate(DEPLOYMENTS):
            rate = Piecewise(deployment.rate, held=True)
            traffic = GeneratedTraffic(rate, Lengths(400), Lengths(200), seed=self.seed * 100 + number)
            self.stage.world.set_traffic(deployment.key, traffic)
            self._steer(deployment)
        for visitor in VISITORS:
            self._later(self.random.uniform(0, 900), partial(self._visit, *visitor))
        if not self.calm:
            for act, times in self._misfortunes():
                for _ in range(times):
                    self._later(self.random.uniform(CYCLE, self.seconds - 1.1 * LONGEST_OUTAGE), act)

    def _steer(self, deployment: Deployment) -> None:
        """Once a minute, as many pods as the hour asks for."""
        have = self.stage.pods(deployment.name)
        want = deployment.replicas((self.stage.now - NOON) / 60.0)
        if len(have) < want:
            self._scale_up(deployment)
        elif len(have) > want:
            self._leave(have[0], 45.0)
        self._later(60.0, lambda: self._steer(deployment))

    def _scale_up(self, deployment: Deployment) -> None:
        nodes_with_room = self.stage.nodes_with(deployment.resource, deployment.gpus)
        if not nodes_with_room:
            return
        where = self.random.choice(nodes_with_room)
        labels = {
            "app.kubernetes.io/managed-by": "fallow",
            "fallow.dev/service": deployment.service,
            "fallow.dev/variant": deployment.variant,
        }
        args = ["--model", deployment.model, "--served-model-name", deployment.service]
        ref = self.stage.create(
            "llm", deployment.name, where, deployment.resource, deployment.gpus, labels=labels, args=args
        )
        self._begin(ref, load=self.random.uniform(0.5, 1.5) * deployment.load)

    def _begin(self, ref: PodRef, *, load: float) -> None:
        pull = self.random.uniform(2, 25)
        self._later(pull, lambda: self._if_there(ref, self.stage.start))
        self._later(pull + load, lambda: self._if_there(ref, self.stage.ready))

    def _if_there(self, ref: PodRef, act: Callable[[PodRef], None]) -> None:
        pod = self.stage.world.fleet.pods.get(ref)
        if pod is not None and pod.facts.phase is not PodPhase.DRAINING:
            act(ref)

    def _leave(self, ref: PodRef, drain: float) -> None:
        self.stage.delete(ref)
        self._note("pods gone")
        self._later(drain, lambda: self.stage.remove(ref))

    def _visit(self, name: str, resource: str, behaviour: str, stay: tuple[float, float]) -> None:
        nodes_with_room = self.stage.nodes_with(resource, 1)
        if nodes_with_room:
            annotations = {"twin.fallow.dev/behaviour": behaviour}
            where = self.random.choice(nodes_with_room)
            ref = self.stage.create("lab", name, where, resource, 1, annotations=annotations)
            self.stage.start(ref)
            self.stage.ready(ref)
            self._later(self.random.uniform(*stay), lambda: self._leave(ref, 1.0))
        pause = self.random.uniform(*stay) + self.random.uniform(30, 1200)
        self._later(pause, lambda: self._visit(name, resource, behaviour, stay))

    def _misfortunes(self) -> Iterator[tuple[Callable[[], None], int]]:
        yield self._kill, 8
        yield self._lose_prometheus, 1
        yield self._cut_off, 1
        yield self._reset_gpu, 3
        yield self._reset_node, 1
        yield lambda: self._fail(DcgmFault.NO_POD_LABELS, 300, 900), 4
        yield lambda: self._fail(DcgmFault.NAN, 60, 300), 3
        yield lambda: self._fail(DcgmFault.FROZEN, 60, 300), 2
        yield lambda: self._fail(DcgmFault.DOWN, 60, 400), 2
        yield lambda: self._fail(DcgmFault.NO_PROFILING, 200, 600), 2

    def _kill(self) -> None:
        self._note("operator kills")
        self.operator.kill(until=self.stage.now + self.random.choice((0, 0, 30, 90, 240)))

    def _lose_prometheus(self) -> None:
        self._note("times Prometheus was down")
        self.source.down_until = self.stage.now + self.random.uniform(LONGEST_OUTAGE / 4, LONGEST_OUTAGE)

    def _cut_off(self) -> None:
        self._note("times Prometheus could not be asked")
        self.source.mute_until = self.stage.now + self.random.uniform(LONGEST_OUTAGE / 4, LONGEST_OUTAGE)

    def _reset_gpu(self) -> None:
        self._note("counters reset")
        self.stage.world.reset("gpu", self.random.choice([gpu.uuid for gpu in self.stage.world.fleet.gpus()]))

    def _reset_node(self) -> None:
        name = self.random.choice(list(self.stage.world.fleet.nodes))
        self._note("drivers reloaded")
        self.stage.world.reset("node", name)

    def _fail(self, fault: DcgmFault, shortest: float, longest: float) -> None:
        name = self.random.choice(list(self.stage.world.fleet.nodes))
        self._note(f"exporter {fault}")
        self.stage.faults.set({"dcgm": {"node": name, "mode": fault.value}})
        clear = {"dcgm": {"node": name, "mode": "none"}}
        self._later(self.random.uniform(shortest, longest), lambda: self.stage.faults.set(clear))


@dataclass(slots=True)
class Truth:
    """What the physics did on one line since the start."""

    joules: float = 0.0
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0


def truth(run: Run) -> dict[LineKey, Truth]:
    """By line: of a service's pods, of a namespace's other pods, and of what nobody held, each with its zone."""
    fleet = run.stage.world.fleet
    zone_of = {body["metadata"]["name"]: body["metadata"]["labels"]["region"] for body in nodes()}
    lines: dict[LineKey, Truth] = {}
    nobody = {name: sum(gpu.joules for gpu in fleet.gpus_of(name)) for name in fleet.nodes}
    for pod in (*fleet.gone, *map(SimulatedPod.account, fleet.pods.values())):
        service, where = pod.service, pod.node
        if service is None:
            line = LineKey(LineKind.FOREIGN, pod.ref.namespace, zone=zone_of[where])
        else:
            line = LineKey(LineKind.SERVICE, service.namespace, service.name, pod.variant, zone_of[where])
        known = lines.setdefault(line, Truth())
        known.joules += pod.energy.total
        nobody[where] -= pod.energy.total
        if service is not None:
            known.prompt_tokens += pod.served.prompt_tokens
            known.generated_tokens += pod.served.generated_tokens
    for name, joules in nobody.items():
        lines.setdefault(LineKey(LineKind.UNALLOCATED, zone=zone_of[name]), Truth()).joules += joules
    return lines


def booked(ledger: Ledger) -> dict[LineKey, Account]:
    return {line: book.total.account for line, book in ledger.books.items()}
