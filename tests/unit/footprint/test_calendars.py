"""Calendars by time zone: half-hour offsets, days of 23 to 25 hours, a zone that changes."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.ledger import Book, Ledger
from fallow.domain.units import Instant
from fallow.footprint.bookkeeping import book
from fallow.footprint.periods import HOUR, calendar
from tests.support.metered import CHAT, CHAT_LINE, FREE, NOON, gpu, opened, pod, snapshot

DAY = 86_400
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Havana",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
)


def at(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def shown(instant: Instant) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%m-%d %H:%M")


@pytest.mark.parametrize(
    ("zone", "now", "hour", "day", "month"),
    [
        ("UTC", "2026-03-14T12:34", "03-14 12:00", "03-14 00:00", "03-01 00:00"),
        ("Europe/Berlin", "2026-03-14T23:30", "03-14 23:00", "03-14 23:00", "02-28 23:00"),
        ("Europe/Berlin", "2026-03-31T22:30", "03-31 22:00", "03-31 22:00", "03-31 22:00"),
        ("Asia/Kolkata", "2026-03-14T12:29", "03-14 11:30", "03-13 18:30", "02-28 18:30"),
        ("Asia/Kathmandu", "2026-03-14T12:29", "03-14 12:15", "03-13 18:15", "02-28 18:15"),
        ("America/New_York", "2026-11-01T06:10", "11-01 06:00", "11-01 04:00", "11-01 04:00"),
        ("America/Havana", "2026-03-08T05:30", "03-08 05:00", "03-08 05:00", "03-01 05:00"),
    ],
    ids=["UTC", "already tomorrow", "already April", "half hour", "quarter hour", "the hour twice", "no midnight"],
)
def test_periods_begin_with_the_clocks_of_their_zone(zone: str, now: str, hour: str, day: str, month: str) -> None:
    present = calendar(at(now), zone)
    assert (shown(present.hour), shown(present.day), shown(present.month)) == (hour, day, month)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-03-30", 24), ("2026-10-25", 25)])
def test_days_are_as_long_as_the_clocks_make_them(day: str, hours: int) -> None:
    after = calendar(Instant(at(day) + 1.5 * DAY), "Europe/Berlin")
    assert (after.day - after.yesterday) / HOUR == hours


@given(st.sampled_from(ZONES), st.floats(1.7e9, 2.0e9))
def test_periods_are_ordered_and_hold_the_present(zone: str, seconds: float) -> None:
    present = calendar(Instant(seconds), zone)
    assert present.last_hour < present.hour <= seconds < present.hour + HOUR
    assert present.yesterday < present.day <= seconds < present.day + 25.5 * HOUR
    assert present.last_month < present.month <= present.day
    for start in (present.day, present.month):
        local = datetime.fromtimestamp(start, ZoneInfo(zone))
        # where clocks skip midnight the day begins at one
        assert (local.hour, local.minute) in {(0, 0), (1, 0)}


@given(st.sampled_from(ZONES), st.floats(1.7e9, 2.0e9))
def test_the_complete_period_is_the_one_that_was_the_present_before(zone: str, seconds: float) -> None:
    present = calendar(Instant(seconds), zone)
    assert calendar(Instant(present.day - 1), zone).day == present.yesterday
    assert calendar(Instant(present.month - 1), zone).month == present.last_month
    assert calendar(Instant(present.hour - 1), zone).hour == present.last_hour


def test_a_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        calendar(NOON, "Europe/Atlantis")


def run(zones: dict[float, str], *times: float) -> Ledger:
    """100 W of a service, read at these seconds after noon UTC; from each key of `zones` on, its policy names it."""
    ledger = opened(times[0])
    for seconds in times:
        named = zones[max(key for key in zones if key <= seconds)]
        seen = [gpu(seconds, 1e8 + 100 * seconds, 100.0, holder="llm/chat-1")]
        ledger = book(ledger, replace(snapshot(seconds, seen, pods=[pod("chat-1")]), time_zones={CHAT: named}))
    return ledger


def day_of(known: Book) -> tuple[object, ...]:
    """Since when, after noon, and how many seconds are booked."""
    return known.day.start - NOON, known.day.account.energy.best.value / 100


def test_a_service_s_day_ends_at_its_own_midnight() -> None:
    berlin = run({0: "Europe/Berlin"}, 0, 11 * HOUR + 600).books[CHAT_LINE]
    assert day_of(berlin) == (11 * HOUR, pytest.approx(600))
    assert berlin.yesterday.account.energy.best.value == pytest.approx(11 * HOUR * 100)
    assert berlin.time_zone == "Europe/Berlin"


def test_an_hour_of_a_half_hour_zone_ends_at_half_past() -> None:
    kolkata = run({0: "Asia/Kolkata"}, 0, 1900).books[CHAT_LINE]
    assert kolkata.hour.start == NOON + 1800
    assert kolkata.hour.account.energy.best.value == pytest.approx(100 * 100)


def test_lines_without_a_service_follow_the_cluster_s_own_zone() -> None:
    ledger = book(opened(), snapshot(0, [gpu(0, 1e8, 100.0)]))
    seen = replace(snapshot(60, [gpu(60, 1e8 + 6000, 100.0)]), time_zone="Asia/Tokyo")
    assert shown(book(ledger, seen).books[FREE].day.start) == "03-13 15:00"


def test_another_zone_starts_the_periods_anew_and_says_since_when() -> None:
    changed = run({0: "Europe/Berlin", 700: "UTC"}, 0, 600, 900).books[CHAT_LINE]
    assert day_of(changed) == (600, pytest.approx(300))
    assert changed.month.start == NOON + 600
    assert changed.total.account.energy.best.value == pytest.approx(900 * 100)


def test_after_the_change_the_next_midnight_starts_a_whole_day() -> None:
    changed = run({0: "Europe/Berlin", 700: "UTC"}, 0, 600, 900, 12 * HOUR + 60).books[CHAT_LINE]
    assert day_of(changed) == (12 * HOUR, pytest.approx(60))
    assert changed.yesterday.start == NOON + 600
    assert changed.yesterday.account.energy.best.value == pytest.approx((12 * HOUR - 600) * 100)


@given(
    st.lists(st.tuples(st.floats(1, 50_000), st.sampled_from(ZONES)), min_size=2, max_size=12),
)
def test_no_period_holds_more_than_its_time_and_the_total_holds_all(steps: list[tuple[float, str]]) -> None:
    now, times, zones = 0.0, [0.0], {0.0: "UTC"}
    for length, zone in steps:
        now += length
        times.append(now)
        zones[now] = zone
    known = run(zones, *times).books[CHAT_LINE]
    assert known.total.account.energy.best.value == pytest.approx(now * 100)
    for period in (known.hour, known.day, known.month):
        assert period.account.energy.best.value <= (NOON + now - period.start) * 100 + 0.1
