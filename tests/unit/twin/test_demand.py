"""Demands: named weeks as published, recorded requests exactly, windows with their totals, the same block each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.workloads import ServiceKey
from fallow.twin.demand.bursts import MOST_VARIANCE, Burst, Bursts
from fallow.twin.demand.generated import Generated, Stream
from fallow.twin.demand.lengths import Lengths
from fallow.twin.demand.recorded import Recorded
from fallow.twin.demand.together import Together
from fallow.twin.demand.weeks import DAY, SHAPES, WEEK, Jobs, Sporadic, many, week
from fallow.twin.demand.windows import Window, Windowed, read_servegen
from fallow.twin.rates import Piecewise
from fallow.twin.simulation.demand import Array, Demand
from fallow.twin.traces import TraceError
from fallow.twin.traffic import Arrival

KEY, OTHER = ServiceKey("a", "one"), ServiceKey("a", "two")
LENGTHS = Lengths(600, 200, 1.0, 0.8)


def counts(demand: Demand, seconds: int | None = None, step: int = 3600) -> Array:
    end = seconds or demand.seconds
    return np.concatenate([demand.block(at, min(at + step, end)).arrivals for at in range(0, end, step)], axis=1)


@pytest.mark.parametrize(
    ("name", "millions", "over_mean", "over_valley", "peak"),
    [("coding", 16.80, 3.07, 34.5, 5900.0), ("conversation", 27.30, 1.67, 3.6, 5200.0)],
)
def test_the_named_weeks_have_the_published_figures(
    name: str, millions: float, over_mean: float, over_valley: float, peak: float
) -> None:
    smooth = SHAPES[name].weekly.at(np.arange(0, WEEK, 600.0)) * 60

    assert smooth.mean() * 10_080 / 1e6 == pytest.approx(millions, rel=0.01)
    assert smooth.max() / smooth.mean() == pytest.approx(over_mean, rel=0.01)
    assert smooth.max() / smooth.min() == pytest.approx(over_valley, rel=0.02)
    minutes = counts(week(name, seed=1, days=4))[0, 3 * DAY :].reshape(-1, 60).sum(axis=1)
    assert minutes.max() == pytest.approx(peak, rel=0.12)


@pytest.mark.parametrize(("name", "prompt", "output"), [("coding", 2048, 27.9), ("conversation", 1263, 206.4)])
def test_the_named_weeks_have_the_lengths_of_the_requests_of_2023(name: str, prompt: float, output: float) -> None:
    load = week(name, seed=2, days=0.5).block(36_000, 39_600)
    total = load.arrivals.sum()

    assert (load.arrivals * load.prompt).sum() / total == pytest.approx(prompt, rel=0.03)
    assert (load.arrivals * load.output).sum() / total == pytest.approx(output, rel=0.03)


@given(start=st.integers(0, 7000), length=st.integers(1, 4000))
@settings(max_examples=20, deadline=None)
def test_a_block_is_the_same_however_it_is_asked_for(start: int, length: int) -> None:
    demand = many(2, seed=3, days=0.2)
    stop = min(start + length, demand.seconds)
    whole = demand.block(0, demand.seconds)
    part = demand.block(start, stop)

    np.testing.assert_array_equal(part.arrivals, whole.arrivals[:, start:stop])
    np.testing.assert_array_equal(part.prompt, whole.prompt[:, start:stop])


BURSTS = {
    "coding": SHAPES["coding"].bursts,
    "conversation": SHAPES["conversation"].bursts,
    "seconds-of-their-own": Bursts((Burst(4.0),)),
    "short-and-long": Bursts((Burst(2.0, 3.0), Burst(1.0, 120.0))),
}


def steady(bursts: Bursts, rate: float, hours: int, seed: int = 1) -> Array:
    stream = Stream(KEY, Piecewise(((0.0, rate),)), LENGTHS, bursts)
    return np.asarray(counts(Generated([stream], hours * 3600, seed=seed))[0])


@pytest.mark.parametrize("rate", [4.0, 80.0])
@pytest.mark.parametrize("name", BURSTS)
def test_bursts_give_counts_the_mean_the_dispersion_and_the_correlation_that_were_asked_for(
    name: str, rate: float
) -> None:
    bursts = BURSTS[name]
    found = steady(bursts, rate, hours=60)
    minutes = found.reshape(-1, 60).sum(axis=1)
    off = found - found.mean()

    assert found.mean() == pytest.approx(rate, rel=4.0 * float(np.sqrt(bursts.index(3600) / (rate * found.size))))
    assert found.var() / found.mean() == pytest.approx(bursts.index(1), rel=0.03)
    assert minutes.var() / minutes.mean() == pytest.approx(bursts.index(60), rel=0.1)
    for lag in (1, 5, 20):
        expected = sum(part.excess * np.exp(-lag / part.seconds) for part in bursts.parts if part.seconds > 0)
        assert (off[lag:] * off[:-lag]).mean() / off.var() == pytest.approx(expected / bursts.index(1), abs=0.02)


@given(excess=st.floats(0.0, 20.0), seconds=st.floats(0.1, 400.0), window=st.integers(1, 300))
def test_the_index_over_a_window_is_the_sum_of_its_correlations(excess: float, seconds: float, window: int) -> None:
    apart = np.abs(np.subtract.outer(np.arange(window), np.arange(window)))
    summed = excess * np.exp(-apart / seconds).sum() / window

    assert Bursts((Burst(excess, seconds),)).index(window) == pytest.approx(1.0 + summed)


def test_bursts_go_on_over_a_full_hour() -> None:
    bursts = Bursts((Burst(20.0, 60.0),))
    hours = steady(bursts, 50.0, hours=800).reshape(-1, 3600) - 50.0
    last, first = hours[:-1, -1], hours[1:, 0]

    expected = 20.0 * np.exp(-1 / 60.0) / bursts.index(1)
    assert (last * first).mean() / hours.var() == pytest.approx(expected, abs=0.1)


def test_a_rate_that_is_low_varies_no_more_than_the_most() -> None:
    found = steady(Bursts((Burst(50.0),)), 2.0, hours=60)

    assert found.mean() == pytest.approx(2.0, rel=0.03)
    assert found.var() / found.mean() == pytest.approx(1.0 + 2.0 * MOST_VARIANCE, rel=0.06)


@pytest.mark.parametrize("wrong", [(-1.0, 5.0), (1.0, -1.0), (1.0, 3600.0)])
def test_a_burst_that_cannot_be_drawn_is_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="excess"):
        Burst(*wrong)


def test_without_bursts_counts_are_poisson() -> None:
    found = counts(Generated([Stream(KEY, Piecewise(((0.0, 5.0),)), LENGTHS)], 7200, seed=1))[0]

    assert found.var() / found.mean() == pytest.approx(1.0, rel=0.05)


def test_jobs_come_as_often_as_said_and_each_is_handed_in_whole() -> None:
    jobs = Jobs(every=4 * 3600.0, requests=500, over=60.0, seed=6)
    rate = jobs.at(np.arange(0.0, 50 * DAY, 1.0))
    count = rate.sum() / 500

    assert count == pytest.approx(round(count))
    assert count == pytest.approx(300, rel=0.15)
    assert set(np.unique(rate * 60 / 500).round(9)) <= {0.0, 1.0, 2.0, 3.0}
    assert np.array_equal(jobs.at(np.arange(DAY, 2 * DAY, 1.0)), rate[DAY : 2 * DAY])


def test_a_sporadic_service_is_silent_most_of_the_time() -> None:
    rate = Sporadic(2.0, busy=600.0, quiet=5400.0, seed=4).at(np.arange(0, 10 * DAY, 10.0))

    assert set(np.unique(rate)) == {0.0, 2.0}
    assert (rate > 0).mean() == pytest.approx(0.1, abs=0.04)


rows = st.lists(
    st.builds(Arrival, st.floats(0, 500), st.integers(1, 5000), st.integers(1, 1000)), min_size=1, max_size=60
)


@given(rows=rows, repeats=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_every_recorded_request_comes_once_a_round(rows: list[Arrival], repeats: int) -> None:
    once = Recorded(KEY, rows)
    demand = Recorded(KEY, rows, seconds=once.seconds * repeats)
    load = demand.block(0, demand.seconds)

    assert load.arrivals.sum() == len(rows) * repeats
    assert (load.arrivals * load.prompt).sum() == pytest.approx(repeats * sum(row.prompt for row in rows))
    assert (load.arrivals * load.output).sum() == pytest.approx(repeats * sum(row.output for row in rows))


def test_a_record_is_scaled_in_number_and_stretched_in_time() -> None:
    plain = [Arrival(float(at), 100, 10) for at in range(1000)]
    demand = Recorded(KEY, plain, scale=2.5, stretch=2.0)

    assert demand.seconds == 1999
    assert demand.block(0, demand.seconds).arrivals.sum() == pytest.approx(2500, rel=0.05)


windows = st.lists(st.floats(0, 500), min_size=1, max_size=8)


@given(totals=windows, cv=st.floats(1.0, 5.0))
@settings(max_examples=30, deadline=None)
def test_windows_keep_their_totals(totals: list[float], cv: float) -> None:
    found = [Window(60 * number, total, 300, 100, cv) for number, total in enumerate(totals)]
    demand = Windowed({KEY: found}, width=60, seed=1)
    minutes = demand.block(0, demand.seconds).arrivals[0].reshape(-1, 60).sum(axis=1)

    assert minutes.tolist() == [round(total) for total in totals]


def test_a_wrong_window_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_text("workload,t_s,rate_rps\nx/a,0,1\nx/a,600,fast\n")

    with pytest.raises(TraceError, match="line 3: column rate_rps needs a number, not 'fast'"):
        read_servegen(path)


def test_together_adds_up_what_comes_for_one_service_and_keeps_others_apart() -> None:
    one = Recorded(KEY, [Arrival(0, 100, 10), Arrival(3, 100, 10)])
    two = Recorded(KEY, [Arrival(0, 300, 30)])
    other = Recorded(OTHER, [Arrival(0, 50, 5)])
    load = Together([one, two, other]).block(0, 4)

    assert load.arrivals.tolist() == [[2, 0, 0, 1], [1, 0, 0, 0]]
    assert load.prompt[0, 0] == pytest.approx(200, rel=1e-4)


def test_the_weeks_shapes_give_the_published_savings_of_powering_nodes_off() -> None:
    """27-52 % on coding and 8-24 % on conversation against all on, for idle shares of 15 to 45 % of a node's power."""
    found = {}
    for name, shape in SHAPES.items():
        rate = shape.weekly.at(np.arange(0, WEEK, 1800.0))
        used = (rate / rate.max()).mean()
        found[name] = [idle * (1 - used) / (idle + (1 - idle) * used) for idle in (0.15, 0.45)]

    assert found["coding"] == pytest.approx([0.27, 0.52], abs=0.05)
    assert found["conversation"] == pytest.approx([0.08, 0.24], abs=0.02)
