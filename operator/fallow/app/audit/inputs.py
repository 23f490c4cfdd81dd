"""What is typed after `fallow audit`, as values. What cannot be read raises ValueError, which says what to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from fallow.adapters.carbon.dataset import DatasetCarbon
from fallow.app.query.quantities import INTENSITY, PUE, Measure, UnreadableError, amount, one
from fallow.domain.figures import Figure, Missing
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import INTENSITY_BOUNDS, IntensitySource, Ratio, Zone
from fallow.footprint.audit.report import Rates

T = TypeVar("T")

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
# ten seconds are the least that a meter can tell apart; what a Prometheus keeps ends earlier than a year
WINDOW = Measure("a window", "1h, 24h or 7d", _UNITS, "s", least=10, most=366 * 86_400.0)
WATCH = Measure("a time to watch", "60s or 5min", _UNITS, "s", least=2, most=86_400.0)


def seconds(option: str, text: str, measure: Measure) -> Seconds:
    return Seconds(_named(option, lambda: one(text, measure)))


def instant(option: str, text: str) -> Instant | None:
    """A time without a zone is UTC; None for nothing."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"--{option} {text!r} is no time; write it as 2026-03-01T12:00 (UTC)") from error
    return Instant((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ValueError(f"--{option} {text!r} has no name and value; write NAME=VALUE")
        found[name] = value
    return found


def rates(*, price: float | None, currency: str, intensity: str, zone: str, pue: str) -> Rates:
    if intensity and zone:
        raise ValueError("give --intensity or --zone, not both")
    if currency and price is None:
        raise ValueError("--currency says nothing without --price-per-kwh")
    grams, source = None, ""
    if intensity:
        given = _named("intensity", lambda: amount(intensity, INTENSITY))
        best = GramsPerKWh(given.best)
        grams = Figure.around(best, INTENSITY_BOUNDS)
        if not given.single:
            grams = Figure(GramsPerKWh(given.low), best, GramsPerKWh(given.high))
        source = "as given"
    elif zone:
        found = asyncio.run(
            DatasetCarbon().intensity(Instant(0), IntensitySource("Dataset", {"zone": zone.strip().upper()}))
        )
        if isinstance(found, Missing):
            raise ValueError(f"--zone {zone!r}: {found.detail}")
        grams, source = found.grams, found.source
    ratio = Zone("", IntensitySource("")).pue
    if pue:
        stated = _named("pue", lambda: amount(pue, PUE))
        ratio = Ratio(stated.low, stated.best, stated.high)
    return Rates(ratio, grams, source, price, currency)


def _named(option: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except UnreadableError as error:
        raise ValueError(f"--{option} {error}") from error
