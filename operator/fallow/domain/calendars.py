"""Calendar periods by the name that people give them: a month, an ISO week, a quarter; and the days in them.

And those of a budget at a time: the day, week, month, quarter or year that it lies in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from fallow.domain.goals import BudgetPeriod
from fallow.domain.units import Instant

_MONTH = re.compile(r"(\d{4})-(\d{2})")
_WEEK = re.compile(r"(\d{4})-W(\d{2})")
_QUARTER = re.compile(r"(\d{4})-Q([1-4])")


@dataclass(frozen=True, slots=True)
class CalendarPeriod:
    """Days from `first` up to, but not with, `end`, in a time zone. `title` is what it was called."""

    title: str
    first: date
    end: date
    zone: ZoneInfo

    @property
    def days(self) -> int:
        return (self.end - self.first).days

    @property
    def last_month(self) -> str:
        """The month that it ends in, YYYY-MM."""
        return f"{self.end - timedelta(days=1):%Y-%m}"

    def boundaries(self) -> Iterator[tuple[date, Instant]]:
        """Each day's date with its midnight, and the midnight that ends the period; days have 23 to 25 hours."""
        for number in range(self.days + 1):
            day = self.first + timedelta(days=number)
            yield day, Instant(datetime.combine(day, time(), self.zone).timestamp())

    def before(self) -> CalendarPeriod:
        """The period of the same kind before this one."""
        last = self.first - timedelta(days=1)
        if _WEEK.fullmatch(self.title):
            year, week, _ = last.isocalendar()
            return period(f"{year}-W{week:02}", self.zone)
        if _QUARTER.fullmatch(self.title):
            return period(f"{last.year}-Q{(last.month - 1) // 3 + 1}", self.zone)
        return period(f"{last:%Y-%m}", self.zone)


def period(title: str, zone: ZoneInfo) -> CalendarPeriod:
    """The period of a title; raises ValueError with what to write instead."""
    if found := _MONTH.fullmatch(title):
        year, month = int(found[1]), int(found[2])
        if 1 <= month <= 12 and year > 0:
            return CalendarPeriod(title, date(year, month, 1), _month_after(year, month, 1), zone)
    if found := _WEEK.fullmatch(title):
        try:
            first = date.fromisocalendar(int(found[1]), int(found[2]), 1)
        except ValueError as error:
            raise ValueError(f"{title!r} is no week: the year {found[1]} has no week {found[2]}") from error
        return CalendarPeriod(title, first, first + timedelta(days=7), zone)
    if found := _QUARTER.fullmatch(title):
        year, month = int(found[1]), int(found[2]) * 3 - 2
        return CalendarPeriod(title, date(year, month, 1), _month_after(year, month, 3), zone)
    raise ValueError(f"{title!r} is no period: write a month such as 2026-11, a week 2026-W47 or a quarter 2026-Q4")


def first_day(kind: BudgetPeriod, day: date) -> date:
    """The day that the period begins with in which a day lies; weeks begin on Monday (ISO 8601)."""
    match kind:
        case BudgetPeriod.DAY:
            return day
        case BudgetPeriod.WEEK:
            return day - timedelta(days=day.weekday())
        case BudgetPeriod.MONTH:
            return day.replace(day=1)
        case BudgetPeriod.QUARTER:
            return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
        case BudgetPeriod.YEAR:
            return date(day.year, 1, 1)


def bounds(kind: BudgetPeriod, now: Instant, zone: ZoneInfo) -> tuple[Instant, Instant]:
    """When the period began that a time lies in, and when the next one does."""
    first = first_day(kind, datetime.fromtimestamp(now, zone).date())
    # longer than the period itself, and shorter than it and the next one
    beyond = {BudgetPeriod.DAY: 1, BudgetPeriod.WEEK: 7, BudgetPeriod.MONTH: 31, BudgetPeriod.QUARTER: 92}
    end = first_day(kind, first + timedelta(days=beyond.get(kind, 366)))
    return _midnight(first, zone), _midnight(end, zone)


def day_of(now: Instant, zone: ZoneInfo) -> str:
    """The day there, YYYY-MM-DD."""
    return datetime.fromtimestamp(now, zone).date().isoformat()


def _midnight(day: date, zone: ZoneInfo) -> Instant:
    return Instant(datetime.combine(day, time(), zone).timestamp())


def _month_after(year: int, month: int, count: int) -> date:
    number = year * 12 + month - 1 + count
    return date(number // 12, number % 12 + 1, 1)
