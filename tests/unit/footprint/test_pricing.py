"""Each piece of time is priced by the intensity of its own time, however late it is booked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.domain.figures import Missing
from fallow.domain.ledger import Account
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.zones import IntensityTier, Spell, ZoneReading
from fallow.footprint.bookkeeping import book
from tests.support.metered import FREE, gpu, later, opened, snapshot, zone

NORTH = FREE._replace(zone="north")
UNKNOWN = Missing(Reason.SOURCE_UNREACHABLE, "no answer")


def spell(seconds: float, grams: float | Missing) -> Spell:
    return Spell(later(seconds), zone(grams=grams))


def gap(*spells: Spell, grams: float | Missing = 900) -> Account:
    """An hour of an empty GPU at 360 W, booked in one; `grams` is the present intensity."""
    ledger = book(opened(), snapshot(0, [gpu(0, 1e8)], zones=[zone(grams=grams)]))
    seen = snapshot(3600, [gpu(3600, 1e8 + 3600 * 360)], zones=[zone(grams=grams)])
    return book(ledger, replace(seen, spells={"north": spells})).books[NORTH].total.account


def grams_per_kwh(account: Account) -> float:
    return account.carbon.best.value / account.facility.best.kilowatt_hours


def test_without_a_memory_all_time_is_priced_by_the_present() -> None:
    assert grams_per_kwh(gap()) == pytest.approx(900)


def test_a_gap_is_priced_by_what_was_read_in_it() -> None:
    assert grams_per_kwh(gap(spell(-60, 100), spell(1800, 500))) == pytest.approx(300)


def test_what_changed_after_the_gap_does_not_matter() -> None:
    assert grams_per_kwh(gap(spell(-60, 100), spell(3600, 900))) == pytest.approx(100)


def test_time_in_which_the_intensity_was_not_known_stays_unpriced() -> None:
    account = gap(spell(-60, 400), spell(900, UNKNOWN), spell(1800, 400))
    assert account.unpriced.value == pytest.approx(account.facility.best.value / 4)
    assert account.carbon.best.value == pytest.approx(400 * account.facility.best.kilowatt_hours * 3 / 4)


def test_time_before_fallow_watched_takes_the_first_value_with_wider_bounds() -> None:
    watched, before = gap(spell(-60, 400)), gap(spell(3590, 400))
    assert before.carbon.best.value == pytest.approx(watched.carbon.best.value)
    assert before.carbon.low.value == pytest.approx(watched.carbon.low.value * 0.9, rel=0.01)
    assert before.carbon.high.value == pytest.approx(watched.carbon.high.value * 1.1, rel=0.01)


def test_the_first_value_is_the_first_that_is_known() -> None:
    assert grams_per_kwh(gap(spell(3500, UNKNOWN), spell(3590, 400))) == pytest.approx(400, rel=0.05)


def test_a_value_that_holds_for_all_time_is_not_widened() -> None:
    declared = zone(grams=400)
    assert not isinstance(declared.intensity, Missing)
    still = ZoneReading(declared.zone, replace(declared.intensity, tier=IntensityTier.DECLARED))
    account = gap(Spell(later(3590), still))
    assert account.carbon.low.value == pytest.approx(gap(spell(-60, 400)).carbon.low.value)


def test_prices_share_the_energy_out_and_leave_its_sum_alone() -> None:
    account = gap(*(spell(second, second) for second in range(0, 3600, 60)))
    assert account.energy.best.value == pytest.approx(3600 * 360, rel=1e-12)
    assert grams_per_kwh(account) == pytest.approx(1770)


def test_old_readings_are_booked_into_the_periods_in_which_they_lie() -> None:
    """Read back at one o'clock: what was used before twelve belongs to the last hour."""
    ledger = book(opened(-1800), snapshot(-1800, [gpu(-1800, 1e8)]))
    past: Snapshot = snapshot(-600, [gpu(-600, 1e8 + 1200 * 360)])
    late = book(ledger, replace(past, at=later(600)))
    known = late.books[FREE]
    assert known.last_hour.account.energy.best.value == pytest.approx(1200 * 360)
    assert known.hour.account.energy.best.value == 0
