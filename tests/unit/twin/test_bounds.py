"""Floor and oracles: each above the one before, the last one exact, all below whatever can be run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds as Between
from scipy.optimize import LinearConstraint, milp

from fallow.twin.bounds.oracles import bounds_of, floor, integer, schedule
from fallow.twin.bounds.problem import Choices, Cost, choices, cost_of, offered
from fallow.twin.simulation.demand import Array
from tests.support.fleets import TABLE, Written, poisson, setup, simulation

SECONDS = 60.0
START = 9000.0
rate_values = st.just(0.0) | st.floats(0.001, 60.0)
rates = st.lists(rate_values, min_size=1, max_size=10)


def allowed(*, minimum: int = 0, maximum: int = 8, itl: float = 0.025) -> Choices:
    return Choices([TABLE], itl, minimum, maximum, START)


def cost(found: list[float], one: Choices) -> Cost:
    rate = np.array(found)
    return cost_of(rate, np.full(len(rate), 1155.0), np.full(len(rate), 211.0), one)


@given(found=rates)
@settings(max_examples=40, deadline=None)
def test_each_bound_is_above_the_one_before(found: list[float]) -> None:
    one = allowed()
    of = cost(found, one)

    assert floor(of) <= integer(of) * (1 + 1e-9)
    assert integer(of) * SECONDS <= schedule(of, one, seconds=SECONDS) * (1 + 1e-9)


@given(found=st.lists(rate_values, min_size=1, max_size=6), minimum=st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_the_schedule_is_that_of_a_mixed_integer_programme(found: list[float], minimum: int) -> None:
    one = allowed(minimum=minimum)
    of = cost(found, one)
    count = len(found)
    # variables: replicas n_t, then starts s_t >= n_t - n_(t-1)
    price = np.concatenate((of.standing * SECONDS, np.full(count, START)))
    climbs = np.eye(count) - np.eye(count, k=-1)
    answer = milp(
        price,
        constraints=LinearConstraint(np.hstack((climbs, -np.eye(count))), ub=0),
        integrality=np.ones(2 * count, dtype=np.int64),
        bounds=Between(np.concatenate((of.needed, np.zeros(count))), np.full(2 * count, one.maximum)),
    )
    assert answer.fun is not None
    expected = answer.fun + float((of.marginal * of.rate).sum()) * SECONDS

    assert schedule(of, one, seconds=SECONDS) == pytest.approx(expected, rel=1e-6)


def test_no_demand_costs_nothing_where_nothing_has_to_run() -> None:
    one = allowed()
    of = cost([0.0, 0.0], one)

    assert (floor(of), integer(of), schedule(of, one, seconds=SECONDS)) == (0.0, 0.0, 0.0)


@given(found=rates, factor=st.floats(1.0, 2.0))
@settings(max_examples=30, deadline=None)
def test_more_demand_never_costs_less(found: list[float], factor: float) -> None:
    one = allowed()
    less = schedule(cost(found, one), one, seconds=SECONDS)

    assert less <= schedule(cost([factor * rate for rate in found], one), one, seconds=SECONDS) * (1 + 1e-9)


def test_a_tighter_objective_never_costs_less() -> None:
    values = [floor(cost([5.0, 20.0], allowed(itl=itl))) for itl in (0.008, 0.012, 0.025, 0.1)]

    assert values == sorted(values, reverse=True)


def test_lower_clocks_only_help_an_oracle_that_may_choose_them() -> None:
    plain = allowed()
    clocks = replace(plain, tables=[TABLE.at_clock(share) for share in (1.0, 0.8, 0.6)])

    assert integer(cost([5.0, 20.0], clocks)) <= integer(cost([5.0, 20.0], plain))


@given(seed=st.integers(0, 100), rate=st.floats(0.5, 25.0), replicas=st.integers(3, 6))
@settings(max_examples=10, deadline=None)
def test_a_fleet_that_serves_everything_in_time_uses_more_than_the_bounds(
    seed: int, rate: float, replicas: int
) -> None:
    arrivals: Array = poisson(rate, 600, seed=seed)
    demand, of = Written(arrivals, prompt=300, output=100), setup(replicas=replicas)
    run = simulation(demand, of)
    run.advance(600)
    found = bounds_of(offered(demand), choices(of))

    assert found.floor <= found.integer <= found.schedule
    assert found.schedule.value <= float(run.recorder.joules(600).sum()) * (1 + 1e-9)
