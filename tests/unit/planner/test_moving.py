"""Replicas move: as many as are needed are ready at every moment, and in the end all of them are elsewhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.plans import Cordon, Plan, RunVariant
from fallow.domain.policies import ConsolidationRules, NodeAllowance
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Node, Pod, Snapshot
from fallow.domain.units import Instant
from fallow.domain.workloads import Service, ServiceMemory
from fallow.planner.changes import changes
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from fallow.planner.moving import moved
from tests.support.builders import CHAT, CYCLE, NOW, Running, Scene, node, pod, policy, service, watched

MOVES = policy(consolidation=ConsolidationRules(at_once=NodeAllowance(number=1)))
LOAD = 9.0


@dataclass
class Small:
    """A cluster of nodes with four GPUs that does as Kubernetes does: pods go to the node with most free GPUs that
    takes some, become ready after some cycles, and of those too many go first those that are not.
    """

    pods: list[Pod]
    service: Service
    starts: int = 3
    nodes: dict[str, Node] = field(default_factory=lambda: {name: node(name, gpus=4) for name in "abc"})
    memory: ServiceMemory = field(default_factory=lambda: ServiceMemory(serving="bf16", changed_at=Instant(NOW - 9999)))
    now: Instant = NOW
    asked: int = 0
    made: int = 100
    silent: bool = False

    def __post_init__(self) -> None:
        self.asked = len(self.pods)

    @property
    def ready(self) -> list[Pod]:
        return [one for one in self.pods if one.ready]

    def snapshot(self) -> Snapshot:
        """The load is what nine tenths of the replicas that are needed carry."""
        count, needed = len(self.pods), self.asked - self.memory.moving
        run = Running(count, ready=len(self.ready), running=LOAD * needed)
        scene = Scene(
            service=self.service,
            policy=MOVES,
            memory=self.memory,
            variants={"bf16": run},
            now=self.now,
            nodes=tuple(self.nodes.values()),
            history=watched(LOAD * needed, needed, now=self.now, desired=needed),
        )
        whole = scene.snapshot()
        order = [*self.ready, *(one for one in self.pods if not one.ready)]
        as_made = dict(zip(whole.cluster.pods, (one.ref for one in order), strict=True))
        seen = replace(
            whole.readings,
            engines={as_made[ref]: one for ref, one in whole.readings.engines.items()},
            gpus={
                uuid: replace(one, holder=as_made[one.holder])
                for uuid, one in whole.readings.gpus.items()
                if one.holder is not None
            },
        )
        if self.silent:
            seen = replace(seen, engines={}, engine_fault=Missing(Reason.SOURCE_UNREACHABLE, "no Prometheus"))
        cluster = replace(
            whole.cluster,
            pods={one.ref: one for one in self.pods},
            workloads=tuple(replace(one, replicas=self.asked) for one in whole.cluster.workloads),
        )
        return replace(whole, cluster=cluster, readings=seen)

    def step(self) -> Plan:
        """A cycle, and what Kubernetes makes of it until the next one."""
        snapshot = self.snapshot()
        plan = decide(snapshot, estimate(snapshot, Concluded()))
        mine = plan.services[CHAT]
        (change,) = (one for one in changes(snapshot, mine) if isinstance(one, RunVariant))
        self.memory, self.asked = mine.memory, change.replicas
        for one in plan.nodes:
            empty = one.to is Cordon.EMPTY
            self.nodes[one.node] = replace(
                self.nodes[one.node],
                cordoned=empty,
                emptying=one.at if empty else None,
                kept_since=one.at if one.to is Cordon.KEEP else None,
            )
        order = sorted(self.pods, key=lambda one: (one.ready, one.ref not in change.leaving, one.ref))
        self.pods = order[max(len(order) - self.asked, 0) :]
        while len(self.pods) < self.asked:
            self.pods.append(self._new())
        self.now = Instant(self.now + CYCLE)
        self.pods = [self._grown(one) for one in self.pods]
        return plan

    def _new(self) -> Pod:
        held = Counter(one.node for one in self.pods)
        free = {name: 4 - held[name] for name, one in self.nodes.items() if not one.cordoned and held[name] < 4}
        place = max(free, key=lambda name: (free[name], name), default="")
        self.made += 1
        return pod(f"bf16-{self.made}", node=place, scheduled=bool(place), ready=False, created=self.now, started=None)

    def _grown(self, one: Pod) -> Pod:
        ready = one.ready or (one.scheduled and self.now - one.created >= self.starts * CYCLE)
        return replace(
            one, ready=ready, started=one.created, ready_since=one.ready_since or (self.now if ready else None)
        )


def on(cluster: Small) -> dict[str, int]:
    return dict(sorted(Counter(one.node for one in cluster.pods).items()))


def at(*nodes: str, **more: object) -> Small:
    pods = [pod(f"bf16-{place}", node=name, ready_since=Instant(NOW - 900)) for place, name in enumerate(nodes)]
    return Small(pods, service(maximum=12), **more)  # type: ignore[arg-type]


def test_a_replica_moves_once_another_is_ready_in_its_place() -> None:
    cluster = at("a", "a", "b")
    del cluster.nodes["c"]
    told = [one.decision.action for _ in range(8) if (one := cluster.step().services[CHAT]).decision is not None]
    assert told == ["Move", "MoveDone"]
    assert on(cluster) == {"a": 3}
    assert cluster.memory.moving == 0


def test_it_says_how_many_come_and_where_from() -> None:
    cluster = at("a", "a", "b")
    del cluster.nodes["c"]
    cluster.step()
    plan = cluster.step().services[CHAT]
    assert (plan.replicas, plan.memory.moving) == ({"bf16": 4}, 1)
    assert plan.standing.message == "1 replicas come in the place of those on b, to empty it"
    assert plan.standing.reason is Reason.EMPTIES_NODE
    assert plan.memory.reductions == 1


def test_nothing_moves_while_signals_are_missing_and_it_goes_on_after_that() -> None:
    cluster = at("a", "a", "b")
    del cluster.nodes["c"]
    cluster.step()
    cluster.step()
    cluster.silent = True
    for _ in range(6):
        cluster.step()
        assert (cluster.asked, on(cluster)) == (4, {"a": 3, "b": 1})
    cluster.silent = False
    cluster.step()
    assert on(cluster) == {"a": 3}


def test_a_plan_that_failed_changes_nothing_of_it() -> None:
    cluster = at("a", "a", "b")
    del cluster.nodes["c"]
    cluster.step()
    cluster.step()
    snapshot = cluster.snapshot()
    estimates = estimate(snapshot, Concluded())
    failed = replace(decide(snapshot, estimates).services[CHAT], fault=RuntimeError("no"))
    plan = replace(failed, replicas={"bf16": 3}, proposed={"bf16": 3})
    assert moved(snapshot, plan, estimates.services[CHAT], ()).replicas == {"bf16": 4}


def test_a_replica_that_never_starts_is_given_up_and_nothing_is_lost() -> None:
    cluster = at("a", "a", "b", starts=10_000)
    del cluster.nodes["c"]
    for _ in range(150):
        cluster.step()
        assert len(cluster.ready) == 3
    assert (on(cluster), cluster.asked, cluster.memory.moving) == ({"a": 2, "b": 1}, 3, 0)
    assert cluster.nodes["b"].kept_since is not None


def test_an_operator_that_starts_anew_goes_on_with_it() -> None:
    """What is beside the replicas that are needed is in the status; who is to go, on the node."""
    cluster = at("a", "a", "b")
    del cluster.nodes["c"]
    cluster.step()
    cluster.step()
    cluster.memory = ServiceMemory(serving="bf16", changed_at=cluster.memory.changed_at, moving=cluster.memory.moving)
    for _ in range(5):
        cluster.step()
    assert (on(cluster), cluster.asked) == ({"a": 3}, 3)


@settings(max_examples=40, deadline=None)
@given(
    places=st.lists(st.sampled_from("abc"), min_size=1, max_size=9).filter(
        lambda all_: max(map(all_.count, "abc")) <= 4
    ),
    starts=st.integers(1, 6),
    maximum=st.integers(9, 12),
)
def test_as_many_as_are_needed_are_ready_at_every_moment(places: list[str], starts: int, maximum: int) -> None:
    cluster = at(*places, starts=starts)
    cluster.service = replace(cluster.service, scaling=replace(cluster.service.scaling, max_replicas=maximum))
    # it is over after as many as a start takes, and a few
    for _ in range(40):
        cluster.step()
        assert len(cluster.ready) >= len(places)
        assert cluster.asked <= maximum
    assert cluster.asked == len(places)
    assert len(set(on(cluster))) <= len(set(places))
    assert not any(one.emptying and on(cluster).get(name) for name, one in cluster.nodes.items())
