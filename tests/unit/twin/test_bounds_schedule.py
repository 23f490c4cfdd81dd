"""The oracles in small: known answers, no schedule below the best one, and a mixed integer programme that agrees."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds as Between
from scipy.optimize import LinearConstraint, milp

from fallow.twin.bounds.oracles import bounds_of, floor, integer, schedule, schedules
from fallow.twin.bounds.problem import Choices, Cost, Offered, cost_of
from fallow.twin.simulation.table import EngineTable
from tests.support.fleets import TABLE

SECONDS = 60.0
rates = st.lists(st.just(0.0) | st.floats(0.001, 60.0), min_size=1, max_size=8)
CLOCKS = [TABLE.at_clock(share) for share in (1.0, 0.8, 0.5)]
LEAKY = replace(CLOCKS[1], watts=CLOCKS[1].watts + 60.0)
TABLES = st.sampled_from([[TABLE], [TABLE, LEAKY], CLOCKS])


def written(needed: list[int]) -> Cost:
    """100 W a replica and nothing else."""
    nothing = np.zeros(len(needed))
    return Cost(nothing + 100.0, nothing, nothing, np.array(needed), nothing)


def allowed(*, start: float = 9000.0, minimum: int = 0, initial: int = 0, ttft: float = 0.0) -> Choices:
    return Choices([TABLE], 0.025, minimum, 8, start, ttft, initial)


def cost(found: list[float], one: Choices) -> Cost:
    rate = np.array(found)
    return cost_of(rate, np.full(len(rate), 1155.0), np.full(len(rate), 211.0), one, seconds=SECONDS)


@pytest.mark.parametrize(
    ("needed", "start", "initial", "joules"),
    [
        ([1, 0, 1], 3000.0, 0, 2 * 6000 + 2 * 3000),
        ([1, 0, 1], 9000.0, 0, 3 * 6000 + 9000),
        ([1, 0, 1], 3000.0, 1, 2 * 6000 + 3000),
        ([0, 0, 2, 0], 3000.0, 0, 2 * 6000 + 2 * 3000),
        ([3, 1, 2, 3], 7000.0, 3, 10 * 6000 + 7000),
        ([0, 0], 3000.0, 4, 0),
        ([], 3000.0, 2, 0),
    ],
    ids=["stops and starts", "keeps it", "is there", "two at once", "keeps one of two", "nothing to do", "no time"],
)
def test_a_schedule_starts_anew_only_where_that_is_cheaper(
    needed: list[int], start: float, initial: int, joules: float
) -> None:
    assert schedule(written(needed), allowed(start=start, initial=initial), seconds=SECONDS) == pytest.approx(joules)


@given(found=rates, tables=TABLES, initial=st.integers(0, 8), data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_schedule_that_carries_the_demand_costs_less(
    found: list[float], tables: list[EngineTable], initial: int, data: st.DataObject
) -> None:
    one = replace(allowed(initial=initial), tables=tables)
    of = cost(found, one)
    replicas = np.array([data.draw(st.integers(int(least), 8)) for least in of.needed])
    starts = np.maximum(np.diff(replicas, prepend=initial), 0).sum()
    drawn = np.maximum(replicas * of.standing + of.marginal * of.rate, of.least * of.rate)

    least = schedule(of, one, seconds=SECONDS)

    assert floor(of) <= integer(of)
    assert integer(of) * SECONDS <= least * (1 + 1e-9)
    assert least <= (drawn.sum() * SECONDS + starts * one.start) * (1 + 1e-9)


@given(found=rates, tables=TABLES, minimum=st.integers(0, 2), initial=st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_a_mixed_integer_programme_finds_no_other_schedule(
    found: list[float], tables: list[EngineTable], minimum: int, initial: int
) -> None:
    one = replace(allowed(minimum=minimum, initial=initial), tables=tables)
    of = cost(found, one)
    count = len(found)
    # variables: replicas n, starts s >= n - n before, watts w >= those of n replicas and those of the floor
    eye, nothing = np.eye(count), np.zeros((count, count))
    climbs = np.hstack((eye - np.eye(count, k=-1), -eye, nothing))
    draws = np.hstack((np.diag(of.standing), nothing, -eye))
    before = np.zeros(count)
    before[0] = initial
    answer = milp(
        np.concatenate((np.zeros(count), np.full(count, one.start), np.full(count, SECONDS))),
        constraints=[LinearConstraint(climbs, ub=before), LinearConstraint(draws, ub=-of.marginal * of.rate)],
        integrality=np.repeat([1, 1, 0], count),
        bounds=Between(
            np.concatenate((of.needed, before * 0, of.least * of.rate)),
            np.concatenate((np.full(2 * count, one.maximum), np.full(count, np.inf))),
        ),
    )

    assert schedule(of, one, seconds=SECONDS) == pytest.approx(answer.fun, rel=1e-6, abs=1e-6)


@given(needed=st.lists(st.integers(0, 3), min_size=1, max_size=6), start=st.floats(0, 20000.0), data=st.data())
@settings(max_examples=40, deadline=None)
def test_replicas_that_come_and_go_at_any_time_cost_no_less(
    needed: list[int], start: float, data: st.DataObject
) -> None:
    parts, initial = 4, data.draw(st.integers(0, 3))
    of, one = written(needed), allowed(start=start, initial=initial)
    replicas = np.array([data.draw(st.lists(st.integers(0, 4), min_size=parts, max_size=parts)) for _ in needed])
    lacking = replicas.max(axis=1) < needed
    replicas[lacking, data.draw(st.integers(0, parts - 1))] = np.array(needed)[lacking]
    starts = np.maximum(np.diff(replicas.ravel(), prepend=initial), 0).sum()

    least = float(schedules([of], [one], seconds=SECONDS)[0])

    assert least <= replicas.sum() * 100.0 * SECONDS / parts + starts * start + 1e-6
    assert least <= schedule(of, one, seconds=SECONDS)


def test_a_replica_may_be_there_for_part_of_an_interval() -> None:
    of = replace(written([1, 1, 0]), least=np.full(3, 30.0), rate=np.array([1.0, 1.0, 0.0]))  # 30 W at least

    # it comes late in the first interval and leaves early in the second
    assert schedules([of], [allowed(start=3000.0)], seconds=SECONDS) == pytest.approx(2 * 30 * 60 + 3000)
    assert schedules([of], [allowed(start=0.0, minimum=1)], seconds=SECONDS) == pytest.approx(3 * 100 * 60)


@given(found=rates, other=rates)
@settings(max_examples=20, deadline=None)
def test_services_together_cost_what_they_cost_alone(found: list[float], other: list[float]) -> None:
    count = min(len(found), len(other))
    ones = [allowed(initial=3), replace(allowed(start=500.0), maximum=3)]
    costs = [cost(values[:count], one) for values, one in zip((found, other), ones, strict=True)]

    alone = [schedule(of, one, seconds=SECONDS) for of, one in zip(costs, ones, strict=True)]

    assert schedules(costs, ones, seconds=SECONDS, parted=False) == pytest.approx(alone)


@given(found=rates, ttft=st.floats(0.0, 100.0) | st.just(inf))
@settings(max_examples=30, deadline=None)
def test_where_requests_may_wait_longer_no_bound_is_higher(found: list[float], ttft: float) -> None:
    at_once, later = cost(found, allowed()), cost(found, allowed(ttft=ttft))

    assert integer(later) <= integer(at_once)
    assert floor(later) == floor(at_once)


def test_what_may_wait_for_ever_needs_no_replica_but_its_energy() -> None:
    of = cost([5.0, 40.0], allowed(ttft=inf))

    assert of.needed.tolist() == [0, 0]
    assert integer(of) == floor(of) > 0


@given(found=rates)
@settings(max_examples=20, deadline=None)
def test_bounds_are_in_order_to_the_last_digit(found: list[float]) -> None:
    rate = np.array([found, found[::-1]])
    load = Offered(60, rate, np.full(rate.shape, 1155.0), np.full(rate.shape, 211.0))

    of = bounds_of(load, [allowed(initial=1, ttft=1.0), allowed(start=0.0)])

    assert of.floor <= of.integer <= of.schedule
    assert (np.diff(of.by_service, axis=1) >= 0).all()
    assert of.by_service.sum(axis=0) == pytest.approx([of.floor.value, of.integer.value, of.schedule.value])
