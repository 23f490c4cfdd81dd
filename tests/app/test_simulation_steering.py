"""Fallow's own cycle on a simulated fleet: what it reads adds up, and it does what it does on a cluster."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest

from fallow.app.simulation.steering import Steering, steered
from fallow.domain.figures import Missing
from fallow.domain.policies import IdleRules
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Objectives, Service, Wake
from fallow.domain.zones import IntensitySource, Zone
from fallow.ports import ReadScope
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.ports import Declared, FleetCluster, FleetMetrics, GridCarbon
from fallow.twin.simulation.result import Outcome
from fallow.twin.simulation.run import Simulation
from fallow.twin.simulation.setup import Sleep
from tests.support.builders import policy
from tests.support.builders import service as built
from tests.support.fleets import CHAT, GRID, TABLE, TOLD, Written, poisson, setup, simulation

ZONE = Zone("home", IntensitySource(GridCarbon.KIND, {"zone": "home"}), is_default=True)
NOW = Instant(TOLD.began)


def service(*, minimum: int = 1, concurrency: float = 10.0) -> Service:
    return built(
        key=CHAT,
        minimum=minimum,
        maximum=8,
        concurrency=concurrency,
        objectives=Objectives(Seconds(2), Seconds(0.08)),
        wake=Wake("held", {"service": "chat"}),
    )


def declared(**more: int) -> Declared:
    return Declared([service(**more)], [policy(idle_after=120)], [ZONE])


def drive(arrivals: Array, *, minimum: int = 1, replicas: int = 1) -> Outcome:
    return steered(
        setup(minimum=minimum, replicas=replicas), Written(arrivals), GRID, declared(minimum=minimum), told=TOLD
    )


def test_more_load_brings_replicas_with_the_reason() -> None:
    outcome = drive(np.concatenate((poisson(2, 200), poisson(25, 400)), axis=1))
    first = outcome.decisions[0]

    assert first.action == "ScaleUp"
    assert first.lever == "Replicas"
    assert "requests in flight" in first.message
    assert outcome.series.ready["bf16"][-1, 0] > 1


def test_a_service_without_work_rests_and_a_held_request_wakes_it() -> None:
    arrivals = np.zeros((1, 900))
    arrivals[0, :60], arrivals[0, 500] = 3, 2
    outcome = drive(arrivals, minimum=0)

    assert [decided.action for decided in outcome.decisions] == ["Rest", "Wake", "Rest"]
    assert outcome.services[0].done == pytest.approx(arrivals.sum(), abs=0.1)


def on_off(sleep: Sleep | None, *, within: float | None) -> Outcome:
    """Fourteen minutes of silence between two spells, and as long after them."""
    arrivals = np.zeros((1, 2340))
    arrivals[0, 60:360], arrivals[0, 1200:1500] = poisson(2, 300), poisson(2, 300, seed=1)
    rules = IdleRules(after=Seconds(300), wake_within=None if within is None else Seconds(within))
    told = Declared([service(minimum=0)], [policy(idle=rules)], [ZONE])
    return steered(setup(minimum=0, sleep=sleep), Written(arrivals), GRID, told, told=TOLD)


@pytest.mark.parametrize("within", [20.0, None], ids=["who may not wait for a start", "who may"])
def test_engines_that_sleep_wake_sooner_than_released_ones_start(within: float | None) -> None:
    asleep, awake = on_off(Sleep(60.0), within=within), on_off(None, within=within)
    first, other = asleep.services[0], awake.services[0]

    assert first.done == pytest.approx(first.requests)
    assert first.failed == 0
    assert first.ttft_p95 is not None
    if within is None:
        # sleep is over before the release that follows it
        assert [one.action for one in asleep.decisions] == [one.action for one in awake.decisions]
        assert asleep.decisions[0].action == "Rest"
        assert first.wakes == 0
        assert first.ttft_p95 > 20
    else:
        assert asleep.decisions == awake.decisions == ()
        assert first.wakes == 1
        assert first.ttft_p95 <= within
        added = first.wakes * ceil(TABLE.wake[0]) * (TABLE.loading - TABLE.context)
        assert first.energy.value == pytest.approx(other.energy.value + added, rel=1e-3)


async def test_a_sleeping_engine_is_a_ready_pod_that_says_so_and_goes_on_counting() -> None:
    arrivals = np.zeros((1, 400))
    arrivals[0, [10, 300]] = 4
    run = simulation(Written(arrivals), setup(sleep=Sleep(60.0)))
    cluster, metrics = await looked(run)
    found = []
    for until in (60, 200, 301, 340):
        run.advance(until)
        readings = await metrics.read(NOW, ReadScope())
        (pod,) = cluster.view().pods.values()
        (engine,) = readings.engines.values()
        held = [one.value for one in readings.waiting]
        busy = max(gpu.activity.ratio for gpu in readings.gpus.values() if not isinstance(gpu.activity, Missing))
        found.append((engine.asleep, pod.ready, engine.requests, held, busy > 0))

    assert found == [
        (False, True, 4, [], True),
        (True, True, 4, [], False),
        (True, True, 4, [4], False),
        (False, True, 8, [], True),
    ]


def test_the_same_seed_gives_the_same_decisions() -> None:
    first, second = (drive(poisson(12, 400, seed=3)) for _ in range(2))

    assert first.decisions == second.decisions
    assert first.services == second.services


async def looked(run: Simulation) -> tuple[FleetCluster, FleetMetrics]:
    told = declared()
    return FleetCluster(run, told), FleetMetrics(run, told)


async def test_gpu_counters_add_up_to_the_fleet() -> None:
    run = simulation(Written(poisson(6, 300)), setup(replicas=2))
    _, metrics = await looked(run)
    run.advance(100)
    run.ask(0, 0, 4)
    run.advance(300)
    readings = await metrics.read(NOW, ReadScope())
    counted = sum(gpu.counter.joules.value for gpu in readings.gpus.values() if not isinstance(gpu.counter, Missing))

    assert counted == pytest.approx(run.recorder.outcome(run.run).fleet.value, rel=1e-9)


async def test_engines_show_whole_requests_that_add_up() -> None:
    run = simulation(Written(poisson(6, 300)), setup(replicas=3))
    _, metrics = await looked(run)
    run.advance(200)
    readings = await metrics.read(NOW, ReadScope())
    running = sum(engine.running for engine in readings.engines.values())
    finished = sum(engine.requests for engine in readings.engines.values())

    assert running == round(float(run.engines.in_work.sum()))
    assert finished == pytest.approx(float(run.engines.after.totals.done.sum()), abs=3)


async def test_what_is_asked_for_is_seen_through_the_watch() -> None:
    run = simulation(Written(poisson(6, 300)))
    cluster, _ = await looked(run)
    run.advance(15)
    view = cluster.view()
    pods = [pod for pod in view.pods.values() if pod.service == CHAT]

    assert [pod.ready for pod in pods] == [True]
    assert view.workloads[0].replicas == 1


async def test_the_books_of_the_operator_meet_the_truth_of_the_fleet() -> None:
    run = simulation(Written(poisson(6, 7300)), setup(replicas=2))
    steering = Steering(run, declared(), every=60)
    await steering.drive()
    books = steering.books
    assert books is not None
    booked = sum(book.total.account.energy.best.value for book in books.books.values())

    assert booked == pytest.approx(run.recorder.outcome(run.run).fleet.value, rel=0.02)
