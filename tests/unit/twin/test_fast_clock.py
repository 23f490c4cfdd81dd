"""The fast clock: nothing is lost, energy is the integral of power, and engines do what the event engine does."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clocks.nearness import kept
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.simulation.crowding import OLDEST
from fallow.twin.simulation.demand import Spread
from fallow.twin.simulation.engines import Engines, Pools
from fallow.twin.simulation.sight import LATENCY_BOUNDS, places_of
from fallow.twin.simulation.steady import steady
from fallow.twin.simulation.table import EngineTable
from tests.support.clocks import Load, both_clocks
from tests.support.fleets import TABLE, Written, poisson, setup, simulation


def engines(
    table: EngineTable = TABLE,
    *,
    prompt_cv: float = 0.0,
    output_cv: float = 0.0,
    ttft: float = 1.0,
    itl: float = 0.025,
) -> Engines:
    spread = Spread(np.array([prompt_cv]), np.array([output_cv]), np.zeros(1))
    return Engines(Pools([table], np.array([0]), spread, np.array([ttft]), np.array([itl])))


@pytest.mark.parametrize(
    ("rate", "prompt", "output", "replicas", "chunk", "seconds"),
    [
        pytest.param(0.3, 1155, 211, 1, None, 600, id="next to nothing"),
        pytest.param(6, 1155, 211, 1, None, 300, id="busy"),
        pytest.param(11, 1263, 206, 1, None, 300, id="too busy"),
        pytest.param(20, 1155, 211, 4, None, 150, id="four replicas"),
        pytest.param(4, 2048, 28, 1, None, 300, id="long prompts, short answers"),
        pytest.param(32, 2048, 28, 8, None, 90, id="such on eight replicas"),
        pytest.param(3, 2048, 28, 1, 350, 300, id="such in small pieces"),
        pytest.param(40, 2048, 28, 8, 350, 90, id="such in small pieces on eight replicas"),
    ],
)
def test_energy_and_attainment_are_those_of_the_event_engine(
    rate: float, prompt: float, output: float, replicas: int, chunk: int | None, seconds: int
) -> None:
    limits = EngineLimits() if chunk is None else EngineLimits(chunk_tokens=chunk)
    event, fast = both_clocks(Load(rate, prompt, output, replicas, seconds, ttft=1.0, itl=0.025, limits=limits))

    totals = fast.after.totals
    assert totals.joules.sum() == pytest.approx(event.energy.value, rel=0.025)
    assert totals.generated.sum() == pytest.approx(event.generated_tokens, rel=0.04)
    assert kept(fast) == pytest.approx(event.attainment, abs=0.035)


@given(
    seed=st.integers(0, 1000),
    rate=st.floats(0.0, 40.0),
    asked=st.lists(st.integers(0, 6), min_size=1, max_size=8),
)
@settings(max_examples=25, deadline=None)
def test_no_request_is_lost_or_served_twice(seed: int, rate: float, asked: list[int]) -> None:
    run = simulation(Written(poisson(rate, 30 * len(asked), seed=seed)), setup(minimum=0))
    for step, replicas in enumerate(asked):
        run.ask(0, 0, replicas)
        run.advance(30 * (step + 1))

    fast = run.engines
    somewhere = fast.waiting + fast.by_service(fast.in_work + fast.after.totals.done) + fast.failed
    assert somewhere == pytest.approx(fast.arrived, abs=1e-6)


def test_hours_of_spells_and_flapping_leave_every_sum_finite() -> None:
    arrivals = poisson(6, 3600, seed=0)
    arrivals[0, np.arange(3600) // 300 % 3 > 0] = 0
    run = simulation(Written(arrivals, prompt=9000.0), setup(minimum=0))
    generator = np.random.default_rng(0)
    with np.errstate(all="raise", under="ignore"):
        while not run.ended:
            run.ask(0, 0, int(generator.integers(0, 7)))
            run.advance(run.now + 5)
            assert min(run.engines.batch.min(), run.engines.prefilling.min()) >= 0

    totals, after = run.engines.after.totals, run.engines.after
    assert all(np.isfinite(getattr(totals, one.name)).all() for one in fields(totals))
    assert (run.engines.in_work >= 0).all()
    assert (after.kept <= 1 + 1e-9).all()
    assert totals.good.sum() <= totals.done.sum() * (1 + 1e-9)


@pytest.mark.parametrize("cv", [0.0, 0.9, 2.15])
def test_in_a_quiet_night_answers_do_not_grow_old_without_end(cv: float) -> None:
    fast = engines(output_cv=cv)
    fast.join(0)
    lengths = np.full((1, 15), 300.0), np.full((1, 15), 200.0)
    with np.errstate(all="raise", under="ignore"):
        for busy in (*[8.0] * 40, *[0.0] * 240):
            fast.advance(np.full((1, 15), busy), *lengths)
            assert 0 <= fast.after.age[0] <= OLDEST * 200 * (1 + cv**2) / 2 * (1 + 1e-9)


def test_cache_use_counts_answers_as_long_as_they_are_found() -> None:
    fast = engines(output_cv=0.9)
    fast.join(0)
    for _ in range(40):
        fast.advance(np.full((1, 15), 8.0), np.full((1, 15), 300.0), np.full((1, 15), 200.0))

    held = fast.batch[0] * (300 + 200 * (1 + 0.9**2) / 2) + fast.prefilling[0] * 300
    assert fast.kv_usage[0] == pytest.approx(held / TABLE.cache, rel=0.02)


@given(seed=st.integers(0, 1000), rate=st.floats(0.0, 20.0), more=st.floats(1.0, 3.0))
@settings(max_examples=20, deadline=None)
def test_more_load_never_costs_less_energy(seed: int, rate: float, more: float) -> None:
    less = poisson(rate, 300, seed=seed)
    runs = [simulation(Written(np.round(less * factor)), setup(replicas=2)) for factor in (1.0, more)]
    for run in runs:
        run.advance(300)

    joules = [float(run.recorder.joules(run.now).sum()) for run in runs]
    assert joules[0] <= joules[1] * (1 + 1e-9)


def test_the_same_seed_gives_the_same_outcome() -> None:
    outcomes = []
    for _ in range(2):
        run = simulation(Written(poisson(8, 300, seed=1)))
        run.ask(0, 0, 3)
        run.advance(300)
        outcomes.append(run.recorder.outcome(run.run).services)

    assert outcomes[0] == outcomes[1]


def test_a_constant_load_comes_to_its_steady_state() -> None:
    fast = engines()
    fast.join(0)
    for _ in range(40):
        fast.advance(np.full((1, 15), 8.0), np.full((1, 15), 300.0), np.full((1, 15), 200.0))
    expected = steady(TABLE, np.array(8.0), np.array(300.0), np.array(200.0))

    assert fast.batch[0] == pytest.approx(float(expected.batch), rel=0.02)


def test_watts_of_a_replica_without_work_are_those_of_its_context() -> None:
    run = simulation(Written(np.zeros((1, 600))))
    run.advance(600)

    assert float(run.recorder.joules(600)[0]) == pytest.approx(TABLE.context * 600, rel=1e-6)


def test_a_service_without_replicas_holds_its_requests_and_serves_them_late() -> None:
    arrivals = np.zeros((1, 300))
    arrivals[0, 0] = 10
    run = simulation(Written(arrivals), setup(replicas=0, minimum=0))
    run.ask(0, 0, 1)
    run.advance(300)
    one = run.recorder.outcome(run.run).services[0]

    assert one.done == pytest.approx(10, abs=0.01)
    assert one.good == pytest.approx(0, abs=0.01)
    assert one.ttft_p50 is not None
    assert one.ttft_p50 > 40


@pytest.mark.parametrize(("rate", "replicas"), [(0.02, 1), (0.2, 1), (0.2, 4), (2.0, 4)])
def test_clocks_fall_as_those_of_the_event_engine(rate: float, replicas: int) -> None:
    seconds = {0.02: 2400, 0.2: 1200, 2.0: 300}[rate]
    event, fast = both_clocks(
        Load(rate, 600, 80, replicas, seconds, cv=0.5, ttft=0.15, itl=0.025, throttles=True, seed=5)
    )

    assert fast.after.totals.joules.sum() == pytest.approx(event.energy.value, rel=0.06)
    assert event.attainment is not None
    # of several idle replicas the event engine's router takes the same one, the fast clock any of them
    warmer = 0.0 if replicas == 1 else 0.3
    assert event.attainment - 0.06 - warmer <= kept(fast) <= event.attainment + 0.03


def test_an_idle_engine_whose_clocks_fall_draws_what_an_empty_gpu_does() -> None:
    plain, throttled = engines(), engines()
    throttled.after.throttle(0, on=True)
    nothing = np.zeros((1, 15))
    for one in (plain, throttled):
        one.join(0)
        for _ in range(4):
            one.advance(nothing, nothing + 100, nothing + 10)
    assert plain.after.totals.joules.sum() == pytest.approx(60 * TABLE.context)
    assert throttled.after.totals.joules.sum() == pytest.approx(60 * TABLE.bare)
    assert throttled.after.totals.idle.sum() == pytest.approx(throttled.after.totals.joules.sum())


@given(st.lists(st.floats(0, 200) | st.sampled_from([*LATENCY_BOUNDS]), min_size=1))
def test_latencies_are_counted_under_the_first_bound_that_is_not_below_them(latencies: list[float]) -> None:
    assert places_of(np.array(latencies)).tolist() == np.searchsorted(LATENCY_BOUNDS, latencies).tolist()
