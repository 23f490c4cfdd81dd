"""Weekly windows by the clocks of a zone, also where those are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.units import Instant, Seconds
from fallow.domain.weekly import DAYS, weekly


def at(text: str, zone: str = "UTC") -> Instant:
    return Instant(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        ("Mon-Fri 08:00-18:00 UTC", "2026-11-02T07:59:59", False),
        ("Mon-Fri 08:00-18:00 UTC", "2026-11-02T08:00:00", True),
        ("Mon-Fri 08:00-18:00 UTC", "2026-11-06T17:59:59", True),
        ("Mon-Fri 08:00-18:00 UTC", "2026-11-06T18:00:00", False),
        ("Mon-Fri 08:00-18:00 UTC", "2026-11-07T12:00:00", False),
        ("Mon-Fri 20:00-06:00 UTC", "2026-11-07T05:00:00", True),
        ("Mon-Fri 20:00-06:00 UTC", "2026-11-02T05:00:00", False),
        ("Sat,Sun 00:00-00:00 UTC", "2026-11-08T23:59:59", True),
        ("Sat,Sun 00:00-00:00 UTC", "2026-11-09T00:00:00", False),
        ("Fri-Mon 10:00-11:00 UTC", "2026-11-01T10:30:00", True),
        ("Fri-Mon 10:00-11:00 UTC", "2026-11-03T10:30:00", False),
        ("Mon 08:00-18:00 Europe/Berlin", "2026-11-02T07:30:00", True),
        ("Mon 08:00-18:00 Europe/Berlin", "2026-07-06T06:30:00", True),
        ("Mon 08:00-18:00 America/New_York", "2026-11-02T12:30:00", False),
    ],
)
def test_a_window_is_open_by_the_clocks_of_its_zone(window: str, moment: str, is_open: bool) -> None:
    assert weekly(window).is_open(at(moment)) is is_open


def test_who_needs_time_is_told_early() -> None:
    window, opens = weekly("Mon-Fri 08:00-18:00 UTC"), at("2026-11-02T08:00:00")

    assert window.is_open(Instant(opens - 60), Seconds(60))
    assert not window.is_open(Instant(opens - 61), Seconds(60))
    assert window.is_open(Instant(opens - 2 * 86_400), Seconds(2 * 86_400))


@pytest.mark.parametrize(
    ("window", "hours"),
    [
        ("Sun 00:00-00:00 Europe/Berlin", 25),
        ("Sun 02:00-04:00 Europe/Berlin", 3),
        ("Sat 20:00-06:00 Europe/Berlin", 11),
    ],
)
def test_the_night_in_which_clocks_are_put_back_is_an_hour_longer(window: str, hours: int) -> None:
    """On 25 October 2026."""
    begin = at("2026-10-24T00:00:00", "Europe/Berlin")
    minutes = [Instant(begin + 60 * number) for number in range(3 * 24 * 60)]

    assert sum(weekly(window).is_open(minute) for minute in minutes) == hours * 60


@given(
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"]),
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.integers(0, 23),
    st.integers(1, 23),
    st.integers(0, 370 * 24 * 4),
)
def test_a_window_is_open_on_its_days_between_its_hours(
    zone: str, days: set[str], begin: int, hours: int, quarter: int
) -> None:
    """Where the hours lie within a day, the clock on the wall alone tells."""
    end = min(begin + hours, 23)
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * quarter)
    local = now.astimezone(ZoneInfo(zone))
    window = weekly(f"{','.join(sorted(days))} {begin:02}:00-{end:02}:59 {zone}")
    inside = DAYS[local.weekday()] in days and begin <= local.hour and (local.hour, local.minute) < (end, 59)

    # around a change of clocks an hour is there twice, or not at all
    if all((local + timedelta(days=day)).utcoffset() == local.utcoffset() for day in (-1, 1)):
        assert window.is_open(Instant(now.timestamp())) is inside
