"""Engines that sleep on the fast clock: as those of the real-time twin do, and no request or joule is lost by it."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import Gpu
from fallow.twin.physics.engine import Engine, EngineLimits, EngineState
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.fleet import Life, Pod
from fallow.twin.simulation.machines import Power
from fallow.twin.simulation.run import Simulation
from fallow.twin.simulation.setup import NodeLoss, PowerOff, Sleep
from fallow.twin.simulation.table import table_of
from tests.support.fleets import TABLE, Written, poisson, setup, simulation

LIGHT, DEEP = Sleep(60.0, 1), Sleep(60.0, 2)
# Seconds of a random life: twice as long as an empty node is left on, so that one is powered off.
LIVED = 240


def spells(*at: int, seconds: int = 900, services: int = 1) -> Array:
    """Three requests at each of these seconds."""
    arrivals = np.zeros((services, seconds))
    arrivals[:, list(at)] = 3.0
    return arrivals


def only(run: Simulation) -> Pod:
    (pod,) = run.fleet.all_pods()
    return pod


def changes(run: Simulation) -> list[tuple[int, Life]]:
    """When the only replica was found in another state, and in which."""
    found = [(0, only(run).life)]
    while not run.ended:
        run.advance(run.now + 1)
        if only(run).life is not found[-1][1]:
            found.append((run.now, only(run).life))
    return found


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize(
    ("model", "precision", "gpus"),
    [("8b", Precision.BF16, 1), ("8b", Precision.FP8, 1), ("70b", Precision.BF16, 4)],
)
def test_both_clocks_agree_on_the_wake_and_on_what_is_drawn_until_then(
    model: str, precision: Precision, gpus: int, level: int
) -> None:
    law = law_for(Gpu.H100, model, precision, gpus)
    table = table_of(law)
    engine = Engine(law, EngineLimits(), now=0.0)
    engine.sleep(level)
    asleep = engine.watts()
    engine.advance(100.0)
    takes = engine.wake()
    waking = engine.watts()
    engine.advance(100.0 + takes)

    assert engine.state is EngineState.AWAKE
    assert table.wake[level - 1] == pytest.approx(takes)
    assert table.context == pytest.approx(asleep)
    assert table.loading == pytest.approx(waking)
    assert engine.joules == pytest.approx(100.0 * table.context + takes * table.loading)


@pytest.mark.parametrize("rule", [LIGHT, DEEP], ids=["level 1", "level 2"])
def test_a_replica_sleeps_after_a_quiet_and_the_next_request_wakes_it(rule: Sleep) -> None:
    wakes = TABLE.wake[rule.level - 1]
    run = simulation(Written(spells(10, 400, seconds=600)), setup(sleep=rule))
    (_, slept, waking, awake, again) = changes(run)

    assert slept[1] is Life.SLEEPING
    assert 10 + rule.after < slept[0] <= 10 + rule.after + 5
    # found at the end of the second in which the request came
    assert waking == (401, Life.WAKING)
    assert awake == (400 + ceil(wakes) + 1, Life.READY)
    assert again[1] is Life.SLEEPING


def test_what_comes_meanwhile_waits_outside_and_is_answered_late_but_once() -> None:
    run = simulation(Written(spells(10, 400)), setup(sleep=DEEP))
    run.advance(410)
    held = run.engines.waiting.sum()
    run.advance(900)
    service = run.recorder.outcome(run.run).services[0]

    assert held == 3
    assert (service.requests, service.failed, service.wakes, service.starts) == (6, 0, 1, 1)
    assert service.done == pytest.approx(6)
    assert service.attainment == pytest.approx(0.5, abs=0.01)
    assert service.ttft_p95 is not None
    assert TABLE.wake[1] < service.ttft_p95 <= 20


def test_a_night_asleep_is_all_idle_watts_of_the_context_but_for_the_wake() -> None:
    run = simulation(Written(spells(400)), setup(sleep=LIGHT))
    run.advance(395)
    assert run.recorder.joules(395.0)[0] == pytest.approx(395 * TABLE.context)
    run.advance(900)
    service = run.recorder.outcome(run.run).services[0]
    awake = simulation(Written(spells(400)), setup())
    awake.advance(900)
    other = awake.recorder.outcome(awake.run).services[0]

    # up to the next whole second
    added = ceil(TABLE.wake[0]) * (TABLE.loading - TABLE.context)
    assert service.energy.value == pytest.approx(other.energy.value + added, rel=1e-4)
    assert service.phases.loading == 0
    assert service.phases.active == pytest.approx(other.phases.active, rel=0.01)


def test_one_whose_clocks_fall_sleeps_at_the_watts_of_an_empty_gpu() -> None:
    run = simulation(Written(spells(10)), setup(sleep=LIGHT))
    run.fleet.throttle(0, 0, on=True)
    run.advance(100)
    before = run.fleet.joules(only(run), 100.0)
    run.advance(300)

    assert only(run).life is Life.SLEEPING
    assert run.fleet.joules(only(run), 300.0) - before == pytest.approx(200 * TABLE.bare)


def test_requests_keep_it_awake_and_other_services_asleep() -> None:
    arrivals = np.zeros((2, 600))
    arrivals[0, ::50] = 1.0
    run = simulation(Written(arrivals), setup(services=2, sleep=LIGHT))
    run.advance(600)

    assert [pod.life for pod in run.fleet.all_pods()] == [Life.READY, Life.SLEEPING]


def test_without_a_rule_nothing_sleeps() -> None:
    run = simulation(Written(spells(10, seconds=300)), setup())
    assert [life for _, life in changes(run)] == [Life.READY]


def test_one_that_sleeps_goes_before_one_that_serves_and_its_gpu_is_free_again() -> None:
    run = simulation(Written(spells(10)), setup(replicas=2, sleep=LIGHT))
    run.advance(200)
    run.ask(0, 0, 3)
    run.advance(270)
    kept = [pod.life for pod in run.fleet.all_pods()]
    run.ask(0, 0, 1)
    run.advance(275)

    assert kept == [Life.SLEEPING, Life.SLEEPING, Life.READY]
    assert only(run).life is Life.READY
    assert run.fleet.asleep[0] == 0
    assert sum(len(node.free) for node in run.fleet.nodes) == 15


def test_those_whose_node_is_lost_asleep_are_made_anew() -> None:
    run = simulation(Written(spells(10, 400)), replace(setup(sleep=LIGHT), faults=(NodeLoss(200),)))
    run.advance(900)

    assert run.engines.failed.sum() == 0
    assert run.recorder.outcome(run.run).services[0].done == pytest.approx(6)
    assert run.fleet.sums.starts[0] == 2


def met(run: Simulation) -> float:
    """Joules by the meters of all GPUs."""
    meters = sum(sum(node.closed) for node in run.fleet.nodes)
    for node in run.fleet.nodes:
        if node.power is Power.ON:
            meters += sum(node.kind.bare * (run.now - node.since[gpu]) for gpu in node.free)
    return meters + sum(run.fleet.joules(pod, float(run.now)) for pod in run.fleet.all_pods())


def lived(seed: int, rule: Sleep, *, throttled: bool) -> tuple[Simulation, float]:
    """Two services in spells, with replicas asked for at random, looked at each second; gives the integral of what all
    replicas in sleep mode drew, too.
    """
    generator = np.random.default_rng(seed)
    busy = np.repeat(generator.random((2, 8)) < 0.3, LIVED // 8, axis=1)
    run = simulation(
        Written(poisson(0.5, LIVED, seed=seed, services=2) * busy),
        setup(services=2, sleep=rule, power_off=PowerOff(after=120, boot=60)),
    )
    run.fleet.throttle(1, 0, on=throttled)
    asleep = 0.0
    while not run.ended:
        if run.now % 60 == 0:
            for service in range(2):
                run.ask(service, 0, int(generator.integers(1, 4)))
        run.advance(run.now + 1)
        for pod in run.fleet.all_pods():
            if pod.life in {Life.SLEEPING, Life.WAKING}:
                asleep += run.fleet.watts_before_ready(pod)
                highest = TABLE.context if pod.life is Life.SLEEPING else TABLE.loading
                assert TABLE.bare <= run.fleet.watts_before_ready(pod) <= highest
    return run, asleep


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    after=st.sampled_from([1.0, 7.5, 30.0, 100.0]),
    level=st.sampled_from([1, 2]),
    throttled=st.booleans(),
)
def test_no_request_and_no_joule_is_lost_by_sleep(seed: int, after: float, level: int, *, throttled: bool) -> None:
    run, asleep = lived(seed, Sleep(after, level), throttled=throttled)
    engines, outcome = run.engines, run.recorder.outcome(run.run)
    there = engines.waiting + engines.by_service(engines.in_work)
    done = engines.by_service(engines.after.totals.done)

    assert done + engines.failed + there == pytest.approx(engines.arrived, abs=1e-6)
    assert engines.failed == pytest.approx(0.0)
    assert outcome.fleet.value == pytest.approx(met(run), rel=1e-9)
    assert sum(one.phases.total for one in outcome.services) == pytest.approx(float(run.recorder.joules(run.now).sum()))
    booked = sum(one.phases.idle for one in outcome.services) - float(engines.after.totals.idle.sum())
    assert booked == pytest.approx(asleep)


def test_the_same_seed_sleeps_alike() -> None:
    first, again = (lived(3, LIGHT, throttled=False)[0] for _ in range(2))
    assert first.fleet.sums.wakes.sum() > 0
    assert np.array_equal(first.recorder.joules(LIVED), again.recorder.joules(LIVED))
    assert np.array_equal(first.fleet.sums.wakes, again.fleet.sums.wakes)
