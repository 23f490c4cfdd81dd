"""Pods and nodes of the fast clock: starts, drains, losses, power, and every joule on one meter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fallow.twin.simulation.fleet import Life
from fallow.twin.simulation.machines import Power
from fallow.twin.simulation.run import Simulation
from fallow.twin.simulation.setup import Crash, Fault, GpuFault, Hang, NodeLoss, PowerOff, Setup, SetupError, Start
from tests.support.fleets import TABLE, Written, poisson, setup, simulation

STARTED = Start(pull=20, load=40, compile_=10, sigma=0.0)


def lives(run: Simulation) -> list[Life]:
    return [pod.life for pod in run.fleet.all_pods()]


def test_a_pod_is_pulled_then_loaded_then_ready() -> None:
    run = simulation(Written(np.zeros((1, 400))), setup(replicas=0))
    run.ask(0, 0, 1)
    seen = []
    for until in (10, 40, 80):
        run.advance(until)
        seen.append(lives(run))

    assert seen == [[Life.PULLING], [Life.LOADING], [Life.READY]]


def test_a_second_pod_on_the_node_needs_neither_pull_nor_compile() -> None:
    run = simulation(Written(np.zeros((1, 400))), setup(replicas=1))
    run.ask(0, 0, 2)
    run.advance(50)

    assert lives(run) == [Life.READY, Life.READY]


def test_pods_are_packed_on_one_node_and_the_empty_one_is_powered_off() -> None:
    run = simulation(Written(np.zeros((1, 900))), setup(replicas=3, power_off=PowerOff(after=300, boot=120)))
    run.advance(400)

    assert [node.power for node in run.fleet.nodes] == [Power.ON, Power.OFF]
    assert len(run.fleet.nodes[0].free) == 5


def test_a_node_that_is_off_is_booted_for_a_pod_without_room() -> None:
    rules = PowerOff(after=60, boot=120)
    run = simulation(Written(np.zeros((1, 900))), setup(replicas=8, maximum=16, power_off=rules))
    run.advance(100)
    run.ask(0, 0, 9)
    run.advance(110)
    waiting = lives(run)[-1]
    run.advance(400)

    assert waiting is Life.WAITING
    assert lives(run)[-1] is Life.READY


def test_a_replica_that_leaves_finishes_its_answers() -> None:
    run = simulation(Written(poisson(4, 300), output=400.0), setup(replicas=2))
    run.advance(100)
    run.ask(0, 0, 1)
    run.advance(102)
    draining = lives(run)
    run.advance(300)

    assert Life.DRAINING in draining
    assert lives(run) == [Life.READY]
    assert run.engines.failed.sum() == 0


def test_requests_of_a_lost_node_fail_and_its_pods_are_made_anew() -> None:
    run = simulation(Written(poisson(4, 300)), setup(replicas=1))
    run.advance(100)
    run.fleet.lose(run.fleet.nodes[0], 100.0)
    run.advance(200)

    assert run.engines.failed.sum() > 0
    assert lives(run) == [Life.READY]
    assert next(iter(run.fleet.all_pods())).node is run.fleet.nodes[1]


def test_a_crashed_engine_loads_again_on_its_gpu() -> None:
    run = simulation(Written(poisson(4, 300)), setup(replicas=1))
    run.advance(100)
    run.fleet.crash(next(iter(run.fleet.all_pods())), 100.0)
    run.advance(105)
    loading = lives(run)
    run.advance(200)

    assert loading == [Life.LOADING]
    assert lives(run) == [Life.READY]


def struck(*faults: Fault, replicas: int = 1, power_off: PowerOff | None = None, copies: int = 1) -> Simulation:
    of = setup(replicas=replicas, power_off=power_off, copies=copies)
    return simulation(Written(poisson(4, 900)), replace(of, faults=faults))


def test_the_node_with_most_pods_is_lost_at_its_time_and_comes_back_empty_and_without_images() -> None:
    run = struck(NodeLoss(100, back=200))
    run.advance(100)
    first = run.fleet.nodes[0]
    before = len(first.free), first.power
    run.advance(110)
    lost = first.lost, first.power
    run.advance(320)

    assert before == (7, Power.ON)
    assert lost == (True, Power.OFF)
    assert (first.lost, first.power, len(first.free), first.images) == (False, Power.ON, 8, set())
    assert lives(run) == [Life.READY]
    assert run.engines.failed.sum() > 0


def test_pods_wait_for_a_node_that_comes_back() -> None:
    run = struck(NodeLoss(100, 1), NodeLoss(100, 0, back=300))
    run.advance(390)
    waiting = lives(run)
    run.advance(700)

    assert waiting == [Life.WAITING]
    assert lives(run) == [Life.READY]
    assert run.fleet.nodes[1].lost


def test_a_node_that_came_back_and_stays_empty_is_powered_off() -> None:
    run = struck(NodeLoss(100, back=100), power_off=PowerOff(after=120, boot=60))
    run.advance(500)

    assert (run.fleet.nodes[0].lost, run.fleet.nodes[0].power) == (False, Power.OFF)


def test_as_many_engines_crash_as_are_said_and_load_again() -> None:
    run = struck(Crash(100, 0, replicas=2), Crash(100, 0, replicas=9), replicas=3)
    run.advance(105)
    loading = lives(run).count(Life.LOADING)
    run.advance(300)

    assert loading == 3
    assert lives(run) == [Life.READY] * 3


def test_an_engine_that_hangs_keeps_its_gpu_and_its_context_and_goes_on_later() -> None:
    run = struck(Hang(100, 0, back=60), Hang(300, 0), replicas=2)
    seen = []
    for until in (100, 110, 150, 170, 400):
        before = [run.fleet.joules(pod, float(run.now)) for pod in run.fleet.all_pods()]
        begun = run.now
        run.advance(until)
        seen.append(sorted(lives(run)))
        if until == 150:
            drawn = [run.fleet.joules(pod, 150.0) - old for pod, old in zip(run.fleet.all_pods(), before, strict=True)]
            assert min(drawn) == pytest.approx((150 - begun) * TABLE.context)

    both, one = [Life.READY, Life.READY], [Life.HUNG, Life.READY]
    assert seen == [both, one, one, both, one]
    assert run.engines.failed.sum() > 0
    run.ask(0, 0, 0)
    run.advance(600)
    assert lives(run) == []


def test_a_gpu_that_fails_takes_its_pod_along_and_is_used_again_once_it_is_back() -> None:
    run = struck(GpuFault(100, 0, back=300), replicas=8)
    run.advance(110)
    node, other = run.fleet.nodes
    assert (len(node.broken), len(node.free), len(other.free)) == (1, 0, 7)
    run.advance(250)
    assert lives(run) == [Life.READY] * 8
    run.advance(450)
    assert (node.broken, len(node.free)) == ({}, 1)


def test_a_gpu_that_fails_for_good_stays_so_whatever_comes_back_beside_it() -> None:
    """Nor does what was to be mended before its node came back anew mend what failed since."""
    run = struck(GpuFault(100, 0), GpuFault(150, 0, back=100), replicas=2)
    run.advance(120)
    node = run.fleet.nodes[0]
    (lasting,) = node.broken
    run.advance(400)
    assert list(node.broken) == [lasting]

    again = struck(GpuFault(100, 0, back=250), NodeLoss(150, 0, back=50), NodeLoss(150, 1), GpuFault(300, 0))
    again.advance(400)
    assert len(again.fleet.nodes[0].broken) == 1


@pytest.mark.parametrize(("seed", "copies"), [(0, 1), (1, 1), (2, 4)])
@pytest.mark.parametrize(
    "faults",
    [
        (NodeLoss(200, back=100), NodeLoss(500, 0)),
        (GpuFault(100, 0, back=250), GpuFault(150, 0), Hang(300, 0, back=90), NodeLoss(600, 0, back=60)),
    ],
    ids=["nodes are lost", "GPUs fail and engines hang"],
)
def test_no_joule_is_lost_with_a_node_or_a_gpu(seed: int, copies: int, faults: tuple[Fault, ...]) -> None:
    """What nobody held is the bare draw of such GPUs of nodes that are there, each second of it."""
    run = struck(*faults, replicas=2, copies=copies)
    nobody = 0.0
    while not run.ended:
        if run.now % 60 == 0:
            run.ask(0, 0, 1 + (run.now // 60 + seed) % 4)
        free = sum(node.unheld_meters * node.kind.bare for node in run.fleet.nodes if node.power is Power.ON)
        run.advance(run.now + 1)
        nobody += free
    outcome = run.recorder.outcome(run.run)
    hours = sum(node.on_seconds + (run.now - node.on_since) * (node.power is Power.ON) for node in run.fleet.nodes)

    assert outcome.node_hours == pytest.approx(hours / 3600)
    assert run.fleet.nobody(float(run.now)) == pytest.approx(nobody, rel=0.004)
    assert outcome.fleet.value == pytest.approx(outcome.energy.value + nobody, rel=0.001)


@pytest.mark.parametrize(("seed", "copies"), [(0, 1), (1, 1), (2, 2), (3, 4)])
def test_what_services_held_and_what_nobody_held_is_what_all_gpus_drew(seed: int, copies: int) -> None:
    generator = np.random.default_rng(seed)
    of = setup(services=2, power_off=PowerOff(after=120, boot=60), copies=copies)
    run = simulation(Written(poisson(5, 1200, seed=seed, services=2)), of)
    while not run.ended:
        for service in range(2):
            run.ask(service, 0, int(generator.integers(1, 7)))
        run.advance(run.now + 60)
    outcome = run.recorder.outcome(run.run)
    meters = sum(sum(node.closed) for node in run.fleet.nodes)
    for node in run.fleet.nodes:
        if node.power is Power.ON:
            meters += sum(node.kind.bare * (run.now - node.since[meter]) for meter in node.usable_meters)
    meters += sum(run.fleet.joules(pod, float(run.now)) for pod in run.fleet.all_pods())

    assert outcome.fleet.value == pytest.approx(meters, rel=1e-9)
    assert outcome.energy.value == pytest.approx(float(run.recorder.joules(run.now).sum()), rel=1e-12)


def test_a_variant_that_fits_on_no_node_is_refused_with_what_to_do() -> None:
    fine = setup()
    with pytest.raises(SetupError, match="add such nodes"):
        Setup(nodes=(), services=fine.services)


def test_loading_draws_loading_watts() -> None:
    run = simulation(Written(np.zeros((1, 200))), setup(replicas=0, start=STARTED))
    run.ask(0, 0, 1)
    run.advance(200)
    phases = run.recorder.outcome(run.run).services[0].phases

    assert phases.pulling == pytest.approx(TABLE.bare * 20)
    assert phases.loading == pytest.approx(TABLE.loading * 50)


def test_engines_that_take_prompts_in_pieces_start_once_and_can_be_limited_in_power_too() -> None:
    load = Written(poisson(6, 600), prompt=2048.0, output=28.0, cv=0.9)
    runs = [simulation(load, setup(replicas=2)) for _ in range(2)]
    pieces = runs[1]
    assert pieces.fleet.limit_steps(0, 0, 350)
    assert not pieces.fleet.limit_steps(0, 0, 350)
    for run in runs:
        run.advance(300)
    good = [run.recorder.outcome(run.run).services[0].good for run in runs]
    assert good[1] > good[0]
    assert [int(run.fleet.sums.starts[0]) for run in runs] == [2, 4]

    pieces.fleet.limit(0, 400.0)
    assert pieces.fleet.limit_steps(0, 0, None)
    pieces.fleet.limit(0, None)
    for run in runs:
        run.advance(600)
    assert float(np.diff([run.recorder.joules(600)[0] for run in runs])[0]) > 0


def test_a_lower_clock_draws_less_takes_longer_and_ends() -> None:
    load = Written(poisson(4, 600))
    runs = [simulation(load, setup(replicas=2)) for _ in range(2)]
    plain, slowed = runs
    slowed.fleet.clock(0, 0.7)
    for run in runs:
        run.advance(300)
    used = [float(run.recorder.joules(300)[0]) for run in runs]
    assert 0.7 < used[1] / used[0] < 0.9
    assert slowed.engines.in_work[0] > plain.engines.in_work[0]

    slowed.fleet.clock(0, None)
    for run in runs:
        run.advance(600)
    later = [float(run.recorder.joules(600)[0]) - before for run, before in zip(runs, used, strict=True)]
    assert later[1] == pytest.approx(later[0], rel=0.02)


def test_engines_that_are_to_let_their_clocks_fall_start_once_and_draw_less() -> None:
    runs = [simulation(Written(np.zeros((1, 900))), setup(replicas=2)) for _ in range(2)]
    plain, throttled = runs
    assert throttled.fleet.throttle(0, 0, on=True)
    assert not throttled.fleet.throttle(0, 0, on=True)
    for run in runs:
        run.advance(900)
    start = plain.setup.services[0].variants[0].start.load * TABLE.loading * 2
    used = [float(run.recorder.joules(900.0)[0]) for run in runs]
    assert used[1] == pytest.approx(used[0] - 2 * 900 * (TABLE.context - TABLE.bare) + start)
    assert [int(run.fleet.sums.starts[0]) for run in runs] == [2, 4]
    assert sum(run.fleet.joules(pod, 900.0) for run in runs[1:] for pod in run.fleet.all_pods()) == pytest.approx(
        used[1]
    )
