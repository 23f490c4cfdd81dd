"""What is remembered of each zone: a new spell where a price changed, none where only its sample is newer."""

from __future__ import annotations

from dataclasses import replace

from fallow.app.spells import KEPT, Spells
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.zones import ZoneReading
from tests.support.metered import later, zone


def grams(reading: ZoneReading) -> float | str:
    return "unknown" if isinstance(reading.intensity, Missing) else reading.intensity.grams.best.value


def noted(*values: float | Missing) -> list[tuple[float, float | str]]:
    """The spells after one value a minute: since which second, and how much."""
    spells, found = Spells(), {}
    for minute, value in enumerate(values):
        found = dict(spells.note(later(60 * minute), {"north": zone(grams=value)}))
    return [(spell.since - later(0), grams(spell.reading)) for spell in found["north"]]


def test_a_value_that_stays_is_one_spell() -> None:
    assert noted(400, 400, 400) == [(0, 400)]


def test_each_change_begins_a_spell() -> None:
    assert noted(400, 300, 300, 400) == [(0, 400), (60, 300), (180, 400)]


def test_not_knowing_is_a_spell_too() -> None:
    outage = Missing(Reason.SOURCE_UNREACHABLE, "no answer")
    assert noted(400, outage, outage, 400) == [(0, 400), (60, "unknown"), (180, 400)]


def test_a_factor_that_is_declared_anew_begins_a_spell() -> None:
    spells, first = Spells(), zone()
    spells.note(later(0), {"north": first})
    dry = replace(first, zone=replace(first.zone, water_on_site=None))
    assert len(spells.note(later(60), {"north": dry})["north"]) == 2


def test_the_memory_is_bounded() -> None:
    assert len(noted(*(float(number) for number in range(KEPT + 10)))) == KEPT


def test_a_zone_that_is_gone_is_forgotten() -> None:
    spells = Spells()
    spells.note(later(0), {"north": zone()})
    assert spells.note(later(60), {}) == {}


def test_after_a_clock_that_ran_ahead_spells_stay_in_order() -> None:
    spells = Spells()
    for seconds, value in ((0, 100.0), (9000, 200.0), (60, 300.0)):
        found = spells.note(later(seconds), {"north": zone(grams=value)})
    assert [spell.since for spell in found["north"]] == [later(0), later(60)]
