"""Several queries from a table, and their figures beside published ones."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from fallow.app.query import quantities
from fallow.app.query.answer import Answer, Sampling, answered
from fallow.app.query.inputs import OPTIONS, Unusable
from fallow.app.query.quantities import UnreadableError, amount

EXPECT = {
    f"expect-{key.replace('_', '-')}": key for key in ("energy_wh", "water_ml", "carbon_g", "embodied_g", "total_g")
}
SHOWN = 20
COLUMNS = ("name", *OPTIONS, *EXPECT)


@dataclass(frozen=True, slots=True)
class Row:
    """One query of a table by column, and where it stood: the number of the row and of the line in the file."""

    number: int
    line: int
    cells: Mapping[str, str]

    @property
    def place(self) -> str:
        return f"row {self.number} (line {self.line})"


class Faults(UnreadableError):
    """What is wrong with a table, one line each, the first twenty."""

    def __init__(self, lines: list[str]) -> None:
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        super().__init__("\n".join(lines[:SHOWN] + more))


def rows_of(lines: Iterable[str]) -> list[Row]:
    """The rows of a CSV whose header holds option names; lines that begin with # are comments. Raises Faults."""
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise Faults([f"the table is empty; its first line names the columns, such as {','.join(COLUMNS[:5])}"])
    reader = csv.reader(line for _, line in numbered)
    try:
        header, *body = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise Faults([f"line {numbered[reader.line_num - 1][0]} is no CSV: {error}"]) from error
    columns = [_column(cell) for cell in header[1]]
    if doubled := sorted({column for column in columns if columns.count(column) > 1}):
        raise Faults([f"column {column} is there twice" for column in doubled])
    rows, faults = [], []
    for number, (last, cells) in enumerate(body, 1):
        row = Row(number, numbered[last - 1][0], _cells(columns, cells))
        if len(cells) != len(columns):
            faults.append(f"{row.place}: {len(cells)} cells where the header has {len(columns)} columns")
        rows.append(row)
    if faults:
        raise Faults(faults)
    if not rows:
        raise Faults(["the table has a header and no rows"])
    return rows


def answers_of(rows: Iterable[Row], defaults: Mapping[str, str], sampling: Sampling) -> list[Answer]:
    """One answer a row; an empty cell takes the option of the command. Raises Faults naming every row and column."""
    answers, faults = [], []
    for row in rows:
        try:
            answers.append(compared(answered({**defaults, **row.cells}, sampling), row.cells))
        except Unusable as fault:
            column = f", column {fault.option}" if fault.option in row.cells else f", --{fault.option}"
            faults.append(f"{row.place}{column}: {fault}")
        except UnreadableError as fault:
            faults.append(f"{row.place}: {fault}")
    if faults:
        raise Faults(faults)
    return answers


def compared(answer: Answer, cells: Mapping[str, str]) -> Answer:
    """With the relative error to each published figure: best to one value, all three to low:best:high."""
    errors = {}
    for column, key in EXPECT.items():
        if column not in cells:
            continue
        if key not in answer.figures:
            raise Unusable(column, "nothing to compare with; give --embodied")
        try:
            published = amount(cells[column], quantities.EXPECTED)
        except UnreadableError as error:
            raise Unusable(column, str(error)) from error
        ours = answer.figures[key]
        parts = ("best",) if published.single else ("low", "best", "high")
        errors[key] = max(_relative(ours[part], getattr(published, part)) for part in parts)
    return replace(answer, errors=errors)


def _relative(ours: float, published: float) -> float:
    if published == 0:
        return 0.0 if ours == 0 else float("inf")
    return abs(ours - published) / abs(published)


def _column(cell: str) -> str:
    name = cell.strip().lstrip("-").lower().replace("_", "-").removeprefix("\ufeff")
    if name not in COLUMNS:
        near = get_close_matches(name, COLUMNS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise Faults([f"column {cell!r} is not known; {hint}columns are {', '.join(COLUMNS)}"])
    return name


def _cells(header: list[str], cells: list[str]) -> dict[str, str]:
    return {column: cell.strip() for column, cell in zip(header, cells, strict=False) if cell.strip()}
