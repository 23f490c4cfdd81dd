"""Nodes of GPUs used in turns on the fast clock: they do what the event twin's do, and tell of it as exporters do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.clocks.cases import InTurns
from bench.clocks.sharing import both
from fallow.app.simulation.steering import Steering
from fallow.domain.ledger import LineKind
from fallow.domain.readings import Activity, EnergyCounter, Sharing
from fallow.ports import ReadScope
from fallow.twin.simulation.fleet import Life
from fallow.twin.simulation.ports import Declared, FleetCluster, FleetMetrics
from fallow.twin.simulation.run import Simulation
from fallow.twin.simulation.setup import GpuFault, NodeKind, Setup, SetupError, Start, VariantSetup
from tests.support.builders import BF16, service
from tests.support.fleets import CHAT, H100, TABLE, TOLD, Written, poisson, setup, simulation

BARE, CONTEXT = TABLE.bare, TABLE.context


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(InTurns((0.3, 0.3), seconds=300), id="two with little to do"),
        pytest.param(InTurns((2, 2), seconds=300), id="two that are busy"),
        pytest.param(InTurns((3, 3), seconds=300), id="two near the knee"),
        pytest.param(InTurns((1, 1), replicas=2, copies=4, seconds=300), id="four of two services"),
        pytest.param(InTurns((2, 2), replicas=2, gpus=2, seconds=200), id="on two GPUs"),
    ],
)
def test_they_take_and_serve_what_they_do_on_the_event_clock(case: InTurns) -> None:
    found = both(case)
    event, fast = found.event, found.fast

    assert found.energy == pytest.approx(0.0, abs=0.015)
    assert found.off == pytest.approx(0.0, abs=0.015)
    assert fast.fleet.value == pytest.approx(fast.energy.value, rel=1e-9)
    # what GPUs draw without work does not depend on it
    assert sum(one.phases.idle for one in fast.services) == pytest.approx(sum(one.idle.value for one in event.services))


def lived(run: Simulation, until: int) -> Simulation:
    run.advance(until)
    return run


def test_pods_are_spread_over_the_gpus_and_share_what_these_draw_without_work() -> None:
    run = lived(simulation(Written(poisson(0, 300)), setup(replicas=3, nodes=1, copies=4)), 300)
    outcome = run.recorder.outcome(TOLD)

    assert [pod.gpus for pod in run.fleet.all_pods()] == [(0,), (4,), (1,)]
    assert outcome.energy.value == pytest.approx(2 * CONTEXT * 300)
    assert outcome.fleet.value == pytest.approx(outcome.energy.value)


def test_one_that_is_pulled_shares_bare_watts_and_one_that_loads_the_context_too() -> None:
    start = Start(pull=20, load=40, compile_=0, sigma=0.0)
    run = simulation(Written(poisson(0, 90)), setup(replicas=1, nodes=1, copies=8, start=start))
    run.ask(0, 0, 2)
    # its image is there after a second
    run.advance(90)
    first, second = run.fleet.all_pods()
    assert second.life is Life.READY
    pulling, loading = 5, 40
    alone = pulling * (BARE / 2 + CONTEXT - BARE)
    assert run.fleet.joules(first, 90) == pytest.approx(alone + (90 - pulling) * CONTEXT / 2)
    own = (
        pulling * BARE / 2 + loading * (CONTEXT / 2 + TABLE.loading - CONTEXT) + (90 - pulling - loading) * CONTEXT / 2
    )
    assert run.fleet.joules(second, 90) == pytest.approx(own)


def test_a_gpu_that_falls_off_the_bus_takes_all_who_use_it_along() -> None:
    of = replace(setup(replicas=3, nodes=1, copies=4), faults=(GpuFault(100, 0, back=200),))
    run = lived(simulation(Written(poisson(1, 600)), of), 110)
    node = run.fleet.nodes[0]
    assert set(node.broken) == {0, 1, 2, 3}
    assert all(pod.gpus[0] >= 4 for pod in run.fleet.all_pods())
    run.advance(600)
    assert not node.broken
    assert len(node.free) == 5


def test_clocks_that_fall_do_not_where_others_hold_them_up() -> None:
    runs = [simulation(Written(poisson(0, 300)), setup(nodes=1, copies=2)) for _ in range(2)]
    runs[1].fleet.throttle(0, 0, on=True)
    plain, throttled = (lived(run, 300).recorder.outcome(TOLD) for run in runs)
    # what it takes to start it anew
    assert throttled.energy.value == pytest.approx(plain.energy.value + TABLE.loading * 40)


async def test_readings_name_all_who_use_a_gpu_and_add_up_to_the_fleet() -> None:
    run = simulation(Written(poisson(3, 600)), setup(replicas=3, nodes=1, copies=2))
    metrics = FleetMetrics(run, Declared([service(BF16)], [], []))
    run.ask(0, 0, 5)
    run.advance(300)
    await metrics.read(run.run.began, ReadScope())
    run.advance(600)
    gpus = (await metrics.read(run.run.began, ReadScope())).gpus

    assert len(gpus) == 4
    shared = [gpu for gpu in gpus.values() if gpu.shares]
    assert [len(gpu.shares) for gpu in shared] == [2]
    assert sum(gpu.holder is not None for gpu in gpus.values()) == 3
    for gpu in shared:
        assert all(share.sharing is Sharing.TURNS and isinstance(share.activity, Activity) for share in gpu.shares)
        parts = [share.activity.ratio for share in gpu.shares if isinstance(share.activity, Activity)]
        assert isinstance(gpu.activity, Activity)
        assert gpu.activity.ratio == pytest.approx(sum(parts))
        assert 0.0 < gpu.activity.ratio <= 1.0
    joules = sum(gpu.counter.joules.value for gpu in gpus.values() if isinstance(gpu.counter, EnergyCounter))
    assert joules == pytest.approx(run.recorder.outcome(TOLD).fleet.value)


async def test_the_books_of_the_operator_hold_what_the_fleet_took() -> None:
    run = simulation(Written(poisson(2, 7300)), setup(replicas=3, minimum=3, maximum=3, nodes=1, copies=4))
    steering = Steering(run, Declared([service(BF16, minimum=3)], [], []), every=120)
    await steering.drive()
    books = steering.books
    assert books is not None
    booked = {line: book.total.account.energy.best.value for line, book in books.books.items()}
    outcome = run.recorder.outcome(TOLD)

    assert {line.kind for line in booked} == {LineKind.SERVICE}
    assert sum(booked.values()) == pytest.approx(outcome.fleet.value, rel=0.02)


async def test_the_operator_sees_the_gpus_and_that_they_are_used_in_turns() -> None:
    run = simulation(Written(poisson(1, 60)), setup(nodes=1, copies=4))
    view = FleetCluster(run, Declared([service(BF16)], [], [])).view()
    node = next(iter(view.nodes.values()))
    assert (node.gpus, node.in_turns, node.instances) == (2, True, 0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"slices": 3, "on_board": 2}, "write copies of 1"),
        ({"design": 700.0}, "None for design"),
        ({"clock": 1.98e9}, "None for design, clock"),
        ({"gpus": 7}, "write a multiple"),
    ],
    ids=["instances", "power limits", "clocks", "half a GPU"],
)
def test_what_cannot_be_used_in_turns_is_refused(wrong: dict[str, float], says: str) -> None:
    known: dict[str, object] = {"gpus": 8, "count": 1, **wrong}
    with pytest.raises(SetupError, match=says):
        NodeKind(H100, "NVIDIA H100", BARE, copies=2, **known)  # type: ignore[arg-type]


def test_a_replica_of_several_copies_is_refused_with_what_to_write() -> None:
    fine = setup(copies=2)
    wide = replace(fine.services[0], variants=(VariantSetup("tp2", 2, {H100: TABLE}),))
    with pytest.raises(SetupError, match=f"{CHAT}.*gpus.count: 1"):
        Setup(fine.nodes, (wide,))


def test_the_least_that_replicas_of_one_gpu_draw_is_what_it_draws_without_work_once() -> None:
    part = TABLE.among(4)
    assert 4 * part.context == pytest.approx(CONTEXT)
    assert part.watts - part.context == pytest.approx(np.asarray(TABLE.watts) - CONTEXT)
    assert 4 * part.bare == pytest.approx(BARE)
    assert part.loading - part.context == pytest.approx(TABLE.loading - CONTEXT)
