"""An intensity that somebody wrote down: one number, or a list of times and numbers of which one holds now.

JSON: a list of {"time", "gramsPerKWh"}; what the kubernetes-carbon-intensity-exporter writes, {"timestamp", "duration"
in minutes, "value"}, is read as well. CSV: a header `time,gramsPerKWh` and one line for each time.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fallow.adapters.carbon.parameters import grams
from fallow.adapters.carbon.shapes import YEARS, forecast_of, minute, no_forecast
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import (
    FORECAST_BOUNDS,
    INTENSITY_BOUNDS,
    Forecast,
    Intensity,
    IntensityKind,
    IntensityTier,
)

MAX_POINTS = 20_000
_TIMES = ("time", "timestamp")
_VALUES = ("gramsPerKWh", "value")


@dataclass(frozen=True, slots=True)
class Written:
    """Where a text was found, what its numbers measure, and since when it has stood there, where that is known."""

    where: str
    kind: IntensityKind = IntensityKind.AVERAGE
    issued: Instant | None = None


def present(content: str, now: Instant, written: Written) -> Intensity | Missing:
    """The number, or the point that holds now. A number does not say when it was confirmed; it counts as of now."""
    if not _is_list(content):
        best = grams(_short(content), written.where)
        if isinstance(best, Missing):
            return best
        figure = Figure.around(GramsPerKWh(best), INTENSITY_BOUNDS)
        return Intensity(figure, at=now, source=written.where, kind=written.kind)
    known = forecast(content, written)
    if isinstance(known, Missing):
        return known
    point = known.at(now)
    if point is None:
        return _outside(known, now)
    return Intensity(
        Figure.around(point.grams, FORECAST_BOUNDS),
        at=point.start,
        source=written.where,
        kind=written.kind,
        tier=IntensityTier.FORECAST,
    )


def forecast(content: str, written: Written) -> Forecast | Missing:
    if not _is_list(content):
        return no_forecast("single number as")
    rows = _rows(content, written.where)
    if isinstance(rows, Missing):
        return rows
    points, until = dict[Instant, float](), None
    for number, row in enumerate(rows, start=1):
        what = f"{written.where}, entry {number}"
        if number > MAX_POINTS:
            return Missing(Reason.BAD_ANSWER, f"{written.where} has more than {MAX_POINTS} entries")
        start, value = _time(_first(row, _TIMES), what), grams(_short(_first(row, _VALUES)), what)
        if isinstance(start, Missing):
            return start
        if isinstance(value, Missing):
            return value
        points[start] = value
        if start == max(points):
            until = _end(start, row)
    return forecast_of(points.items(), written.where, kind=written.kind, issued=written.issued, until=until)


def _is_list(content: str) -> bool:
    return content.lstrip().startswith("[") or "," in content


def _rows(content: str, where: str) -> Iterable[Mapping[str, Any]] | Missing:
    if not content.lstrip().startswith("["):
        return csv.DictReader(line for line in content.splitlines() if line.strip() and not line.startswith("#"))
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        return Missing(Reason.BAD_ANSWER, f"{where} is no JSON: {str(error)[:100]}")
    if not all(isinstance(row, dict) for row in rows):
        return Missing(Reason.BAD_ANSWER, f'{where} must list objects such as {{"time": …, "gramsPerKWh": …}}')
    found: list[Mapping[str, Any]] = rows
    return found


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _short(value: Any) -> Any:
    """Long texts are somebody's mistake and are not repeated in messages."""
    return f"{value[:40]}…" if isinstance(value, str) and len(value) > 40 else value


def _time(value: Any, what: str) -> Instant | Missing:
    """A time without a zone counts as UTC."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        time = None
    if time is None or time.year not in YEARS:
        return Missing(Reason.BAD_ANSWER, f"{what}: {_short(value)!r} is no time such as 2026-03-01T13:00Z")
    return Instant((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _end(start: Instant, row: Mapping[str, Any]) -> Instant | None:
    """The end of the last point, where it says how many minutes it holds."""
    minutes = row.get("duration")
    if not isinstance(minutes, int | float) or isinstance(minutes, bool) or not 0 < minutes <= 24 * 60:
        return None
    return Instant(start + Seconds(minutes * 60))


def _outside(known: Forecast, now: Instant) -> Missing:
    if now < known.points[0].start:
        words = f"{known.source}: the forecast begins at {minute(known.points[0].start)}"
    else:
        words = f"{known.source}: the forecast ended at {minute(known.until)}; renew it"
    return Missing(Reason.STALE_SERIES, words)
