"""Calendar periods in UTC: which of them a piece of time belongs to, and how books move on to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from fallow.domain.ledger import Account, Book, Period
from fallow.domain.units import Instant

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Calendar:
    """The starts of the present periods, and of the last complete clock hour."""

    hour: Instant
    last_hour: Instant
    day: Instant
    month: Instant


class Slot(NamedTuple):
    """Which of the present periods a piece of time lies in; everything lies in the total."""

    hour: bool
    last_hour: bool
    day: bool
    month: bool


def calendar(now: Instant) -> Calendar:
    moment = datetime.fromtimestamp(now, UTC)
    hour = moment.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    start = Instant(hour.timestamp())
    return Calendar(
        hour=start,
        last_hour=Instant(start - HOUR),
        day=Instant(day.timestamp()),
        month=Instant(day.replace(day=1).timestamp()),
    )


def slot_of(start: Instant, present: Calendar) -> Slot:
    return Slot(
        hour=start >= present.hour,
        last_hour=present.last_hour <= start < present.hour,
        day=start >= present.day,
        month=start >= present.month,
    )


def slots(start: Instant, end: Instant, present: Calendar) -> Iterator[tuple[Slot, float]]:
    """The pieces of an interval by slot, each with its share of the time; the shares add up to one."""
    cuts = sorted({cut for cut in (present.hour, present.last_hour, present.day, present.month) if start < cut < end})
    if not cuts:
        yield slot_of(start, present), 1.0
        return
    edges = [start, *cuts, end]
    left = 1.0
    for begin, until in pairwise(edges[:-1]):
        share = (until - begin) / (end - start)
        left -= share
        yield slot_of(begin, present), share
    yield slot_of(edges[-2], present), max(left, 0.0)


def opened(start: Instant, present: Calendar) -> Book:
    """A new book; `start` is when its line was first held."""
    return Book(
        total=Period(start),
        month=Period(present.month),
        day=Period(present.day),
        hour=Period(present.hour),
        last_hour=Period(present.last_hour),
    )


def rolled(book: Book, present: Calendar) -> Book:
    """The book in the present periods: a period that has ended starts anew, the total never does."""
    if book.hour.start == present.hour:
        return book
    return Book(
        total=book.total,
        month=book.month if book.month.start == present.month else Period(present.month),
        day=book.day if book.day.start == present.day else Period(present.day),
        hour=Period(present.hour),
        last_hour=book.hour if book.hour.start == present.last_hour else Period(present.last_hour),
    )


def added(book: Book, slot: Slot, account: Account) -> Book:
    """The book with an account more in the total and in each period that the slot names."""
    return Book(
        total=_more(book.total, account),
        month=_more(book.month, account) if slot.month else book.month,
        day=_more(book.day, account) if slot.day else book.day,
        hour=_more(book.hour, account) if slot.hour else book.hour,
        last_hour=_more(book.last_hour, account) if slot.last_hour else book.last_hour,
    )


def _more(period: Period, account: Account) -> Period:
    return replace(period, account=period.account + account)
