"""Generated and recorded traffic: the same for a seed, with the rates and lengths asked for."""

from pathlib import Path

import numpy as np
import pytest

from fallow.twin.rates import Daily, Piecewise
from fallow.twin.traces import TraceError, as_csv, read_trace, trace_from
from fallow.twin.traffic import Arrival, GeneratedTraffic, Lengths, TraceTraffic


def generated(rate: Piecewise | Daily, *, seed: int = 1, cv: float = 1.0) -> GeneratedTraffic:
    return GeneratedTraffic(rate, Lengths(600, 1.0), Lengths(200, 0.5), seed=seed, cv=cv)


CONSTANT = Piecewise(((0.0, 10.0),))


def test_the_same_seed_gives_the_same_requests_however_they_are_asked_for() -> None:
    whole = generated(CONSTANT).until(100.0)
    parted = generated(CONSTANT)
    pieces = [arrival for step in range(1, 1001) for arrival in parted.until(step / 10)]
    assert pieces == whole
    assert generated(CONSTANT, seed=2).until(100.0) != whole


def test_rate_and_lengths_are_those_asked_for() -> None:
    arrivals = generated(CONSTANT).until(2000.0)
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)
    assert np.mean([arrival.prompt for arrival in arrivals]) == pytest.approx(600, rel=0.05)
    assert np.std([arrival.output for arrival in arrivals]) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gaps_vary_as_asked(cv: float) -> None:
    gaps = np.diff([arrival.at for arrival in generated(CONSTANT, cv=cv).until(3000.0)])
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(cv, rel=0.1)


def test_a_profile_is_followed_and_a_quiet_stretch_is_silent() -> None:
    profile = Piecewise(((0, 2), (100, 20), (200, 0)), held=True)
    arrivals = generated(profile).until(400.0)
    counts = [sum(1 for a in arrivals if begin < a.at <= begin + 100) for begin in (0, 100, 200, 300)]
    assert counts[0] == pytest.approx(200, rel=0.3)
    assert counts[1] == pytest.approx(2000, rel=0.1)
    assert counts[2:] == [0, 0]


@pytest.mark.parametrize("ratio", [1.0, 1.67, 3.07])
def test_a_day_has_the_mean_and_the_peak_asked_for(ratio: float) -> None:
    day = Daily(mean=5.0, peak_to_mean=ratio, peak_hour=14, seconds_per_day=240.0)
    rates = day.at(np.linspace(0, 240, 2401, dtype=np.float64))
    assert rates.mean() == pytest.approx(5.0, rel=0.01)
    assert rates.max() == pytest.approx(5.0 * ratio, rel=0.01)
    assert np.argmax(rates) == pytest.approx(1400, abs=240) or ratio == 1.0


def test_quiet_hours_may_pass_midnight() -> None:
    day = Daily(mean=5.0, seconds_per_day=24.0, quiet=((22.0, 6.0),))
    hours = np.arange(24, dtype=np.float64) + 0.5
    assert [int(hour) for hour, rate in zip(hours, day.at(hours), strict=True) if rate == 0] == [
        *range(6),
        22,
        23,
    ]


ROWS = [Arrival(100.0, 10, 5), Arrival(101.0, 20, 6), Arrival(103.0, 30, 7)]


def test_a_trace_begins_at_its_first_arrival_and_may_be_compressed() -> None:
    assert [arrival.at for arrival in TraceTraffic(ROWS, compress=2.0).until(10.0)] == [0.0, 0.5, 1.5]


def test_a_repeated_trace_goes_on_and_on() -> None:
    arrivals = TraceTraffic(ROWS, repeat=True).until(100.0)
    assert len(arrivals) > 50
    assert [arrival.at for arrival in arrivals] == sorted(arrival.at for arrival in arrivals)


@pytest.mark.parametrize(("scale", "expected"), [(2.0, 6000), (0.5, 1500), (1.5, 4500)])
def test_a_trace_may_be_scaled(scale: float, expected: int) -> None:
    rows = [Arrival(index / 10, 10, 10) for index in range(3000)]
    assert len(TraceTraffic(rows, scale=scale, seed=3).until(1000.0)) == pytest.approx(expected, rel=0.05)


def test_the_azure_format_is_read(tmp_path: Path) -> None:
    file = tmp_path / "azure.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "2023-11-16 18:17:04.0319600,3180,8\n"
    )
    rows = read_trace(file)
    assert [(row.prompt, row.output) for row in rows] == [(4808, 10), (3180, 8)]
    assert rows[1].at - rows[0].at == pytest.approx(0.052)


def test_what_is_written_is_read_again() -> None:
    assert trace_from(as_csv(ROWS)) == ROWS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when,prompt,output\n1,2,3\n", "no column 'arrival'; name it one of arrival,"),
        ("arrival,prompt\n1,2\n", "no column 'output'"),
        ("arrival,prompt,output\n", "has no rows"),
        ("arrival,prompt,output\n1,two,3\n", "line 2: needs a time and two numbers"),
    ],
)
def test_a_wrong_trace_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace_from(text)
