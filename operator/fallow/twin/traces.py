"""Trace files: our columns (arrival, prompt, output) and the Azure 2023 format (TIMESTAMP, ContextTokens, ...)."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from fallow.twin.traffic import Arrival

COLUMNS = ("arrival", "prompt", "output")
# Accepted spellings, lower case, of each column.
ARRIVAL = ("arrival", "arrival_seconds", "timestamp", "time", "t_s")
PROMPT = ("prompt", "prompt_tokens", "contexttokens", "input_tokens")
OUTPUT = ("output", "output_tokens", "generatedtokens", "generated_tokens")


class TraceError(ValueError):
    """A trace file that cannot be used; the message says where and what to write instead."""


def read_trace(path: Path) -> list[Arrival]:
    """Arrivals in order of time. A time is a number of seconds or a timestamp (UTC unless it says otherwise)."""
    try:
        return trace_from(path.read_text(encoding="utf-8"), name=str(path))
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror})") from error


def trace_from(text: str, *, name: str = "trace") -> list[Arrival]:
    """As `read_trace`, from the text of a file; `name` is for messages."""
    return _rows(name, csv.DictReader(text.splitlines()))


def _rows(path: str, reader: csv.DictReader[str]) -> list[Arrival]:
    names = {name.strip().lower(): name for name in reader.fieldnames or ()}
    arrival, prompt, output = (_column(path, names, wanted) for wanted in (ARRIVAL, PROMPT, OUTPUT))
    rows: list[Arrival] = []
    for number, line in enumerate(reader, start=2):
        try:
            rows.append(Arrival(_seconds(line[arrival]), int(float(line[prompt])), int(float(line[output]))))
        except (TypeError, ValueError) as error:
            raise TraceError(f"{path}, line {number}: needs a time and two numbers of tokens ({error})") from error
    if not rows:
        raise TraceError(f"{path}: has no rows; each row is one request")
    return sorted(rows)


def _column(path: str, names: dict[str, str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return names[name]
    raise TraceError(f"{path}: no column {wanted[0]!r}; name it one of {', '.join(wanted)}")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Azure writes seven decimals, datetime takes six.
        whole, dot, fraction = text.strip().partition(".")
        moment = datetime.fromisoformat(whole + dot + fraction[:6])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def as_csv(rows: Iterable[Arrival]) -> str:
    lines = [",".join(COLUMNS)]
    lines.extend(f"{row.at:.6f},{row.prompt},{row.output}" for row in rows)
    return "\n".join(lines) + "\n"
