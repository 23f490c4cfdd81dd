"""Waits for first tokens beyond what whole seconds show: theirs of theory, and what a router sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.waits import LOOK_SECONDS, Waits, Work, shown_by_seconds, waits_of
from fallow.twin.world import SLICE_SECONDS


def one(value: float) -> Array:
    return np.array([value])


def waits(use: float, *, seconds: float = 0.07, uneven: float = 1.8, decoding: float = 0.0, replicas: int = 1) -> Waits:
    work = Work(one(use), one(use / seconds), one(seconds), one(uneven))
    return waits_of(work, one(decoding), one(float(replicas)))


def of_all(found: Waits) -> float:
    """The mean wait of those who wait and those who do not."""
    return float((found.share * found.mean)[0])


@pytest.mark.parametrize("ratio", [0.29, 0.5, 1.5])
def test_a_walk_that_is_looked_at_each_second_shows_its_share_of_the_mean(ratio: float) -> None:
    walks = np.random.default_rng(1).standard_normal((10_000, 200)) - ratio
    walks = np.maximum.accumulate(np.cumsum(walks, axis=1), axis=1)[:, -1]
    mean = float(np.maximum(walks, 0.0).mean())

    assert shown_by_seconds(one(ratio))[0] == pytest.approx(mean * 2.0 * ratio, abs=0.03)


def test_the_slower_a_queue_the_more_of_it_shows() -> None:
    shown = shown_by_seconds(np.arange(0.0, 5.0, 0.05))

    assert shown[0] == 1.0
    assert (np.diff(shown) < 0).all()
    assert shown[-1] < 0.001


def test_prompts_that_take_a_moment_wait_as_pollaczek_and_khinchine_say() -> None:
    found = waits(0.3, seconds=0.01)

    assert of_all(found) == pytest.approx(0.3 * 0.01 * 1.8 / (2 * 0.7), rel=0.01)
    assert found.share[0] == pytest.approx(0.3)


def test_a_router_that_sees_no_prompts_gives_each_replica_a_queue_of_its_own() -> None:
    many = waits(0.3, seconds=0.01, decoding=1e9, replicas=8)

    assert of_all(many) == pytest.approx(of_all(waits(0.3, seconds=0.01)), rel=0.02)


@given(
    use=st.floats(0.0, 1.5),
    seconds=st.floats(0.001, 5.0),
    uneven=st.floats(1.0, 6.0),
    decoding=st.floats(0.0, 500.0),
    replicas=st.integers(1, 64),
)
def test_waits_are_finite_and_no_longer_where_the_router_sees_more(
    use: float, seconds: float, uneven: float, decoding: float, replicas: int
) -> None:
    found = waits(use, seconds=seconds, uneven=uneven, decoding=decoding, replicas=replicas)

    assert 0.0 <= found.share[0] <= 1.0
    assert 0.0 <= found.mean[0] < np.inf
    alone = waits(use, seconds=seconds, uneven=uneven, decoding=0.0, replicas=replicas)
    assert found.share[0] >= alone.share[0] - 1e-12


def test_the_router_of_the_event_engine_looks_as_often() -> None:
    assert LOOK_SECONDS == SLICE_SECONDS
