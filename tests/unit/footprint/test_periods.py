"""Hours, days and months in UTC: what is booked where, and when a period starts anew."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.calendars import bounds
from fallow.domain.goals import BudgetPeriod
from fallow.domain.ledger import Book, Ledger, Span, Spent
from fallow.domain.units import Instant
from fallow.footprint.bookkeeping import book
from fallow.footprint.periods import calendar, cut, rolled
from tests.support.metered import CHAT_LINE, NOON, engine, gpu, opened, pod, snapshot

HOUR, DAY = 3600, 86_400
# NOON is 14 March 2026, 12:00 UTC
TO_MIDNIGHT = 12 * HOUR
TO_APRIL = TO_MIDNIGHT + 17 * DAY


def at(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def run(*times: float) -> Ledger:
    """100 W and a hundred tokens a second, read at the times given."""
    ledger = opened(times[0])
    for seconds in times:
        seen = [gpu(seconds, 1e8 + 100 * seconds, 100.0, holder="llm/chat-1")]
        engines = {"chat-1": engine(seconds, 1e8 + 100 * seconds)}
        ledger = book(ledger, snapshot(seconds, seen, pods=[pod("chat-1")], engines=engines))
    return ledger


def seconds_of(ledger: Ledger) -> dict[Span, float]:
    """How many seconds of the 100 W are booked in each period."""
    known: Book = ledger.books[CHAT_LINE]
    for span in Span:
        account = known.period(span).account
        assert account.generated_tokens == pytest.approx(account.energy.best.value)
    return {span: known.period(span).account.energy.best.value / 100 for span in Span}


def spans(
    last_hour: float, hour: float, today: float, month: float, total: float, *, yesterday: float = 0, before: float = 0
) -> object:
    """Equal to a mapping of about these seconds; `before` are those of the last month."""
    return pytest.approx(dict(zip(Span, (last_hour, hour, yesterday, today, before, month, total), strict=True)))


def test_a_calendar_names_the_starts_of_its_periods() -> None:
    present = calendar(at("2026-03-14T12:34:56"))
    assert present.hour == at("2026-03-14T12:00")
    assert present.last_hour == at("2026-03-14T11:00")
    assert present.day == at("2026-03-14")
    assert present.month == at("2026-03-01")


def test_within_an_hour_everything_grows_alike() -> None:
    assert seconds_of(run(0, 100)) == spans(0, 100, 100, 100, 100)


def test_an_interval_across_the_hour_is_cut() -> None:
    assert seconds_of(run(HOUR - 100, HOUR + 50)) == spans(100, 50, 150, 150, 150)


def test_a_complete_hour_becomes_the_last() -> None:
    assert seconds_of(run(0, HOUR - 1, HOUR + 1)) == spans(HOUR, 1, HOUR + 1, HOUR + 1, HOUR + 1)


def test_a_sample_from_before_the_hour_is_added_to_the_last() -> None:
    ledger = run(0, HOUR - 20)
    rolled = book(ledger, snapshot(HOUR + 5))
    assert seconds_of(rolled) == spans(HOUR - 20, 0, HOUR - 20, HOUR - 20, HOUR - 20)
    seen = [gpu(HOUR - 5, 1e8 + 100 * (HOUR - 5), 100.0, holder="llm/chat-1")]
    engines = {"chat-1": engine(HOUR - 5, 1e8 + 100 * (HOUR - 5))}
    late = book(rolled, snapshot(HOUR + 10, seen, pods=[pod("chat-1")], engines=engines))
    assert seconds_of(late) == spans(HOUR - 5, 0, HOUR - 5, HOUR - 5, HOUR - 5)


def test_the_day_starts_anew_at_midnight() -> None:
    assert seconds_of(run(TO_MIDNIGHT - 60, TO_MIDNIGHT + 30)) == spans(60, 30, 30, 90, 90, yesterday=60)


def test_the_month_starts_anew_on_the_first_and_the_total_never() -> None:
    assert seconds_of(run(TO_APRIL - 60, TO_APRIL + 30)) == spans(60, 30, 30, 30, 90, yesterday=60, before=60)


def test_a_long_gap_is_spread_over_the_periods_it_spans() -> None:
    gap = TO_APRIL + 2 * DAY + 5 * HOUR + 600
    periods = spans(HOUR, 600, 5 * HOUR + 600, gap - TO_APRIL, gap, yesterday=DAY, before=TO_APRIL)
    assert seconds_of(run(0, gap)) == periods


def test_a_period_without_bookings_is_empty_and_not_the_one_before() -> None:
    ledger = book(run(0, 100), snapshot(3 * HOUR))
    assert seconds_of(ledger) == spans(0, 0, 100, 100, 100)
    assert ledger.books[CHAT_LINE].last_hour.start == NOON + 2 * HOUR


def test_the_clock_stepping_back_over_the_hour_changes_nothing() -> None:
    ledger = run(HOUR - 100, HOUR + 50)
    assert seconds_of(book(ledger, snapshot(HOUR - 10))) == seconds_of(ledger)


def test_a_line_opens_when_it_was_first_held() -> None:
    assert run(10, 100).books[CHAT_LINE].total.start == NOON + 10


@given(st.floats(0, 1e7), st.floats(1e-3, 1e7), st.floats(0, 1e7))
def test_the_shares_of_an_interval_add_up(start: float, length: float, now: float) -> None:
    begin = Instant(NOON + start)
    shares = [share for _, share in cut(begin, Instant(begin + length), calendar(Instant(NOON + now)).starts)]
    assert sum(shares) == pytest.approx(1, rel=1e-12)
    assert min(shares) >= 0


# of a GPU of 100 W in a node without a zone: (100 W + 150 W of host) x PUE 1.2
FACILITY_WATTS = 300.0


def spent(ledger: Ledger, kind: BudgetPeriod) -> Spent:
    found = ledger.books[CHAT_LINE].spent(kind)
    assert found is not None
    return found


@given(st.lists(st.floats(1, 2e7), min_size=1, max_size=4).map(sorted), st.sampled_from(BudgetPeriod))
def test_what_budgets_count_is_what_was_used_since_their_period_began(times: list[float], kind: BudgetPeriod) -> None:
    ledger = run(0, *times)
    start, _ = bounds(kind, Instant(NOON + times[-1]), ZoneInfo("UTC"))
    since = max(start, NOON)
    assert spent(ledger, kind).start == start
    assert spent(ledger, kind).facility.value == pytest.approx(
        FACILITY_WATTS * (NOON + times[-1] - since), rel=1e-6, abs=1e-3
    )
    assert spent(ledger, kind).unpriced == spent(ledger, kind).facility


@pytest.mark.parametrize("kind", [BudgetPeriod.WEEK, BudgetPeriod.QUARTER, BudgetPeriod.YEAR])
def test_of_books_that_did_not_count_a_period_is_taken_what_began_with_it_and_else_it_begins_now(
    kind: BudgetPeriod,
) -> None:
    ledger = run(0, 100)
    now = Instant(NOON + 200)
    known = replace(ledger.books[CHAT_LINE], week=None, quarter=None, year=None)
    older = replace(known, total=replace(known.total, start=Instant(0)))

    assert rolled(known, calendar(now), now).spent(kind) == ledger.books[CHAT_LINE].spent(kind)
    assert rolled(older, calendar(now), now).spent(kind) == Spent(now)


def test_a_week_that_began_with_the_day_is_known_from_books_that_did_not_count_it() -> None:
    to_monday = TO_MIDNIGHT + DAY + 8 * HOUR
    ledger = run(0, to_monday - HOUR, to_monday)
    book_of = ledger.books[CHAT_LINE]
    stored = replace(book_of, week=None, quarter=None, year=None)
    read = rolled(stored, calendar(Instant(NOON + to_monday)), Instant(NOON + to_monday))
    assert read.week == book_of.week
