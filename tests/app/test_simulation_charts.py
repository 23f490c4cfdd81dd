"""Drawings of a simulation: nothing is left out between samples, axes hold what is drawn, marks are round numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.app.simulation.charts import (
    DAY,
    MOST_TICKS,
    SIDE,
    Scale,
    envelope,
    over_time,
    scale,
    stacked,
    times,
)

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


@given(values, st.integers(1, 60))
def test_an_envelope_keeps_the_extremes_and_the_mean(found: list[float], most: int) -> None:
    samples = np.array(found)
    ends = np.arange(1.0, len(found) + 1)
    kept = envelope(ends, samples, most)
    lengths = np.diff(kept.ends, prepend=0.0)

    assert len(kept.ends) == min(most, len(found))
    assert kept.ends[-1] == ends[-1]
    assert kept.low.min() == samples.min()
    assert kept.high.max() == samples.max()
    assert np.average(kept.mean, weights=lengths) == pytest.approx(samples.mean())


@given(st.floats(1e-6, 1e9), st.booleans())
def test_a_scale_holds_the_highest_value_with_few_marks(reach: float, whole: bool) -> None:
    axis = scale(reach, whole=whole)

    assert axis.top >= reach * (1 - 1e-8)
    assert 2 <= len(axis.marks) <= MOST_TICKS + 1
    assert not whole or axis.every == int(axis.every)


@pytest.mark.parametrize(
    ("reach", "whole", "marks"),
    [
        (0, False, ["0", "1"]),
        (25, False, ["0", "10", "20", "30"]),
        (0.3, False, ["0", "0.1", "0.2", "0.3"]),
        (0.3, True, ["0", "1"]),
        (7000, False, ["0", "2,000", "4,000", "6,000", "8,000"]),
    ],
)
def test_marks_are_round(reach: float, whole: bool, marks: list[str]) -> None:
    assert [mark.text for mark in scale(reach, whole=whole).marks] == marks


@pytest.mark.parametrize(
    ("seconds", "first", "last", "count"),
    [
        (1800, "0 min", "20 min", 3),
        (6 * 3600, "0 h", "5 h", 6),
        (DAY, "0 h", "21 h", 8),
        (7 * DAY, "day 1", "day 7", 7),
        (28 * DAY, "day 1", "day 22", 4),
    ],
)
def test_time_is_marked_in_units_that_suit_it(seconds: float, first: str, last: str, count: int) -> None:
    marks = times(seconds)

    assert (marks[0].text, marks[-1].text, len(marks)) == (first, last, count)
    assert all(0 <= mark.share < 1 for mark in marks)


def test_a_run_of_no_length_has_no_marks() -> None:
    assert times(0) == ()


def test_a_path_is_a_staircase_from_edge_to_edge() -> None:
    plot = over_time("watts", envelope(np.array([10.0, 20.0]), np.array([1.0, 3.0]), 9), Scale(4.0, 1.0), "W")

    assert plot.line == "M0 750H500V250H1000"
    assert plot.band == ""
    assert plot.said == "watts: mean 2 W, 1 to 3"


def test_parts_stand_on_each_other_and_the_band_reaches_the_highest() -> None:
    ends = np.array([10.0, 20.0, 30.0, 40.0])
    first, second = np.array([1.0, 1.0, 2.0, 2.0]), np.array([0.0, 2.0, 0.0, 0.0])
    parts = {"bf16": envelope(ends, first, 2), "fp8": envelope(ends, second, 2), "int4": envelope(ends, 0 * first, 2)}
    plot = stacked("replicas", parts, envelope(ends, first + second, 2), Scale(4.0, 1.0), "replicas")

    assert [area.name for area in plot.areas] == ["bf16", "fp8"]
    assert plot.areas[0].path == "M0 750H500V500H1000V1000H0Z"
    assert plot.areas[1].path == "M0 500H1000V500H500V750H0Z"
    assert plot.band == "M0 250H500V500H1000V500H0Z"
    assert plot.said == "replicas: mean 2 replicas, at most 3; bf16 1.5, fp8 0.5"


@given(values)
def test_paths_stay_within_the_drawing(found: list[float]) -> None:
    ends = np.arange(1.0, len(found) + 1)
    kept = envelope(ends, np.array(found), 20)
    plot = over_time("x", kept, scale(max(found)), "W")

    assert all(0 <= int(number) <= SIDE for number in re.findall(r"-?\d+", plot.line + plot.band))
