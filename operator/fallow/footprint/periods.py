"""Calendar periods by time zone: which of them a piece of time belongs to, and how books move on to the next.

Hours are those of the zone's clocks (in Kolkata they begin at the half hour of UTC); days have 23 to 25 of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fallow.domain.calendars import first_day
from fallow.domain.goals import BudgetPeriod
from fallow.domain.ledger import Account, Book, Period, Spent
from fallow.domain.policies import UTC
from fallow.domain.units import Instant

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Calendar:
    """The starts of the present periods of a time zone, and of the complete ones before them."""

    time_zone: str
    now: Instant
    hour: Instant
    last_hour: Instant
    day: Instant
    yesterday: Instant
    month: Instant
    last_month: Instant
    week: Instant
    quarter: Instant
    year: Instant

    @property
    def starts(self) -> frozenset[Instant]:
        longer = (self.week, self.quarter, self.year)
        return frozenset((self.hour, self.last_hour, self.day, self.yesterday, self.month, self.last_month, *longer))


class Slot(NamedTuple):
    """In which periods a piece of time lies; everything lies in the total."""

    hour: bool
    last_hour: bool
    day: bool
    yesterday: bool
    month: bool
    last_month: bool
    week: bool
    quarter: bool
    year: bool


def calendar(now: Instant, time_zone: str = UTC) -> Calendar:
    """Raises zoneinfo.ZoneInfoNotFoundError for a zone that is not in the tz database."""
    zone = ZoneInfo(time_zone)
    hour = _hour(now, zone)
    day = datetime.fromtimestamp(now, zone).date()
    month = day.replace(day=1)
    return Calendar(
        time_zone=time_zone,
        now=now,
        hour=hour,
        last_hour=_hour(Instant(hour - 1), zone),
        day=_midnight(day, zone),
        yesterday=_midnight(day - timedelta(days=1), zone),
        month=_midnight(month, zone),
        last_month=_midnight((month - timedelta(days=1)).replace(day=1), zone),
        week=_midnight(first_day(BudgetPeriod.WEEK, day), zone),
        quarter=_midnight(first_day(BudgetPeriod.QUARTER, day), zone),
        year=_midnight(first_day(BudgetPeriod.YEAR, day), zone),
    )


def _hour(now: Instant, zone: ZoneInfo) -> Instant:
    """The start of the clock hour. From the offset, since local time runs through some hours twice."""
    offset = datetime.fromtimestamp(now, zone).utcoffset() or timedelta(0)
    shift = offset.total_seconds()
    return Instant((now + shift) // HOUR * HOUR - shift)


@lru_cache(maxsize=64)
def _midnight(day: date, zone: ZoneInfo) -> Instant:
    """The start of a local day; where clocks skip midnight, the moment at which they do."""
    return Instant(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def slot_of(start: Instant, present: Calendar) -> Slot:
    return Slot(
        hour=start >= present.hour,
        last_hour=present.last_hour <= start < present.hour,
        day=start >= present.day,
        yesterday=present.yesterday <= start < present.day,
        month=start >= present.month,
        last_month=present.last_month <= start < present.month,
        week=start >= present.week,
        quarter=start >= present.quarter,
        year=start >= present.year,
    )


def cut(start: Instant, end: Instant, cuts: Iterable[Instant]) -> Iterator[tuple[Instant, float]]:
    """The parts of an interval between the cuts: the start of each, and its share of the time; they add up to one."""
    inside = sorted({cut for cut in cuts if start < cut < end})
    if not inside:
        yield start, 1.0
        return
    edges = [start, *inside]
    left = 1.0
    for begin, until in pairwise(edges):
        share = (until - begin) / (end - start)
        left -= share
        yield begin, share
    yield edges[-1], max(left, 0.0)


def opened(start: Instant, present: Calendar) -> Book:
    """A new book; `start` is when its line was first held."""
    return Book(
        total=Period(start),
        month=Period(present.month),
        day=Period(present.day),
        hour=Period(present.hour),
        last_hour=Period(present.last_hour),
        yesterday=Period(present.yesterday),
        last_month=Period(present.last_month),
        time_zone=present.time_zone,
        week=Spent(present.week),
        quarter=Spent(present.quarter),
        year=Spent(present.year),
    )


def rolled(book: Book, present: Calendar, since: Instant) -> Book:
    """The book in the present periods: one that has ended becomes the last of its kind, the total never ends.

    In another time zone than before all of them start anew, at `since`, up to when the book was kept.
    """
    if book.time_zone != present.time_zone:
        return _begun(book.total, present, since)
    if present.hour <= book.hour.start <= present.now and book.year is not None:
        return book
    turned = replace(
        book,
        month=_present(book.month, present.month, present),
        last_month=_closed(book.last_month, book.month, present.last_month, present.month),
        day=_present(book.day, present.day, present),
        yesterday=_closed(book.yesterday, book.day, present.yesterday, present.day),
        hour=_present(book.hour, present.hour, present),
        last_hour=_closed(book.last_hour, book.hour, present.last_hour, present.hour),
    )
    return replace(
        turned,
        week=_spent(book.week, present.week, turned, present),
        quarter=_spent(book.quarter, present.quarter, turned, present),
        year=_spent(book.year, present.year, turned, present),
    )


def _begun(total: Period, present: Calendar, since: Instant) -> Book:
    kept = min(since, present.now)
    fresh = opened(total.start, present)
    return replace(
        fresh,
        total=total,
        month=Period(max(present.month, kept)),
        day=Period(max(present.day, kept)),
        hour=Period(max(present.hour, kept)),
        week=Spent(max(present.week, kept)),
        quarter=Spent(max(present.quarter, kept)),
        year=Spent(max(present.year, kept)),
    )


def _present(period: Period, start: Instant, present: Calendar) -> Period:
    """A period that starts in the future was opened under a wrong clock."""
    return period if start <= period.start <= present.now else Period(start)


def _spent(before: Spent | None, start: Instant, book: Book, present: Calendar) -> Spent:
    """Since the start of a longer period. Where it was not kept, by what of the book began then or later, else as of
    now.
    """
    if before is not None:
        return before if start <= before.start <= present.now else Spent(start)
    if book.total.start >= start:
        return Spent.of(start, book.total.account)
    whole = next((period for period in (book.month, book.day) if period.start == start), None)
    return Spent(present.now) if whole is None else Spent.of(start, whole.account)


def _closed(closed: Period, present: Period, start: Instant, end: Instant) -> Period:
    """The complete period from `start` to `end`: the one that is kept as such, else the one that was the present."""
    return next((period for period in (closed, present) if start <= period.start < end), Period(start))


def added(book: Book, slot: Slot, account: Account) -> Book:
    """The book with an account more in the total and in each period that the slot names."""
    return replace(
        book,
        total=_more(book.total, account),
        month=_more(book.month, account) if slot.month else book.month,
        last_month=_more(book.last_month, account) if slot.last_month else book.last_month,
        day=_more(book.day, account) if slot.day else book.day,
        yesterday=_more(book.yesterday, account) if slot.yesterday else book.yesterday,
        hour=_more(book.hour, account) if slot.hour else book.hour,
        last_hour=_more(book.last_hour, account) if slot.last_hour else book.last_hour,
        week=book.week.more(account) if slot.week and book.week else book.week,
        quarter=book.quarter.more(account) if slot.quarter and book.quarter else book.quarter,
        year=book.year.more(account) if slot.year and book.year else book.year,
    )


def _more(period: Period, account: Account) -> Period:
    return Period(period.start, period.account + account)
