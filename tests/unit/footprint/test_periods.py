"""Hours, days and months in UTC: what is booked where, and when a period starts anew."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.ledger import Book, Ledger, Span
from fallow.domain.units import Instant
from fallow.footprint.bookkeeping import book
from fallow.footprint.periods import calendar, cut
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
