"""Calendar periods by the name that people give them: a month, an ISO week, a quarter; and the days in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

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


def _month_after(year: int, month: int, count: int) -> date:
    number = year * 12 + month - 1 + count
    return date(number // 12, number % 12 + 1, 1)
