"""Latency quantiles of a window: the difference of cumulative histograms, read as Prometheus reads them."""

from dataclasses import replace
from itertools import accumulate
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Missing
from fallow.domain.readings import Histogram, Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.planner.latency import merged_difference, quantile, quantiles
from tests.support.builders import NOW, Scene, engine, ref
from tests.unit.planner.asking import estimated

BOUNDS = (0.1, 0.5, 1.0, inf)


def counts(*cumulative: float, bounds: tuple[float, ...] = BOUNDS) -> Histogram:
    return Histogram(bounds, cumulative)


@pytest.mark.parametrize(
    ("q", "cumulative", "seconds"),
    [
        (0.5, (10, 10, 10, 10), 0.05),
        (0.95, (0, 100, 100, 100), 0.48),
        (0.5, (10, 20, 20, 20), 0.1),
        (0.95, (80, 90, 100, 100), 0.75),
        (0.95, (50, 50, 100, 100), 0.95),
        (0.95, (0, 0, 90, 100), 1.0),
        (0.95, (0, 0, 0, 100), 1.0),
    ],
    ids=[
        "inside the first bucket, from zero",
        "inside a middle bucket",
        "exactly on a bound",
        "inside the last bounded bucket",
        "past an empty bucket",
        "in the unbounded bucket, the last bound",
        "all in the unbounded bucket, the last bound",
    ],
)
def test_quantiles_equal_those_of_histogram_quantile(q: float, cumulative: tuple[float, ...], seconds: float) -> None:
    assert quantile(counts(*cumulative), q) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("histogram", "reason"),
    [
        (None, Reason.NO_SERIES),
        (counts(0, 0, 0, 0), Reason.NO_WORK),
        (counts(100, bounds=(inf,)), Reason.NO_SERIES),
    ],
    ids=["none exposed", "nothing finished", "no bound at all"],
)
def test_a_quantile_that_cannot_be_known_says_why(histogram: Histogram | None, reason: Reason) -> None:
    found = quantile(histogram, 0.95)
    assert isinstance(found, Missing)
    assert found.reason is reason


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(counts(1, 2, 3, 4), counts(2, 4, 6, 8)), (None, counts(1, 1, 1, 1))], (2, 3, 4, 5)),
        ([(counts(50, 60, 70, 80), counts(1, 2, 2, 2))], (1, 2, 2, 2)),
        ([(counts(5, 5, 5, 5), counts(0, 9, 9, 9))], (0, 9, 9, 9)),
        ([(counts(1, 2, bounds=(1.0, inf)), counts(2, 4, 6, 8))], (2, 4, 6, 8)),
        ([(counts(1, 1, 1, 1), None)], None),
        ([], None),
    ],
    ids=[
        "pods add up",
        "an engine that restarted counts from zero",
        "one that restarted and passed its old total too",
        "an engine that came back with other bounds counts from zero",
        "a pod that exposes none",
        "no pods",
    ],
)
def test_a_window_is_the_difference_between_its_ends(
    pairs: list[tuple[Histogram | None, Histogram | None]], expected: tuple[float, ...] | None
) -> None:
    found = merged_difference(pairs)
    assert (tuple(found.counts) if found else None) == expected


def test_pods_with_differing_bounds_are_added_at_the_bounds_they_share() -> None:
    fine = counts(1, 2, 3, 4, bounds=(0.1, 0.5, 1.0, inf))
    coarse = counts(10, 20, 30, bounds=(0.1, 1.0, inf))
    assert merged_difference([(None, fine), (None, coarse)]) == counts(11, 23, 34, bounds=(0.1, 1.0, inf))


@st.composite
def windows(draw: st.DrawFn) -> list[tuple[Histogram | None, Histogram | None]]:
    """Pods of one service, new ones, restarted ones and ones with other bounds among them."""

    def histogram() -> Histogram | None:
        bounds = draw(st.sampled_from([BOUNDS, BOUNDS, (0.1, 1.0, inf), (inf,)]))
        added = draw(st.lists(st.integers(0, 50), min_size=len(bounds), max_size=len(bounds)))
        return draw(st.sampled_from([Histogram(bounds, tuple(accumulate(added))), None]))

    return [(histogram(), histogram()) for _ in range(draw(st.integers(0, 4)))]


@given(st.lists(windows(), max_size=5), st.sampled_from([0.5, 0.95]))
def test_quantiles_of_many_services_at_once_are_those_of_each(
    many: list[list[tuple[Histogram | None, Histogram | None]]], q: float
) -> None:
    found = quantiles(dict(enumerate(many)), q)
    for place, pairs in enumerate(many):
        alone, here = quantile(merged_difference(pairs), q), found[place]
        if isinstance(alone, Missing) or isinstance(here, Missing):
            assert here == alone
        else:
            assert here == pytest.approx(alone)


SLOW_SINCE_START = counts(0, 0, 0, 1000)
AND_FAST_NOW = counts(100, 100, 100, 1100)


def seen(histogram: Histogram, seconds_ago: float = 0) -> Readings:
    at = Instant(NOW - seconds_ago)
    return Readings(at=at, engines={ref("bf16-0"): engine(at, ttft=histogram)})


def test_the_window_of_the_estimate_leaves_out_what_was_before_it() -> None:
    scene = Scene(readings=seen(AND_FAST_NOW), earlier=seen(SLOW_SINCE_START, 120))
    assert estimated(scene).ttft_p95 == pytest.approx(0.095)


def test_right_after_a_restart_the_engines_life_is_not_taken_for_the_window() -> None:
    snapshot = replace(Scene(readings=seen(AND_FAST_NOW)).snapshot(), earlier=None, previous=None)
    found = estimated(snapshot).ttft_p95
    assert isinstance(found, Missing)
    assert found.reason is Reason.NO_HISTORY


@pytest.mark.parametrize(
    ("started", "known"), [(NOW - 60, True), (NOW - 7200, False)], ids=["started since", "older, but was not read"]
)
def test_a_pod_unseen_at_the_windows_start_counts_only_if_it_started_since(started: float, *, known: bool) -> None:
    snapshot = Scene(readings=seen(AND_FAST_NOW), earlier=Readings(at=Instant(NOW - 120))).snapshot()
    pods = {key: replace(pod, started=Instant(started)) for key, pod in snapshot.cluster.pods.items()}
    found = estimated(replace(snapshot, cluster=replace(snapshot.cluster, pods=pods))).ttft_p95
    assert isinstance(found, Missing) is not known
