"""The page of `fallow simulate`: one HTML file that fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fallow.app.reports.figures import change, text
from fallow.app.simulation.charts import bars, lines
from fallow.app.simulation.telling import About, by_service, thinned, totals
from fallow.twin.simulation.result import Outcome

POINTS = 420
MOST_SERVICES, MOST_DECISIONS = 24, 400
COLOURS = ("#1f7a4d", "#c2622d", "#3d6fb4", "#8a5aa8", "#b08a1e", "#557a83", "#b5476b", "#6b6b6b", "#2b9a9a", "#91602a")


def page(outcomes: Sequence[Outcome], about: About) -> str:
    rows = [totals(outcome, about) for outcome in outcomes]
    limits = []
    if about.bounds is not None:
        limits = [
            ("floor", about.bounds.floor.kilowatt_hours),
            ("oracle", about.bounds.schedule.kilowatt_hours),
        ]
    compared = bars(
        [
            (
                row["controller"],
                row["energy_kwh"],
                f"{text(row['energy_kwh'])} kWh · {_share(row['attainment'])} in time",
                row["keeps_objectives"],
            )
            for row in rows
        ],
        limits,
    )
    environment = Environment(
        loader=PackageLoader("fallow.app.simulation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = outcomes[0]
    return environment.get_template("simulation.html.j2").render(
        about=about,
        rows=rows,
        first=rows[0],
        verdicts=[_verdict(rows[0], row) for row in rows[1:]],
        compared=compared,
        colours={outcome.controller: COLOURS[index % len(COLOURS)] for index, outcome in enumerate(outcomes)},
        services=[_service(outcomes, index) for index in range(min(len(own.services), MOST_SERVICES))],
        left_out=max(len(own.services) - MOST_SERVICES, 0),
        decisions=[_decision(one) for one in own.decisions[:MOST_DECISIONS]],
        more=max(len(own.decisions) - MOST_DECISIONS, 0),
        text=text,
        change=change,
        share=_share,
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _verdict(own: dict[str, Any], other: dict[str, Any]) -> str:
    """In a few words against one baseline, and whether that one kept the objectives."""
    less = own["energy_kwh"] / other["energy_kwh"] - 1 if other["energy_kwh"] else 0.0
    words = f"{abs(less):.0%} {'less' if less < 0 else 'more'} energy than {other['controller']}"
    return words if other["keeps_objectives"] else f"{words} (which missed them)"


def _service(outcomes: Sequence[Outcome], index: int) -> dict[str, Any]:
    own = outcomes[0]
    every = max(1, -(-len(own.series.times) // POINTS))
    whole = len(own.series.times) // every * every
    seconds = own.series.times[every - 1 : whole : every].tolist()
    grams = thinned(own.series.grams[:, index], every)
    ready = {
        outcome.controller: thinned(sum(one[:, index] for one in outcome.series.ready.values()), every)  # type: ignore[arg-type]
        for outcome in outcomes
    }
    variants = {name: thinned(one[:, index], every) for name, one in own.series.ready.items() if one[:, index].any()}
    charts = [
        lines(
            "requests per second", seconds, {"arrivals": thinned(own.series.arrivals[:, index], every)}, "requests/s"
        ),
        lines("ready replicas", seconds, ready, "replicas", steps=True),
        lines(
            "power of the GPUs held, W",
            seconds,
            {outcome.controller: thinned(outcome.series.watts[:, index], every) for outcome in outcomes},
            "W",
        ),
    ]
    if len(variants) > 1:
        charts.insert(2, lines("Fallow's replicas by variant", seconds, variants, "replicas", steps=True))
    if max(grams) - min(grams) > 1e-6:
        charts.append(lines("grid, gCO2e/kWh", seconds, {"grid": grams}, "gCO2e/kWh", height=100.0))
    return {"figures": by_service(own.services[index]), "charts": charts}


def _decision(one: Any) -> dict[str, str]:
    before = sum(one.before.values())
    after = sum(one.after.values())
    return {
        "at": _clock(one.at),
        "service": str(one.service),
        "action": one.action,
        "replicas": f"{before} → {after}",
        "lever": one.lever or "-",
        "message": one.message,
    }


def _clock(seconds: float) -> str:
    day, rest = divmod(int(seconds), 86_400)
    return f"day {day + 1}, {rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
