"""Nodes of MIG instances on the fast clock: they do what the event twin's do, and every slice of a board is booked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.app.simulation.steering import Steering
from fallow.domain.ledger import LineKind
from fallow.domain.readings import EnergyCounter, Power, Readings
from fallow.domain.workloads import ServiceKey
from fallow.footprint.hardware import hardware_of
from fallow.ports import ReadScope
from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.hardware import gpu_named
from fallow.twin.calibration.predict import DoesNotFit
from fallow.twin.calibration.store import shipped
from fallow.twin.calibration.tasks import Precision
from fallow.twin.demand.recorded import Recorded
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import GPUS, Gpu
from fallow.twin.physics.parts import NAMED_BY, Profile, profiles_of
from fallow.twin.pods import Division, EngineFacts, NodeFacts
from fallow.twin.rates import Piecewise
from fallow.twin.replay import Objectives, Replicas, replay
from fallow.twin.simulation.demand import Demand
from fallow.twin.simulation.ports import Declared, FleetCluster, FleetMetrics
from fallow.twin.simulation.predicting import bare_watts, predicted_table
from fallow.twin.simulation.run import Simulation
from fallow.twin.simulation.setup import Fault, GpuFault, NodeKind, PowerOff, ServiceSetup, Setup, Start, VariantSetup
from fallow.twin.simulation.table import EngineTable, table_of
from fallow.twin.traffic import Arrival, GeneratedTraffic, Lengths
from tests.support.builders import BF16, service
from tests.support.fleets import CHAT, GRID, TOLD, Written, poisson

H100 = GPUS[Gpu.H100]
LABEL = "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"
PART = profiles_of("H100")["3g.40gb"]


def kind_of(part: Profile = PART, *, gpu: str = "H100", boards: int = 2, count: int = 1) -> NodeKind:
    known = gpu_named(gpu)
    each = part.most_on(known.memory)
    bare, name = bare_watts(known, part), f"NVIDIA {gpu} MIG {part.name}"
    return NodeKind(LABEL, name, bare, boards * each, count, "home", slices=part.slices, on_board=each)


def fleet(
    demand: Demand,
    table: EngineTable,
    *,
    kind: NodeKind | None = None,
    replicas: int = 1,
    power_off: PowerOff | None = None,
    faults: tuple[Fault, ...] = (),
) -> Simulation:
    variant = VariantSetup("bf16", 1, {LABEL: table}, Start(pull=20, load=40, compile_=10, sigma=0.0))
    one = ServiceSetup(demand.services[0], (variant,), 1.0, 0.05, 0, 8, replicas)
    return Simulation(Setup((kind or kind_of(),), (one,), power_off, faults), demand, GRID, TOLD)


def table(context: float | None = None) -> EngineTable:
    return table_of(law_for(Gpu.H100, "8b", Precision.BF16, 1, part=PART), context=context)


@pytest.mark.parametrize(
    ("gpu", "name", "precision"),
    [
        (Gpu.H100, "3g.40gb", Precision.BF16),
        (Gpu.H100, "1g.20gb", Precision.FP8),
        (Gpu.H200, "2g.35gb", Precision.BF16),
        (Gpu.A100, "7g.80gb", Precision.BF16),
    ],
)
def test_an_instance_has_the_same_law_on_both_clocks(gpu: Gpu, name: str, precision: Precision) -> None:
    part, model = profiles_of(gpu.value)[name], "meta-llama/Llama-3.1-8B-Instruct"
    query = query_of(Described(name=model), Work(gpu=gpu.value, precision=precision.value), shipped())
    fast, event = predicted_table(query, part=part), table_of(law_for(gpu, model, precision, 1, part=part))
    assert fast.step == pytest.approx(event.step)
    assert fast.watts[1:] == pytest.approx(event.watts[1:])
    assert (fast.prefill_rate, fast.prefill_watts) == pytest.approx((event.prefill_rate, event.prefill_watts))
    assert (fast.bare, fast.context) == pytest.approx((event.bare, event.context), rel=1e-3)
    assert fast.cache == pytest.approx(event.cache, rel=1e-3)
    # of a whole A100 as well: by its design power on one clock, assumed on the other
    assert fast.loading == pytest.approx(event.loading, rel=0.1)


@pytest.mark.parametrize(
    ("rate", "replicas"), [pytest.param(0.3, 3, id="next to nothing"), pytest.param(6, 3, id="busy")]
)
def test_a_fleet_of_instances_takes_and_serves_what_it_does_on_the_event_clock(rate: float, replicas: int) -> None:
    seconds, key = 600, ServiceKey("a", "b")
    traffic = GeneratedTraffic(Piecewise(((0.0, rate),)), Lengths(500, 0.9), Lengths(150, 0.9), seed=3)
    rows = traffic.until(seconds)
    event = replay(
        [NodeFacts("n", "n", "", Gpu.H100, 2, Division(((PART, PART), (PART, PART)), single=True))],
        [Replicas(key, EngineFacts("m", "m", Precision.BF16), replicas)],
        {key: rows},
        seconds=seconds,
        objectives={key: Objectives(1.0, 0.05)},
    )
    demand = Recorded(key, [Arrival(0.0, 1, 1), *rows], seconds=seconds)
    run = fleet(demand, table(500 + 150 / 2), replicas=replicas)
    run.advance(seconds)
    fast, own = run.recorder.outcome(TOLD), event.services[0]

    assert fast.energy.value == pytest.approx(own.energy.value, rel=0.05)
    assert fast.fleet.value - fast.energy.value == pytest.approx(event.unallocated.value)
    assert own.attainment is not None
    assert own.attainment > 0.9
    assert fast.attainment == pytest.approx(own.attainment, abs=0.03)


@pytest.mark.parametrize("gpu", list(NAMED_BY))
def test_instances_and_slices_in_none_draw_what_whole_boards_do(gpu: str) -> None:
    for part in profiles_of(gpu).values():
        kind = kind_of(part, gpu=gpu, boards=3)
        drawn = kind.gpus * kind.bare + kind.boards * kind.spare_watts
        assert drawn == pytest.approx(3 * bare_watts(gpu_named(gpu))), part.name


def test_a_node_that_nobody_uses_draws_its_whole_boards_on_nobody_s_account() -> None:
    run = fleet(Written(poisson(0, 600)), table(), replicas=0)
    run.advance(600)
    outcome = run.recorder.outcome(TOLD)
    assert outcome.energy.value == 0
    assert outcome.fleet.value == pytest.approx(600 * 2 * H100.bare)


def test_a_node_that_is_off_draws_nothing_for_slices_in_no_instance_either() -> None:
    run = fleet(Written(poisson(0, 600)), table(), replicas=0, power_off=PowerOff(after=100))
    run.advance(600)
    assert run.recorder.outcome(TOLD).fleet.value == pytest.approx(100 * 2 * H100.bare)


def test_hosts_are_booked_by_the_share_of_the_board() -> None:
    grid = {"home": replace(GRID["home"], host=100.0, pue=1.0)}
    variant = VariantSetup("bf16", 1, {LABEL: table()})
    setup = Setup((kind_of(),), (ServiceSetup(CHAT, (variant,), 1.0, 0.05, 0, 8, 1),))
    run = Simulation(setup, Written(poisson(0, 600)), grid, TOLD)
    run.advance(600)
    own = run.recorder.outcome(TOLD).services[0]
    assert own.facility.value - own.energy.value == pytest.approx(600 * 100 * 3 / 7)


def told(readings: Readings) -> tuple[float, float]:
    """Joules and W of all that is read."""
    joules = watts = 0.0
    for gpu in readings.gpus.values():
        assert isinstance(gpu.counter, EnergyCounter)
        assert isinstance(gpu.power, Power)
        joules, watts = joules + gpu.counter.joules.value, watts + gpu.power.watts.value
    return joules, watts


async def test_readings_add_up_to_the_boards_and_nobody_holds_slices_in_no_instance() -> None:
    run = fleet(Written(poisson(1, 600)), table(), replicas=3)
    declared = Declared([service(BF16)], [], [])
    metrics = FleetMetrics(run, declared)
    run.advance(300)
    before = await metrics.read(run.run.began, ReadScope())
    run.advance(600)
    after = await metrics.read(run.run.began, ReadScope())

    assert len(after.gpus) == 4 + 2
    assert sum(gpu.holder is not None for gpu in after.gpus.values()) == 3
    (was, _), (now, watts) = told(before), told(after)
    assert watts * 300 == pytest.approx(now - was)
    assert now == pytest.approx(run.recorder.outcome(TOLD).fleet.value)
    spare = [gpu for uuid, gpu in after.gpus.items() if "spare" in uuid]
    assert [hardware_of(gpu.model_name).bare.value for gpu in spare] == pytest.approx([H100.bare / 7] * 2)


async def test_the_books_of_the_operator_hold_what_the_fleet_took_with_slices_in_no_instance() -> None:
    run = fleet(Written(poisson(1, 7300)), table(), replicas=3)
    steering = Steering(run, Declared([service(BF16, minimum=3)], [], []), every=60)
    await steering.drive()
    books = steering.books
    assert books is not None
    booked = {line: book.total.account.energy.best.value for line, book in books.books.items()}
    outcome = run.recorder.outcome(TOLD)
    free = sum(joules for line, joules in booked.items() if line.kind is LineKind.UNALLOCATED)

    assert sum(booked.values()) == pytest.approx(outcome.fleet.value, rel=0.02)
    assert free == pytest.approx(outcome.fleet.value - outcome.energy.value, rel=0.02)


async def test_the_operator_sees_boards_and_the_instances_that_pods_ask_for() -> None:
    run = fleet(Written(poisson(1, 60)), table())
    view = FleetCluster(run, Declared([service(BF16)], [], [])).view()
    node = next(iter(view.nodes.values()))
    assert (node.gpus, node.places, node.gpu_product) == (2, 4, LABEL)


def test_a_gpu_that_falls_off_the_bus_takes_all_instances_of_its_board_along() -> None:
    run = fleet(Written(poisson(1, 600)), table(), replicas=3, faults=(GpuFault(100, 0, back=200),))
    run.advance(110)
    node = run.fleet.nodes[0]
    assert set(node.broken) == {0, 1}
    # two of three are gone, and one finds no room until the board is back
    assert [pod.gpus for pod in run.fleet.all_pods()] == [(2,), (3,), ()]
    run.advance(600)
    assert not node.broken
    assert len(node.free) == 1
    outcome = run.recorder.outcome(TOLD)
    unheld = outcome.fleet.value - outcome.energy.value
    idle, spare = H100.bare * 3 / 7, 2 * H100.bare / 7
    assert unheld == pytest.approx(100 * idle + 200 * 2 * idle + 300 * idle + 600 * spare)


def test_a_model_that_leaves_an_instance_no_room_is_refused_with_what_to_write() -> None:
    query = query_of(Described(name="Qwen/Qwen3-32B"), Work(gpu="H100", precision="BF16"), shipped())
    with pytest.raises(DoesNotFit, match=r"no room for a cache in a MIG instance 3g\.40gb: write a larger"):
        predicted_table(query, part=PART)
