"""The page of `fallow simulate`: one HTML file that fetches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from fallow.app.reports.figures import change, text
from fallow.app.simulation.charts import Mark, envelope, highest, over_time, rules, scale, stacked, times
from fallow.app.simulation.table import chosen, clock, moved
from fallow.app.simulation.telling import About, by_service, keeps, totals
from fallow.twin.simulation.result import Decided, Outcome, ServiceOutcome

# Stretches of time in a plot; fewer where there are many plots, so that the file stays below 2 MB.
MOST_STRETCHES, ALL_STRETCHES = 300, 24_000
MOST_SERVICES, MOST_DECISIONS = 24, 400
KILOWATTS_FROM = 2000.0


def page(outcomes: Sequence[Outcome], about: About) -> str:
    """The first outcome is the one that is told of; the others are what it is compared with."""
    rows = [totals(outcome, about) for outcome in outcomes]
    own = outcomes[0]
    bars = [_bar(outcome, row, rows, about) for outcome, row in zip(outcomes, rows, strict=True)]
    shown = range(min(len(own.services), MOST_SERVICES))
    most = min(MOST_STRETCHES, ALL_STRETCHES // max(1, len(shown) * len(outcomes)))
    time = times(float(own.series.times[-1])) if len(own.series.times) else ()
    environment = Environment(
        loader=PackageLoader("fallow.app.simulation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(text=text, change=change, share=_share)
    return environment.get_template("simulation.html.j2").render(
        about=about,
        own=own,
        rows=rows,
        first=rows[0],
        verdicts=[_verdict(rows[0], row) for row in rows[1:]],
        bars=bars,
        limits=_limits(rows, about),
        services=[_service(outcomes, index, most, about) for index in shown],
        variants=_variants(outcomes),
        left_out=len(own.services) - len(shown),
        times=time,
        rules=rules(time[1:]),
        decisions=[_decision(one) for one in chosen(own.decisions, MOST_DECISIONS)],
        actions=Counter(one.action for one in own.decisions).most_common(),
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _verdict(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Against one other: energy in a few words and what that comes to; saved only where every objective was kept."""
    less = other["energy_kwh"] - own["energy_kwh"]
    part = abs(less) / other["energy_kwh"] if other["energy_kwh"] else 0.0
    units = {"energy_kwh": "kWh", "carbon_kg": "kg CO2e", "cost": own["currency"]}
    return {
        "other": other,
        "words": f"{part:.0%} {'less' if less >= 0 else 'more'} energy",
        "amounts": [
            _signed(own[name] - other[name], unit)
            for name, unit in units.items()
            if own[name] is not None and other[name] is not None
        ],
        "saves": less > 0 and own["keeps_objectives"],
    }


def _signed(value: float, unit: str) -> str:
    return f"{'+' if value > 0 else ''}{text(value, unit)}"


def _reach(rows: Sequence[Mapping[str, Any]], about: About) -> float:
    """What the whole width of a bar stands for, kWh."""
    limits = [] if about.bounds is None else [about.bounds.schedule.kilowatt_hours]
    return max([row["energy_kwh"] for row in rows] + limits) or 1.0


def _bar(outcome: Outcome, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], about: About) -> dict[str, Any]:
    """Parts by what the GPUs did, as percentages of the width: where each begins and how long it is."""
    reach, at, parts = _reach(rows, about), 0.0, []
    phases = [one.phases for one in outcome.services]
    for name, joules in (
        ("active", sum(one.active for one in phases)),
        ("idle", sum(one.idle for one in phases)),
        ("starting", sum(one.pulling + one.loading for one in phases)),
    ):
        width = joules / 3.6e6 / reach * 100
        parts.append({"name": name, "at": at, "width": width, "kwh": joules / 3.6e6})
        at += width
    missed = [f"{one.service} ({_share(one.attainment)})" for one in outcome.services if not keeps(one, about)]
    return {"row": row, "parts": parts, "width": at, "missed": missed}


def _limits(rows: Sequence[Mapping[str, Any]], about: About) -> list[Mark]:
    """Floor and schedule oracle as shares of the width."""
    if about.bounds is None:
        return []
    reach = _reach(rows, about)
    return [
        Mark(joules.kilowatt_hours / reach, f"{name} {text(joules.kilowatt_hours, 'kWh')}")
        for name, joules in (("floor", about.bounds.floor), ("oracle", about.bounds.schedule))
    ]


def _variants(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """A number for each that was ever ready: it gives the colour."""
    used = dict.fromkeys(name for outcome in outcomes for name, ready in outcome.series.ready.items() if ready.any())
    return {name: number for number, name in enumerate(used)}


def _service(outcomes: Sequence[Outcome], index: int, most: int, about: About) -> dict[str, Any]:
    own = outcomes[0]
    over = own.series
    arrivals = envelope(over.times, over.arrivals[:, index], most)
    grams = envelope(over.times, over.grams[:, index], most)
    plots = [over_time("requests per second", arrivals, scale(highest(arrivals)), "requests/s")]
    steady = highest(grams) - float(grams.low.min(initial=inf)) < 1e-6
    if not steady:
        plots.append(over_time("grid, g CO2e/kWh", grams, scale(highest(grams)), "g CO2e/kWh"))
    return {
        "figures": by_service(own.services[index], about),
        "plots": plots,
        "grams": highest(grams) if steady else None,
        "runs": _runs(outcomes, index, most, about),
        "empty": not len(over.times),
    }


def _runs(outcomes: Sequence[Outcome], index: int, most: int, about: About) -> list[dict[str, Any]]:
    """Replicas and power of each controller, all on the same scales."""
    parts, wholes, powers = [], [], []
    for outcome in outcomes:
        over = outcome.series
        ready = {name: values[:, index] for name, values in over.ready.items()}
        parts.append({name: envelope(over.times, values, most) for name, values in ready.items()})
        whole = np.sum(list(ready.values()), axis=0) if ready else np.zeros(len(over.times))
        wholes.append(envelope(over.times, whole, most))
        powers.append(envelope(over.times, over.watts[:, index], most))
    replicas = scale(max(highest(one) for one in wholes), whole=True)
    watts = max(highest(one) for one in powers)
    unit, factor = ("kW", 1e-3) if watts >= KILOWATTS_FROM else ("W", 1.0)
    power = scale(watts * factor)
    return [
        {
            "controller": outcome.controller,
            "figures": _kept(outcome.services[index], about),
            "plots": [
                stacked("ready replicas", parts[place], wholes[place], replicas, "replicas"),
                over_time(f"power, {unit}", powers[place].scaled(factor), power, unit),
            ],
        }
        for place, outcome in enumerate(outcomes)
    ]


def _kept(one: ServiceOutcome, about: About) -> dict[str, Any]:
    return {"energy_kwh": one.energy.kilowatt_hours, "attainment": one.attainment, "keeps": keeps(one, about)}


def _decision(one: Decided) -> dict[str, str]:
    return {
        "at": clock(one.at),
        "service": str(one.service),
        "action": one.action,
        "replicas": moved(one),
        "lever": one.lever or "-",
        "message": one.message or one.reason or "-",
    }
