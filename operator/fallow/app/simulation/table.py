"""Outcomes as tables for the terminal: no number is ever cut, whatever the width.

Where a table is wider than the terminal its rows become short lists; where there is no terminal, lines are as long as
they need to be, so that other programs find a row in a line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fallow.app.reports.figures import change, text
from fallow.app.simulation.telling import About, by_service, keeps, totals
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.result import Decided, Outcome, ServiceOutcome

DECISIONS = 12
WIDEST = 10_000
# Columns that are left out of a table whose rows have nothing in them.
NOTHING = {"", "-"}
NO_BREAK = "\N{NO-BREAK SPACE}"

Row = Mapping[str, str]


def print_tables(console: Console, outcomes: Sequence[Outcome], about: About, *, decisions: int = DECISIONS) -> None:
    """What each controller used and kept, what it ran for that; then the first one's services and `decisions`."""
    own = outcomes[0]
    found = [totals(outcome, about) for outcome in outcomes]
    _say(console, about.title, "bold")
    _show(console, [_used(row, found[0]) for row in found])
    _say(console, _caption(about, found), "dim")
    _say(console, "\nWhat ran for it", "bold")
    _show(console, [_ran(outcome, row) for outcome, row in zip(outcomes, found, strict=True)])
    if about.savings:
        _say(console, "\nWhat each lever saves: the run without it, less the run with all", "bold")
        _show(console, [{"lever": name, "saves": one.words} for name, one in about.savings.items()])
    _say(console, f"\n{own.controller} by service", "bold")
    _show(console, [_of_service(one, about) for one in own.services])
    for note in own.notes:
        _say(console, note, "dim")
    if own.decisions and decisions:
        _say(console, f"\n{_some(own, decisions)}", "bold")
        for one in chosen(own.decisions, decisions):
            why = f"{one.lever}: {one.message}".strip(": ")
            _say(console, f"{clock(one.at)}  {one.service}  {moved(one)}" + (f"  {why}" if why else ""))


def clock(seconds: float) -> str:
    day, rest = divmod(int(seconds), 86_400)
    return f"day {day + 1}, {rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"


def moved(one: Decided) -> str:
    """The replicas of each variant that changes; in a word where none does."""
    names = dict.fromkeys((*one.before, *one.after))
    counts = [(name, one.before.get(name, 0), one.after.get(name, 0)) for name in names]
    return ", ".join(f"{name} {old} → {new}" for name, old, new in counts if old != new) or "as before"


def chosen(decisions: Sequence[Decided], most: int) -> list[Decided]:
    """In order of time those that moved most replicas, of each service as many as of any other."""
    taken: Counter[ServiceKey] = Counter()
    ranked = []
    for place, one in sorted(enumerate(decisions), key=lambda pair: (-_size(pair[1]), pair[0])):
        ranked.append((taken[one.service], place))
        taken[one.service] += 1
    return [decisions[place] for place in sorted(place for _, place in sorted(ranked)[:most])]


def _size(one: Decided) -> int:
    return sum(abs(one.after.get(name, 0) - one.before.get(name, 0)) for name in {*one.before, *one.after})


def _used(row: Mapping[str, Any], first: Mapping[str, Any]) -> Row:
    kept, gap = row["keeps_objectives"], row["gap_to_schedule"]
    return {
        "controller": row["controller"],
        "kWh": text(row["energy_kwh"]),
        "change": "" if row is first else change(row["energy_kwh"], first["energy_kwh"]),
        "kgCO2e": text(row["carbon_kg"]),
        "water L": text(row["water_l"]),
        f"cost {first['currency']}".strip(): text(row["cost"]),
        "in time": _in_time(row["attainment"], kept=kept),
        "J/token": text(row["joules_per_good_token"]),
        "oracle": "-" if gap is None or not kept else f"{gap:+.0%}",
    }


def _in_time(attainment: float | None, *, kept: bool) -> str:
    return f"{'-' if attainment is None else f'{attainment:.2%}'}{'' if kept else ' !'}"


def _ran(outcome: Outcome, row: Mapping[str, Any]) -> Row:
    mean, most = replicas(outcome)
    return {
        "controller": outcome.controller,
        "requests": f"{row['requests']:,}",
        "left over": f"{row['unfinished'] + row['failed']:,}",
        "replicas": text(mean),
        "at most": text(most),
        "starts": f"{row['starts']:,}",
        "changes": f"{row['decisions']:,}",
        "replica h": text(row["replica_hours"]),
        "node h": text(row["node_hours"]),
    }


def replicas(outcome: Outcome) -> tuple[float | None, float | None]:
    """Of all services, ready: mean over time, and the most in a sample."""
    ready = sum(values.sum(axis=1) for values in outcome.series.ready.values())
    if not len(outcome.series.times) or isinstance(ready, int):
        return None, None
    return float(ready.mean()), float(ready.max())


def _of_service(one: ServiceOutcome, about: About) -> Row:
    row = by_service(one, about)
    return {
        "service": row["service"],
        "kWh": text(row["energy_kwh"]),
        "idle": text(row["idle_kwh"]),
        "loading": text(row["loading_kwh"]),
        "requests": f"{row['requests']:,}",
        "in time": _in_time(one.attainment, kept=keeps(one, about)),
        "TTFT p95": _seconds(one.ttft_p95),
        "ITL p95": _seconds(one.itl_p95),
        "starts": f"{row['starts']:,}",
    }


def _show(console: Console, rows: Sequence[Row]) -> None:
    """The first column names a row; a column in which nobody has anything is left out."""
    names = [name for name in rows[0] if any(row[name] not in NOTHING for row in rows)] if rows else []
    for gap in (2, 1):
        table = _table(names, rows, gap)
        width = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
        if not console.is_terminal:
            Console(file=console.file, width=width).print(table)
            return
        if width <= console.width:
            console.print(table)
            return
    for row in rows:
        first, *others = (row[name] if name == names[0] else f"{name} {row[name]}" for name in names if row[name])
        _say(console, f"{first}: {', '.join(one.replace(' ', NO_BREAK) for one in others)}")


def _table(names: Sequence[str], rows: Sequence[Row], gap: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    return table


def _say(console: Console, words: str, style: str = "") -> None:
    console.print(Text(words, style=style), soft_wrap=not console.is_terminal)


def _some(own: Outcome, most: int) -> str:
    count = len(own.decisions)
    if count <= most:
        return f"What {own.controller} decided"
    return f"{most} of the {count:,} decisions of {own.controller}: those that moved most replicas"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.1f} s"


def _caption(about: About, rows: Iterable[Mapping[str, Any]]) -> str:
    lines = ["in time: within both objectives; J/token: per output token in time; oracle: above the schedule oracle"]
    if any(not row["keeps_objectives"] for row in rows):
        lines.append(f"!: a service has fewer in time than the {about.shares} it asks for, so this energy is no saving")
    for name, found in (("", about.bounds), (" with every variant and clock", about.all_levers)):
        if found is not None:
            lines.append(
                f"least possible{name}: floor {text(found.floor.kilowatt_hours)}, integer oracle"
                f" {text(found.integer.kilowatt_hours)}, schedule oracle {text(found.schedule.kilowatt_hours)} kWh"
            )
    return "\n".join(lines)
