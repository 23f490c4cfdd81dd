"""Answers as a table for people, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from fallow.app.query.answer import Answer
from fallow.app.query.inputs import GIVEN, Input
from fallow.app.query.quantities import Amount
from fallow.footprint.impacts import YEAR

TITLES = {
    "energy_wh": "energy, Wh",
    "water_ml": "water, mL",
    "carbon_g": "carbon, gCO2e",
    "embodied_g": "manufacture, gCO2e",
    "total_g": "carbon + manufacture, gCO2e",
}


def as_json(answer: Answer, *, explain: bool) -> dict[str, Any]:
    """Figures by key; with `explain` also every input and its source, and notes."""
    named: dict[str, Any] = {"name": answer.name} if answer.name else {}
    plain = named | answer.figures
    if answer.errors:
        plain["relative_error"] = answer.errors
    if explain:
        plain["inputs"] = {name.replace("-", "_"): _input(used) for name, used in answer.inputs.items()}
        plain["notes"] = list(answer.notes)
    return plain


def as_csv(answers: Iterable[Answer], *, explain: bool) -> str:
    """One line an answer; a figure that only some have is empty in the others."""
    rows = []
    for answer in answers:
        row: dict[str, object] = {"name": answer.name}
        row |= {f"{key}_{part}": value for key, figure in answer.figures.items() for part, value in figure.items()}
        row |= {f"relative_error_{key}": error for key, error in answer.errors.items()}
        if explain:
            row["assumed"] = "; ".join(_assumed([answer]))
        rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def one_table(answer: Answer) -> Group:
    """The figures of one query, a line each, and what was assumed."""
    parts = list(next(iter(answer.figures.values())))
    table = _table(["", *parts])
    for key, figure in answer.figures.items():
        table.add_row(TITLES[key], *(_number(figure.get(part)) for part in parts))
    return Group(table, *_footnotes([answer]))


def many_table(answers: list[Answer]) -> Group:
    """The figures of several queries, a line each: best, and the bounds below it."""
    keys = [key for key in TITLES if any(key in answer.figures for answer in answers)]
    compared = any(answer.errors for answer in answers)
    columns = ["", *(TITLES[key] for key in keys), *(["relative error"] if compared else [])]
    table = _table(columns)
    for number, answer in enumerate(answers, 1):
        cells = [_bounded(answer.figures.get(key)) for key in keys]
        if compared:
            cells.append(_number(max(answer.errors.values())) if answer.errors else "")
        table.add_row(answer.name or f"row {number}", *cells)
    lines = [Text(worst)] if (worst := worst_error(answers)) else []
    return Group(table, *lines, *_footnotes(answers))


def worst_error(answers: list[Answer]) -> str:
    """The largest relative error against the published figures, and where it is."""
    errors = [
        (error, number, key, answer.name)
        for number, answer in enumerate(answers, 1)
        for key, error in answer.errors.items()
    ]
    if not errors:
        return ""
    error, number, key, name = max(errors)
    where = f"row {number}, {name}" if name else f"row {number}"
    return f"Largest relative error of {len(errors)} comparisons: {error:.3g} ({where}, {TITLES[key]})"


def show(shown: Group) -> None:
    """Prints to stdout, as wide as needed where it is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(shown)


def _table(columns: list[str]) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _footnotes(answers: list[Answer]) -> list[Text]:
    notes = dict.fromkeys(note for answer in answers for note in answer.notes)
    return [Text(line, style="dim") for line in (*_assumed(answers), *notes)]


def _assumed(answers: list[Answer]) -> list[str]:
    """What was not given, one line a source."""
    by_source: dict[str, dict[str, None]] = {}
    for answer in answers:
        for name, used in answer.inputs.items():
            if used.source != GIVEN:
                by_source.setdefault(used.source, {})[f"{name} {_value(used)}"] = None
    return [f"{', '.join(values)}: {source}" for source, values in by_source.items()]


def _value(used: Input) -> str:
    value, unit = used.value, used.unit
    if isinstance(value, tuple):
        return f"{':'.join(f'{part:g}' for part in value)} {unit}"
    if isinstance(value, Amount) and unit == "s" and value.low >= YEAR:
        value, unit = Amount(value.low / YEAR, value.best / YEAR, value.high / YEAR, value.stated), "years"
    return f"{value} {unit}".rstrip()


def _input(used: Input) -> dict[str, Any]:
    if isinstance(used.value, Amount):
        value: dict[str, Any] = {"low": used.value.low, "best": used.value.best, "high": used.value.high}
    elif isinstance(used.value, tuple):
        value = dict(zip(("p5", "p25", "p50", "p75", "p95"), used.value, strict=True))
    else:
        value = {"value": used.value}
    return value | ({"unit": used.unit} if used.unit else {}) | {"from": used.source}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _bounded(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    if figure["low"] == figure["high"]:
        return _number(figure["best"])
    return f"{_number(figure['best'])}  [{_number(figure['low'])} - {_number(figure['high'])}]"
