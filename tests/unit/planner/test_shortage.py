"""Where GPUs are short: who asks for fewer replicas, who keeps what it has, and what is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.figures import Missing
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode, Policy
from fallow.domain.readings import PodRef, Readings
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import ClusterView, Node, Pod, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey, ServiceMemory
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from tests.support.builders import (
    BF16,
    CYCLE,
    H100,
    L4,
    NOW,
    engine,
    gpu,
    guards,
    node,
    pod,
    policy,
    scaler,
    service,
    watched,
    workload,
    zone,
)

HIGH, LOW, THIRD = ServiceKey("front", "high"), ServiceKey("batch", "low"), ServiceKey("batch", "third")
FIRST = {HIGH: 100}
LONG, BRIEF = 700.0, 60.0
REMEMBERS_NOTHING = ServiceMemory()


@dataclass(frozen=True)
class Side:
    """A service with `runs` replicas that are ready and others that have `waits` for their GPUs, ten requests each that
    it should run.
    """

    key: ServiceKey
    runs: int
    waits: int = 0
    needs: int = 0
    waited: float = LONG
    least: int = 1
    products: tuple[str, ...] = ()
    memory: ServiceMemory = REMEMBERS_NOTHING
    node: str = "node-a"
    paused: bool = False
    blind: bool = False
    scaler: Autoscaler | None = None

    @property
    def pods(self) -> list[Pod]:
        ready = [pod(f"{self.key.name}-{n}", key=self.key, node=self.node) for n in range(self.runs)]
        at = Instant(NOW - self.waited)
        waiting = [
            pod(f"{self.key.name}-w{n}", key=self.key, node="", scheduled=False, ready=False, created=at, started=None)
            for n in range(self.waits)
        ]
        return [*ready, *waiting]

    @property
    def load(self) -> float:
        return 10.0 * (self.needs or self.runs) - 1


def readings(at: float, sides: tuple[Side, ...]) -> Readings:
    engines, gpus = {}, {}
    for side in sides:
        for one in side.pods[: side.runs]:
            gpus[f"GPU-{one.ref}"] = gpu(f"GPU-{one.ref}", one.ref, at=Instant(at), watts=500, active=0.9)
            if not side.blind:
                engines[one.ref] = engine(Instant(at), running=side.load / side.runs)
    faults = {
        one.ref: Missing(Reason.SOURCE_UNREACHABLE, "refused") for side in sides if side.blind for one in side.pods
    }
    return Readings(at=Instant(at), engines=engines, gpus=gpus, pod_faults=faults)


def seen(*sides: Side, nodes: tuple[Node, ...] = (node(gpus=4),), rules: Policy | None = None) -> Snapshot:
    pods: dict[PodRef, Pod] = {one.ref: one for side in sides for one in side.pods}
    cluster = ClusterView(
        nodes={one.name: one for one in nodes},
        pods=pods,
        workloads=tuple(
            workload(
                replicas=side.runs + side.waits,
                key=side.key,
                ready=side.runs,
                scalers=() if side.scaler is None else (side.scaler,),
            )
            for side in sides
        ),
        services={
            side.key: service(
                replace(BF16, products=side.products),
                key=side.key,
                minimum=side.least,
                priority=FIRST.get(side.key, 0),
                paused=side.paused,
            )
            for side in sides
        },
        memories={side.key: side.memory for side in sides},
        policies=(rules or policy(idle_after=None),),
        zones=(zone().zone,),
    )
    return Snapshot(
        at=NOW,
        cluster=cluster,
        readings=readings(NOW, sides),
        zones={"north": zone()},
        history={side.key: watched(side.load, side.runs, desired=side.runs + side.waits) for side in sides},
        previous=readings(NOW - CYCLE, sides),
        earlier=readings(NOW - CYCLE, sides),
    )


def plans(snapshot: Snapshot) -> dict[ServiceKey, ServicePlan]:
    return dict(decide(snapshot, estimate(snapshot, Concluded())).services)


def asked(snapshot: Snapshot) -> list[int]:
    return [plan.replicas["bf16"] for plan in plans(snapshot).values()]


WAITS, GIVES = Side(HIGH, 1, waits=1, needs=2), Side(LOW, 3, needs=4)


def test_a_service_of_lower_priority_gives_a_replica_to_one_that_waits() -> None:
    found = plans(seen(WAITS, GIVES))

    assert (found[HIGH].replicas, found[LOW].replicas) == ({"bf16": 2}, {"bf16": 2})
    standing = found[LOW].standing
    assert (standing.action, standing.lever, standing.reason) == ("ScaleDown", "Gpus", Reason.GPUS_SHORT)
    assert standing.message == (
        "GPUs are short: of 4 replicas 2 have room on the 4 GPUs there (NVIDIA-H100-80GB-HBM3);"
        " front/high of priority 100 goes before"
    )


@pytest.mark.parametrize(
    ("waits", "gives", "more"),
    [
        pytest.param(replace(WAITS, waited=BRIEF), GIVES, {}, id="while an autoscaler may bring nodes"),
        pytest.param(WAITS, GIVES, {"nodes": (node(gpus=5),)}, id="while a GPU is free"),
        pytest.param(WAITS, GIVES, {"rules": policy(Mode.RECOMMEND, idle_after=None)}, id="without Enforce"),
        pytest.param(WAITS, replace(GIVES, least=3), {}, id="of its least"),
        pytest.param(WAITS, replace(GIVES, blind=True), {}, id="on missing signals"),
        pytest.param(WAITS, replace(GIVES, paused=True), {}, id="while it is paused"),
        pytest.param(WAITS, replace(GIVES, scaler=scaler(3)), {}, id="whose number is an autoscaler's"),
        pytest.param(
            WAITS, replace(GIVES, memory=ServiceMemory(changed_at=Instant(NOW - 30))), {}, id="within the dwell"
        ),
        pytest.param(replace(WAITS, key=THIRD), GIVES, {}, id="to an equal"),
        pytest.param(
            replace(WAITS, products=(H100,)),
            replace(GIVES, node="node-l4"),
            {"nodes": (node(gpus=1), node("node-l4", L4, 3))},
            id="on GPUs that are no use to the other",
        ),
    ],
)
def test_nothing_that_runs_is_given(waits: Side, gives: Side, more: dict[str, object]) -> None:
    assert plans(seen(waits, gives, **more))[LOW].replicas["bf16"] >= 3  # type: ignore[arg-type]


def test_at_most_half_of_what_runs_is_given_at_one_time() -> None:
    nodes = (node(gpus=8), node("node-b", gpus=1))

    assert asked(seen(Side(HIGH, 1, waits=6, node="node-b", needs=7), Side(LOW, 8), nodes=nodes)) == [7, 4]


def test_only_the_first_in_line_keeps_a_replica_waiting() -> None:
    first, second = Side(LOW, 1, waits=2, needs=3), Side(THIRD, 3, waits=2, needs=5)
    found = plans(seen(first, second))

    assert [found[key].replicas["bf16"] for key in (LOW, THIRD)] == [2, 3]
    assert [found[key].standing.action for key in (LOW, THIRD)] == ["Withdraw", "Withdraw"]
    assert found[THIRD].memory.reductions == 0
    assert "shared with 1 others of its priority" in found[THIRD].standing.message


def test_who_is_short_does_not_ask_for_more_and_says_why() -> None:
    found = plans(seen(Side(LOW, 1, waits=1, needs=4), Side(THIRD, 3)))[LOW]

    assert (found.replicas, found.standing.action) == ({"bf16": 2}, "Hold")
    assert (found.standing.reason, [veto.guard for veto in found.vetoes]) == (Reason.GPUS_SHORT, ["share"])
    assert "4 replicas are needed" in found.standing.message
    assert "of 4 replicas 1 have room" in found.standing.message


def test_who_asks_for_no_more_than_waits_says_why_too() -> None:
    found = plans(seen(Side(LOW, 1, waits=1, needs=2), Side(THIRD, 3)))[LOW]

    assert (found.replicas, found.standing.reason) == ({"bf16": 2}, Reason.GPUS_SHORT)


def test_with_a_new_node_all_ask_for_what_they_want() -> None:
    known = ServiceMemory(short_at=Instant(NOW - 15))
    nodes = (node(gpus=4), node("node-b"))

    assert asked(seen(Side(LOW, 1, needs=2, memory=known), Side(THIRD, 3, needs=5, memory=known), nodes=nodes)) == [
        2,
        5,
    ]


def test_a_gpu_that_comes_free_is_left_to_higher_priority() -> None:
    """Its replica is young, but that GPUs are short is known."""
    known = replace(GIVES, runs=2, needs=4, memory=ServiceMemory(short_at=Instant(NOW - 60)))

    assert asked(seen(replace(WAITS, waited=BRIEF), known, nodes=(node(gpus=4),))) == [2, 2]
    assert asked(seen(replace(WAITS, waited=BRIEF), known, nodes=(node(gpus=5),))) == [2, 3]


def test_what_was_short_long_ago_is_forgotten() -> None:
    known = replace(GIVES, memory=ServiceMemory(short_at=Instant(NOW - 1500)))

    assert asked(seen(replace(WAITS, waited=BRIEF), known)) == [2, 4]


def test_a_replica_that_is_going_makes_room_and_no_other_goes() -> None:
    one = seen(WAITS, replace(GIVES, runs=2))
    going = pod("low-gone", key=LOW, deleting=True)
    cluster = replace(one.cluster, pods={**one.cluster.pods, going.ref: going})
    known = replace(cluster, memories={**cluster.memories, LOW: ServiceMemory(short_at=Instant(NOW - 15))})

    assert asked(replace(one, cluster=known)) == [2, 2]


def test_a_policy_says_how_long_is_long() -> None:
    rules = policy(idle_after=None, guards=guards(gpus_short_after=Seconds(30)))

    assert asked(seen(replace(WAITS, waited=BRIEF), GIVES, rules=rules)) == [2, 2]


def test_a_free_gpu_of_a_cordoned_node_is_none() -> None:
    assert asked(seen(WAITS, GIVES, nodes=(node(gpus=4), replace(node("node-b"), cordoned=True)))) == [2, 2]


def test_a_replica_that_waits_in_vain_keeps_no_other() -> None:
    """The load fell meanwhile: what waits for GPUs is not on its way."""
    found = plans(seen(Side(HIGH, 3, waits=1, needs=2), Side(LOW, 1)))[HIGH]

    assert (found.standing.action, found.standing.reason, found.replicas) == (
        "ScaleDown",
        Reason.LOAD_FELL,
        {"bf16": 3},
    )
