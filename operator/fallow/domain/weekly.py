"""A weekly window: days, hours and a time zone, such as "Mon-Fri 08:00-18:00 Europe/Berlin"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from fallow.domain.units import Instant, Seconds

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """Open on `days` (0: Monday) from `begin` to `end` by the clocks of a `zone`; where the end is not later than the
    beginning it is the next day's. `text` is as it was declared.
    """

    text: str
    days: frozenset[int]
    begin: time
    end: time
    zone: ZoneInfo

    def __str__(self) -> str:
        return self.text

    def is_open(self, now: Instant, early: Seconds = Seconds(0)) -> bool:
        """Whether it is open now, or opens within so many seconds. The end itself is outside."""
        today = datetime.fromtimestamp(now, self.zone).date()
        # one that began yesterday may be open still, and one that begins tomorrow or later be near
        ahead = int(early // 86_400) + 2
        return any(begin - early <= now < end for begin, end in self._spans(today - timedelta(days=1), ahead + 1))

    def closes_in(self, now: Instant) -> Seconds:
        """Until it closes; 0 where it is not open."""
        today = datetime.fromtimestamp(now, self.zone).date()
        spans = self._spans(today - timedelta(days=1), 2)
        return Seconds(max((end - now for begin, end in spans if begin <= now < end), default=0.0))

    def _spans(self, first: date, days: int) -> Iterator[tuple[float, float]]:
        for day in (first + timedelta(days=number) for number in range(days)):
            if day.weekday() in self.days:
                last = day if self.end > self.begin else day + timedelta(days=1)
                yield self._at(day, self.begin), self._at(last, self.end)

    def _at(self, day: date, clock: time) -> float:
        return datetime.combine(day, clock, self.zone).timestamp()


@lru_cache(maxsize=1024)
def weekly(text: str) -> WeeklyWindow:
    """Of a text that the API has checked; raises ValueError where it has not."""
    days, hours, zone = text.split(" ")
    begin, end = (time.fromisoformat(clock) for clock in hours.split("-"))
    return WeeklyWindow(text, frozenset(_days(days)), begin, end, ZoneInfo(zone))


def _days(text: str) -> Iterator[int]:
    """Of "Sat,Sun" or "Fri-Mon", which goes over the end of the week."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        start = DAYS.index(first)
        for number in range((DAYS.index(last or first) - start) % 7 + 1):
            yield (start + number) % 7
