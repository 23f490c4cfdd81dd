"""What a request takes at least: never more than what an engine in its steady state takes within the objective."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fallow.twin.bounds.curve import curve_of
from fallow.twin.bounds.oracles import floor, integer
from fallow.twin.bounds.problem import Choices, cost_of
from fallow.twin.simulation.steady import steady
from fallow.twin.simulation.table import EngineTable
from tests.support.fleets import TABLE

# one decode step is 10 ms and 1 ms for each request; 100 W idle and 20 W for each request
PLAIN = EngineTable(
    step=0.010 + 0.001 * np.maximum(np.arange(101.0), 1.0),
    watts=100.0 + 20.0 * np.arange(101.0),
    prefill_rate=1000.0,
    prefill_watts=300.0,
    slots=100,
    cache=1e9,
    gpus=1,
    bare=50.0,
    loading=120.0,
    wake=(1.0, 10.0),
)
NO_PROMPT, ANSWER = np.array([0.0]), np.array([100.0])


@given(
    rate=st.floats(0.05, 60.0),
    prompt=st.floats(1.0, 3000.0),
    output=st.floats(5.0, 1000.0),
    itl=st.sampled_from([0.0071, 0.0075, 0.008, 0.010, 0.025, 0.1, inf]),
    replicas=st.integers(1, 64),
)
@settings(max_examples=60, deadline=None)
def test_no_steady_fleet_within_the_objective_draws_less(
    rate: float, prompt: float, output: float, itl: float, replicas: int
) -> None:
    each = steady(TABLE, np.array(rate / replicas), np.array(prompt), np.array(output))
    assume(bool(each.fits) and each.itl <= itl)

    of = cost_of(np.array([rate]), np.array([prompt]), np.array([output]), Choices([TABLE], itl, 0, 64, 0.0))

    assert of.needed[0] <= replicas
    assert floor(of) <= integer(of) <= each.watts * replicas * (1 + 1e-6)


def test_a_mean_batch_between_whole_numbers_counts() -> None:
    found = curve_of(PLAIN).request(NO_PROMPT, ANSWER, 0.0125)  # 2.5 requests

    assert found.seconds == pytest.approx(100 * 0.0125 / 2.5)


def test_prompts_lengthen_the_gap_and_lower_the_batch() -> None:
    found = curve_of(PLAIN).request(np.array([500.0]), ANSWER, 0.022)  # 10 + b + 5 b ms

    assert found.seconds == pytest.approx(100 * 0.012 / 2.0 + 0.5)


def test_the_cache_and_the_slots_limit_the_batch() -> None:
    small = curve_of(replace(PLAIN, cache=400.0)).request(NO_PROMPT, ANSWER, inf)
    large = curve_of(PLAIN).request(NO_PROMPT, ANSWER, inf)

    assert (small.seconds[0], large.seconds[0]) == pytest.approx((100 * 0.014 / 4, 100 * 0.110 / 100))


def test_an_objective_that_is_met_nowhere_leaves_one_request_at_a_time() -> None:
    found = curve_of(PLAIN).request(NO_PROMPT, ANSWER, 0.001)

    assert found.seconds == pytest.approx(100 * 0.011)


def test_joules_beyond_the_context_are_those_of_the_best_batch() -> None:
    found = curve_of(PLAIN).request(np.array([100.0]), ANSWER, inf)

    # each request adds 20 W to a step: that is least alone, where steps are short; with the context at 7
    assert found.beyond == pytest.approx(100 * 20 * 0.011 + 0.1 * 200)
    assert found.all_in == pytest.approx(100 * 240 * 0.017 / 7 + 0.1 * 300)


@given(prompt=st.floats(1.0, 3000.0), output=st.floats(5.0, 1000.0), itl=st.floats(0.001, 0.2))
@settings(max_examples=50, deadline=None)
def test_without_an_objective_a_request_takes_no_more(prompt: float, output: float, itl: float) -> None:
    curve = curve_of(TABLE)
    kept, free = (curve.request(np.array([prompt]), np.array([output]), one) for one in (itl, inf))

    assert free.seconds <= kept.seconds
    assert free.all_in <= kept.all_in
    assert free.beyond <= kept.beyond
