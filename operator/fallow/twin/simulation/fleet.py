"""Pods over time: who holds which GPUs of the `machines`, what starts, drains, sleeps and fails.

Pods go to the fullest node with room, as a scheduler that packs does; without room they wait, and a node that is off is
booted for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from itertools import count
from math import exp, inf

import numpy as np

from fallow.domain.readings import PodRef
from fallow.twin.simulation.aftermath import JOULES
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.engines import Engines
from fallow.twin.simulation.machines import Machines, Node
from fallow.twin.simulation.pools import Pools
from fallow.twin.simulation.setup import Setup
from fallow.twin.simulation.sharers import Sharers
from fallow.twin.simulation.sight import IntArray
from fallow.twin.simulation.table import EngineTable
from fallow.twin.simulation.turns import Engine, turns_of


class Life(StrEnum):
    WAITING = "waiting"
    PULLING = "pulling"
    LOADING = "loading"
    READY = "ready"
    HUNG = "hung"
    SLEEPING = "sleeping"
    WAKING = "waking"
    DRAINING = "draining"
    GONE = "gone"


# A pod holds its GPUs and no engine works on them.
HOLDS = frozenset({Life.PULLING, Life.LOADING, Life.HUNG, Life.SLEEPING, Life.WAKING})
# Of these it has an engine in sleep mode.
ASLEEP = frozenset({Life.SLEEPING, Life.WAKING})


@dataclass(slots=True, eq=False)
class Pod:
    """A replica. `pool` is known once it has a node. While an engine runs `column` tells which, and `counted` what its
    counters showed at the beginning; `joules` are of everything before. While it is asleep `counted` is what it had
    counted itself, `resting` the W that it draws and `wakes_in` the seconds that it takes to wake.
    """

    number: int
    ref: PodRef
    service: int
    variant: int
    created: float
    life: Life = Life.WAITING
    node: Node | None = None
    gpus: tuple[int, ...] = ()
    pool: int = -1
    since: float = 0.0
    started: float | None = None
    ready_at: float | None = None
    deleting_at: float | None = None
    joules: float = 0.0
    column: int = -1
    counted: Array = field(default_factory=lambda: np.zeros(0))
    resting: float = 0.0
    wakes_in: float = 0.0

    @property
    def has_context(self) -> bool:
        """On its GPUs, from when its container runs."""
        return self.life not in {Life.WAITING, Life.PULLING}


@dataclass(slots=True)
class Sums:
    """By pool joules before pods were ready and while they were asleep; by service starts, and wakes from sleep."""

    pulling: Array
    loading: Array
    asleep: Array
    starts: IntArray
    wakes: IntArray


class Fleet:
    """Moved by `settle`: what is due happens at its time. `next_at` says when that is."""

    def __init__(self, setup: Setup, engines: Engines, *, seed: int) -> None:
        self.setup = setup
        self.engines = engines
        self.pools = Pools(setup, engines)
        self.places = self.pools.places
        services = len(setup.services)
        self.asked: list[list[int]] = [[0] * len(one.variants) for one in setup.services]
        self.pods: dict[tuple[int, int], list[Pod]] = {
            (service, variant): [] for service, one in enumerate(setup.services) for variant in range(len(one.variants))
        }
        joules, counts = np.zeros(len(self.places)), np.zeros(services, dtype=np.int64)
        self.sums = Sums(joules, joules.copy(), joules.copy(), counts, counts.copy())
        # by service: replicas that sleep or wake, and when the last one became ready
        self.asleep = np.zeros(services, dtype=np.int64)
        self.ready_since = np.zeros(services)
        # pods with a node, by pool
        self.placed = np.zeros(len(self.places))
        self._generator = np.random.default_rng(np.random.SeedSequence([seed, 7]))
        self._due: list[tuple[float, int, str, Pod | Node]] = []
        self._order = count()
        self._numbers = count()
        self._waiting: list[Pod] = []
        self.machines = Machines(setup, self._later)
        self.sharers = Sharers()
        self.nodes = self.machines.nodes

    @property
    def next_at(self) -> float:
        return self._due[0][0] if self._due else inf

    @property
    def asked_of_reference(self) -> IntArray:
        return np.array([asked[0] for asked in self.asked])

    def all_pods(self) -> Iterable[Pod]:
        for pods in self.pods.values():
            yield from pods

    def begin(self) -> None:
        """The replicas that are ready when the run begins."""
        for service, one in enumerate(self.setup.services):
            self.asked[service][0] = one.start_replicas
            for _ in range(one.start_replicas):
                pod = self._create(service, 0, 0.0)
                if pod.node is not None:
                    self._start_done(pod, 0.0)

    def ask(
        self, service: int, variant: int, replicas: int, now: float, leaving: Collection[PodRef] = frozenset()
    ) -> None:
        """From now on so many replicas are asked for. First go those that are furthest from ready, then those that are
        `leaving`, then the youngest.
        """
        self.asked[service][variant] = replicas
        alive = [pod for pod in self.pods[service, variant] if pod.deleting_at is None]
        for _ in range(replicas - len(alive)):
            self._create(service, variant, now)
        if replicas < len(alive):
            order = sorted(
                alive,
                key=lambda pod: (
                    pod.life is Life.READY, pod.ref not in leaving, -(pod.ready_at or 0.0), -pod.number
                ),
            )  # fmt: skip
            for pod in order[: len(alive) - replicas]:
                self._delete(pod, now)

    def throttle(self, service: int, variant: int, *, on: bool) -> bool:
        """Whether the clocks of a variant's engines fall while they have nothing to do; False where that is so already.

        Those that run are replaced at once: what is left out is that it takes minutes, what is booked are their starts.
        """
        changed = self.pools.throttle(service, variant, on=on)
        if changed:
            self._replace(service, variant)
        return changed

    def limit_steps(self, service: int, variant: int, tokens: int | None) -> bool:
        """How many tokens a step of a variant's engines has at most, None for those of its table; replaced as above."""
        changed = self.pools.limit_steps(service, variant, tokens)
        if changed:
            self._replace(service, variant)
        return changed

    def _replace(self, service: int, variant: int) -> None:
        """What a rolling update takes: one start of each replica that serves or sleeps."""
        start = self.setup.services[service].variants[variant].start
        for pod in self.pods[service, variant]:
            if pod.life is Life.READY or pod.life in ASLEEP:
                joules = self._table(pod).loading * start.load
                if pod.life is Life.READY:
                    self._note_work(pod)
                    self._mark(pod, pod.pool)
                pod.joules += joules
                self.sums.loading[pod.pool] += joules
                self.sums.starts[service] += 1

    def limit(self, pool: int, watts: float | None) -> None:
        """The power limit of the GPUs of all replicas of a pool, also of those to come; None for none."""
        self.pools.limit(pool, watts)

    def clock(self, pool: int, share: float | None) -> None:
        """Their clock as a share of the highest; None for that."""
        self.pools.clock(pool, share)

    def cordon(self, node: Node, since: float | None, now: float) -> None:
        """It takes no pods any more, or does again."""
        node.emptying = since
        if since is None:
            self._place_waiting(now)

    def settle(self, now: float) -> None:
        """Everything that is due happens now: engines have moved up to now, and no joule falls between two times."""
        while self._due and self._due[0][0] <= now + 1e-9:
            _, _, what, subject = heappop(self._due)
            if isinstance(subject, Pod):
                self._pod_due(what, subject, now)
            else:
                self._node_due(what, subject, now)

    def lose(self, node: Node, now: float, *, back: float | None = None) -> None:
        """The node is gone, with its pods and their requests; other pods are made instead. It comes `back` anew after
        so many seconds, None for never.
        """
        self.machines.lose(node, now, back)
        for pod in [pod for pod in self.all_pods() if pod.node is node]:
            self._fail(pod, now)
        self.machines.see_free(now)

    def crash(self, pod: Pod, now: float) -> None:
        """Its engine dies and its container loads again."""
        if pod.life is Life.READY:
            self.engines.lost(pod.pool)
            self._note_work(pod)
            self._load(pod, now)

    def hang(self, pod: Pod, now: float, *, back: float | None) -> None:
        """Its engine answers nothing, keeps its context and its memory, and goes on after so many seconds."""
        if pod.life is Life.READY:
            self.engines.lost(pod.pool)
            self._note_work(pod)
            pod.life, pod.since, pod.ready_at = Life.HUNG, now, None
            if back is not None:
                self._later(now + back, "recovered", pod)

    def sleep(self, pod: Pod, level: int, now: float) -> None:
        """A ready one without work. It keeps its GPUs and its context, and draws what it did: no measurement says that
        sleep lowers it.
        """
        table = self._table(pod)
        self.engines.rest(pod.pool)
        counted = self.engines.after.counters[pod.column] - pod.counted
        self._note_work(pod)
        counted[JOULES] = 0.0
        pod.counted = counted
        pod.resting = table.bare if (pod.service, pod.variant) in self.pools.throttled else table.context
        pod.life, pod.since, pod.wakes_in = Life.SLEEPING, now, table.wake[level - 1]
        self.asleep[pod.service] += 1

    def wake(self, pod: Pod, now: float) -> float:
        """A sleeping one begins to; gives when it can be made `awaken`."""
        self._spend(pod, now)
        pod.life = Life.WAKING
        self.sums.wakes[pod.service] += 1
        return now + pod.wakes_in

    def awaken(self, pod: Pod, now: float) -> None:
        """One that still wakes serves again, and goes on counting."""
        if pod.life is Life.WAKING:
            self._spend(pod, now)
            pod.life, pod.since = Life.READY, now
            self.asleep[pod.service] -= 1
            self.engines.join(pod.pool)
            counted = pod.counted
            self._mark(pod, pod.pool)
            pod.counted -= counted

    def fail_gpu(self, pod: Pod, now: float, *, back: float | None) -> None:
        """The first of its GPUs, or the board of its instance, fails with all who are on it; others are made anew."""
        node = pod.node
        if node is None:
            return
        failed = self.machines.breaks(node, pod.gpus[0], now, back)
        for one in [one for one in self.all_pods() if one.node is node and not failed.isdisjoint(one.gpus)]:
            self._fail(one, now)

    def watts_before_ready(self, pod: Pod) -> float:
        """Of a pod in which no engine works."""
        table = self._table(pod)
        if pod.node is not None and pod.node.kind.in_turns:
            base = self.sharers.base(pod, table)
            return base + (table.loading - table.context if pod.life in {Life.LOADING, Life.WAKING} else 0.0)
        if pod.life is Life.HUNG:
            return table.context
        if pod.life is Life.SLEEPING:
            return pod.resting
        return table.loading if pod.life in {Life.LOADING, Life.WAKING} else table.bare

    def nobody(self, now: float) -> float:
        """Joules of powered GPUs while nobody held them."""
        return self.machines.nobody(now)

    def _fail(self, pod: Pod, now: float) -> None:
        if pod.life is Life.READY:
            self.engines.lost(pod.pool)
            self._note_work(pod)
        elif pod.life is Life.DRAINING:
            self.engines.gone(pod.pool, finished=False)
        replaced = pod.deleting_at is None
        self._remove(pod, now)
        if replaced:
            self._create(pod.service, pod.variant, now)

    def _create(self, service: int, variant: int, now: float) -> Pod:
        number, of = next(self._numbers), self.setup.services[service]
        ref = PodRef(of.key.namespace, f"{of.key.name}-{of.variants[variant].name}-{number}")
        pod = Pod(number, ref, service, variant, now, since=now)
        self.pods[service, variant].append(pod)
        if not self._place(pod, now):
            self._waiting.append(pod)
            self._boot_for(pod, now)
        return pod

    def _place(self, pod: Pod, now: float) -> bool:
        of = self.setup.services[pod.service].variants[pod.variant]
        found = self.machines.taken(of.tables, of.gpus, now)
        if found is None:
            return False
        pod.node, pod.gpus = found
        node = pod.node
        pod.pool = self.pools.number(pod.service, pod.variant, self.machines.kind_of(node))
        self.placed[pod.pool] += 1
        self._note_beside(pod, now)
        pod.life, pod.since = Life.PULLING, now
        self.sharers.come(pod)
        self.sums.starts[pod.service] += 1
        pulled = pod.service in node.images
        node.images.add(pod.service)
        self._later(now + (1.0 if pulled else of.start.pull), "pulled", pod)
        return True

    def _load(self, pod: Pod, now: float) -> None:
        start = self.setup.services[pod.service].variants[pod.variant].start
        spread = exp(start.sigma * float(self._generator.standard_normal()) - start.sigma**2 / 2)
        known = pod.node is not None and pod.pool in pod.node.compiled
        pod.life, pod.since, pod.started, pod.ready_at = Life.LOADING, now, now, None
        self._later(now + (start.load + (0.0 if known else start.compile_)) * spread, "loaded", pod)

    def _start_done(self, pod: Pod, now: float) -> None:
        self._spend(pod, now)
        pod.life, pod.since, pod.ready_at = Life.READY, now, now
        pod.started = now if pod.started is None else pod.started
        self.ready_since[pod.service] = now
        if pod.node is not None:
            pod.node.compiled.add(pod.pool)
        self.engines.join(pod.pool)
        self._mark(pod, pod.pool)

    def _delete(self, pod: Pod, now: float) -> None:
        pod.deleting_at = now
        if pod.life is not Life.READY:
            self._remove(pod, now)
            return
        self._note_work(pod)
        drains = self.engines.leave(pod.pool)
        pod.life = Life.DRAINING
        self._mark(pod, pod.pool + self.engines.pools)
        grace = self.setup.services[pod.service].grace
        self._later(now + min(drains, grace), "drained" if drains <= grace else "killed", pod)

    def _pod_due(self, what: str, pod: Pod, at: float) -> None:
        if what == "pulled" and pod.life is Life.PULLING:
            self._spend(pod, at)
            self._note_beside(pod, at)
            self._load(pod, at)
        elif (what == "loaded" and pod.life is Life.LOADING) or (what == "recovered" and pod.life is Life.HUNG):
            self._start_done(pod, at)
        elif what in {"drained", "killed"} and pod.life is Life.DRAINING:
            self.engines.gone(pod.pool, finished=what == "drained")
            self._remove(pod, at)

    def _node_due(self, what: str, node: Node, at: float) -> None:
        if self.machines.due(what, node, at):
            self._place_waiting(at)
            if what != "mended":
                self.machines.off_later(node, at)

    def _boot_for(self, pod: Pod, now: float) -> None:
        if self.setup.power_off is not None:
            asked = sum(self.setup.services[one.service].variants[one.variant].gpus for one in self._waiting)
            self.machines.boot(self.setup.services[pod.service].variants[pod.variant].tables, asked, now)

    def _place_waiting(self, now: float) -> None:
        """In their order; where one of a variant finds no room, no other does."""
        left: list[Pod] = []
        full: set[tuple[int, int]] = set()
        for pod in self._waiting:
            kind = (pod.service, pod.variant)
            if pod.life is Life.WAITING and (kind in full or not self._place(pod, now)):
                left.append(pod)
                full.add(kind)
        self._waiting = left

    def _remove(self, pod: Pod, now: float) -> None:
        if pod.life is Life.DRAINING:
            self._note_work(pod)
        elif pod.node is not None and pod.life is not Life.READY:
            self._spend(pod, now)
        if pod.life in ASLEEP:
            self.asleep[pod.service] -= 1
        self._note_beside(pod, now)
        self.sharers.go(pod)
        node, pod.life = pod.node, Life.GONE
        self.pods[pod.service, pod.variant].remove(pod)
        if node is None:
            self._waiting = [one for one in self._waiting if one is not pod]
            return
        self.placed[pod.pool] -= 1
        if not node.lost:
            self.machines.give_back(node, pod.gpus, pod.joules, now)
            self._place_waiting(now)

    def _spend(self, pod: Pod, now: float) -> None:
        """What it drew since `since`, in which no engine worked."""
        if pod.node is None:
            return
        joules = self.watts_before_ready(pod) * (now - pod.since)
        pod.joules += joules
        if pod.life in ASLEEP:
            self.sums.asleep[pod.pool] += joules
        else:
            sums = self.sums.pulling if pod.life is Life.PULLING else self.sums.loading
            sums[pod.pool] += joules
        pod.since = now

    def joules(self, pod: Pod, now: float) -> float:
        """Of all its GPUs since it has them."""
        if pod.column >= 0:
            return pod.joules + float(self.engines.after.counters[pod.column, JOULES] - pod.counted[JOULES])
        return pod.joules + (self.watts_before_ready(pod) * (now - pod.since) if pod.node is not None else 0.0)

    def _mark(self, pod: Pod, column: int) -> None:
        """From here on the column's counters tell what it does."""
        pod.column, pod.counted = column, self.engines.after.counters[column].copy()

    def _note_work(self, pod: Pod) -> None:
        pod.joules += float(self.engines.after.counters[pod.column, JOULES] - pod.counted[JOULES])
        pod.column = -1

    def share_out(self) -> None:
        """The engines that use GPUs in turns, as they are from now on."""
        self.engines.turns = turns_of(
            [Engine(pod.column, self.sharers.base(pod, self._table(pod))) for pod in pods if pod.column >= 0]
            for pods in self.sharers.gpus.values()
        )

    def _note_beside(self, pod: Pod, now: float) -> None:
        """What a GPU in turns draws without work is about to be shared otherwise: what others drew is booked."""
        for other in self.sharers.around(pod):
            if other is not pod and other.life in HOLDS:
                self._spend(other, now)

    def _table(self, pod: Pod) -> EngineTable:
        return self.pools.table(pod.pool)

    def _later(self, at: float, what: str, subject: Pod | Node) -> None:
        heappush(self._due, (at, next(self._order), what, subject))
