"""`python -m bench.forecast`: would a forecast of the rate of requests, as far ahead as a start takes, save replicas?

Errors are parts of the mean rate. "Alike": with the margin at which 0.4 % of the requests come while replicas are
short. "Saved": of the hours by the mean of the last minute, by which Fallow reckons its crests. "The rate itself" is
what requests scatter around: no forecast saves more, unless it foresees bursts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bench.forecast import libraries, planner, sizing
from bench.forecast.predictors import Ahead, known, predictors
from bench.forecast.sizing import Run
from bench.forecast.traffic import CYCLE, DATA, Series, Source, named, recorded
from fallow.twin.demand.weeks import DAY

HORIZONS = (30, 60, 120, 300)
SHARES = (0.95, 0.99)
BASELINE, BOUND = "mean of the last minute", "the rate itself"


@dataclass(frozen=True, slots=True)
class Judged:
    """One predictor on one series, `horizon` seconds ahead: its errors, a run by the upper quantile, one that is as
    short of replicas as all others, and its `saved` hours, a part of those of the baseline.
    """

    predictor: str
    horizon: int
    absolute: float
    pinballs: tuple[float, ...]
    run: Run
    alike: Run
    saved: float


# What a column shows of each, and its format.
Columns = Mapping[str, tuple[Callable[[Judged], float], str]]


def judged(series: Series, found: Mapping[str, Ahead], horizon: int) -> Iterator[Judged]:
    """The baseline is among what was found."""
    lead = sizing.lead_of(horizon)
    before, after = slice(series.margins, series.judged - lead), slice(series.judged, len(series.rates) - lead)
    known_by_then, actual = series.rates[series.margins + lead : series.judged], series.rates[series.judged + lead :]
    rates = series.rates[series.judged :]
    forecasts = {name: ahead(lead) for name, ahead in found.items()}
    margins = {name: sizing.quantiles(known_by_then, one[before], SHARES) for name, one in forecasts.items()}
    alike = {name: sizing.fitting(rates, one[series.judged :], lead, series.each) for name, one in forecasts.items()}
    for name, forecast in forecasts.items():
        ahead = forecast[after]
        quantiles = [sizing.upper(ahead, margin) for margin in margins[name]]
        needs = sizing.upper(forecast[series.judged :], margins[name][-1])
        yield Judged(
            predictor=name,
            horizon=horizon,
            absolute=sizing.absolute(actual, ahead),
            pinballs=tuple(sizing.pinball(actual, one, share) for one, share in zip(quantiles, SHARES, strict=True)),
            run=sizing.ran(rates, needs, lead, series.each),
            alike=alike[name],
            saved=1.0 - alike[name].hours / alike[BASELINE].hours,
        )


def all_judged(series: Series) -> list[Judged]:
    made = {**predictors(series), **libraries.installed(), BOUND: known}
    found = {name: predictor(series) for name, predictor in made.items()}
    return [one for horizon in HORIZONS for one in judged(series, found, horizon)]


def table(rows: Sequence[Judged], columns: Columns) -> None:
    """Means over the seeds: a row for each predictor, and in each cell one figure for each horizon."""
    print(f"| predictor | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in dict.fromkeys(one.predictor for one in rows):
        some = [[one for one in rows if (one.predictor, one.horizon) == (name, horizon)] for horizon in HORIZONS]
        cells = (" · ".join(format(fmean(map(of, part)), form) for part in some) for of, form in columns.values())
        print(f"| {name} | {' | '.join(cells)} |")
    print(flush=True)


ERRORS: Columns = {
    "mean": (lambda one: one.absolute, ".2%"),
    f"quantile {SHARES[0]:g}": (lambda one: one.pinballs[0], ".2%"),
    f"quantile {SHARES[1]:g}": (lambda one: one.pinballs[1], ".2%"),
}
REPLICAS: Columns = {
    f"hours by {SHARES[-1]:g}": (lambda one: one.run.hours, ",.0f"),
    "time short": (lambda one: one.run.time, ".2%"),
    "hours alike": (lambda one: one.alike.hours, ",.0f"),
    "saved": (lambda one: one.saved, ".1%"),
    "time short, alike": (lambda one: one.alike.time, ".2%"),
}


def show(sources: Iterable[Source], seeds: Sequence[int], scale: float) -> None:
    horizons = " · ".join(f"{horizon} s" for horizon in HORIZONS)
    for source in sources:
        rows: list[Judged] = []
        days = 0.0
        for seed in seeds:
            series = source.drawn(seed, scale)
            rows += all_judged(series)
            days += (len(series.rates) - series.judged) * CYCLE / DAY
        print(f"### {source.name} ({len(seeds)} seeds, {days:g} days judged; {horizons} ahead)\n")
        table(rows, ERRORS)
        table(rows, REPLICAS)


def show_planner(seeds: Sequence[int]) -> None:
    print("| week | rates of crests | kWh | in time | replica h | starts |\n|---|---|---|---|---|---|")
    for one in planner.outcomes(seeds):
        cells = (
            one.week,
            one.rates,
            f"{one.energy:.1f}",
            f"{one.in_time:.2%}",
            f"{one.hours:,.0f}",
            f"{one.starts:.0f}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.forecast", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--weeks", type=int, default=4, help="of the named weeks; the last one is judged, 4 at least")
    parser.add_argument("--scale", type=float, default=1.0, help="a service so many times as large: 1 is 12 replicas")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the records of requests")
    parser.add_argument("--planner", action="store_true", help="instead: what Fallow would do by other rates")
    asked = parser.parse_args(arguments)
    if asked.weeks < 4:
        parser.error("--weeks: one to look back on, one to fit by, one for margins and one to judge by are 4")
    seeds = tuple(int(seed) for seed in asked.seeds.split(","))
    if asked.planner:
        show_planner(seeds)
        return
    for module in libraries.missing():
        print(f"Left out: {module} is not installed.\n")
    show(named(asked.weeks), seeds, asked.scale)
    if asked.data.is_dir():
        show(recorded(asked.data), seeds, asked.scale)
    else:
        print(f"Left out: records of requests, since {asked.data} is not there.")


if __name__ == "__main__":
    main()
