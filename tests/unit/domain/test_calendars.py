"""Calendar periods: the days that a name stands for, the period before, and words for what is none."""

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from fallow.domain.calendars import bounds, period
from fallow.domain.goals import BudgetPeriod
from fallow.domain.units import Instant

UTC = ZoneInfo("UTC")


@pytest.mark.parametrize(
    ("title", "first", "end", "before"),
    [
        ("2026-11", date(2026, 11, 1), date(2026, 12, 1), "2026-10"),
        ("2026-01", date(2026, 1, 1), date(2026, 2, 1), "2025-12"),
        ("2026-12", date(2026, 12, 1), date(2027, 1, 1), "2026-11"),
        ("2026-W01", date(2025, 12, 29), date(2026, 1, 5), "2025-W52"),
        ("2027-W01", date(2027, 1, 4), date(2027, 1, 11), "2026-W53"),
        ("2026-Q4", date(2026, 10, 1), date(2027, 1, 1), "2026-Q3"),
        ("2026-Q1", date(2026, 1, 1), date(2026, 4, 1), "2025-Q4"),
    ],
)
def test_a_period_has_its_days_and_one_before(title: str, first: date, end: date, before: str) -> None:
    found = period(title, UTC)
    assert (found.first, found.end, found.before().title) == (first, end, before)
    assert found.before().end == first


@pytest.mark.parametrize(
    "title", ["2026-13", "2026-00", "0000-01", "November", "2026-Q5", "2026", "2026-W54", "2025-W53"]
)
def test_what_is_no_period_is_refused_with_what_to_write(title: str) -> None:
    with pytest.raises(ValueError, match=r"is no (period: write a month such as 2026-11|week)"):
        period(title, UTC)


def test_days_begin_at_midnight_of_the_zone_also_when_clocks_change() -> None:
    march = list(period("2026-03", ZoneInfo("Europe/Berlin")).boundaries())
    lengths = [after - before for (_, before), (_, after) in pairwise(march)]
    assert len(lengths) == 31
    assert lengths[28] == 23 * 3600
    assert {length for number, length in enumerate(lengths) if number != 28} == {24 * 3600}
    assert period("2026-03", UTC).last_month == "2026-03"


@pytest.mark.parametrize(
    ("kind", "first", "end"),
    [
        (BudgetPeriod.DAY, "2028-02-29", "2028-03-01"),
        (BudgetPeriod.WEEK, "2028-02-28", "2028-03-06"),
        (BudgetPeriod.MONTH, "2028-02-01", "2028-03-01"),
        (BudgetPeriod.QUARTER, "2028-01-01", "2028-04-01"),
        (BudgetPeriod.YEAR, "2028-01-01", "2029-01-01"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_a_budget_is_for_the_period_that_a_time_lies_in(kind: BudgetPeriod, first: str, end: str, zone: str) -> None:
    home = ZoneInfo(zone)

    def at(text: str) -> Instant:
        return Instant(datetime.fromisoformat(text).replace(tzinfo=home).timestamp())

    for moment in ("2028-02-29T00:00", "2028-02-29T12:34", "2028-02-29T23:59:59"):
        assert bounds(kind, at(moment), home) == (at(first), at(end))
