"""The books as a status shows them."""

from __future__ import annotations

from fallow.adapters.reports.footprints import footprints
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from tests.adapters.reports.scenes import ledger
from tests.support.builders import CHAT, NOW, intensity

UNKNOWN = Missing(Reason.SOURCE_UNREACHABLE, "connection refused")


def test_amounts_carry_bounds_and_units() -> None:
    shown = footprints(ledger(), CHAT, intensity(300), NOW)
    assert shown is not None
    assert shown.total is not None
    total = shown.total.as_json()

    assert total["energyWh"] == {"low": 2.0, "best": 2.0, "high": 2.0}
    assert total["facilityEnergyWh"] == {"low": 2.4, "best": 3.0, "high": 4.0}
    assert total["carbonGrams"] == {"low": 0.8, "best": 1.0, "high": 1.2}
    assert total["waterMillilitres"]["best"] == 2
    assert (total["idleEnergyWh"], total["idleShare"]) == (0.5, 0.25)


def test_units_of_service_share_everything_idle_time_included() -> None:
    shown = footprints(ledger(), CHAT, intensity(300), NOW)
    assert shown is not None
    assert shown.total is not None
    total = shown.total.as_json()

    assert total["perToken"]["energyJoules"]["best"] == 2
    assert total["perRequest"]["energyJoules"]["best"] == 720


def test_without_a_token_there_is_no_figure_per_token() -> None:
    shown = footprints(ledger(generated=0), CHAT, intensity(300), NOW)
    assert shown is not None
    assert shown.total is not None

    assert shown.total.per_token is None
    assert shown.total.per_request is not None


def test_energy_that_could_not_be_priced_leaves_carbon_unknown() -> None:
    shown = footprints(ledger(unpriced=7200 * 1.5), CHAT, UNKNOWN, NOW)
    assert shown is not None
    assert shown.total is not None

    assert shown.total.carbon_grams is None
    assert shown.missing[0] == "carbon is not counted now: SourceUnreachable: connection refused"


def test_partly_priced_energy_says_what_is_left_out() -> None:
    shown = footprints(ledger(unpriced=3600), CHAT, intensity(300), NOW)
    assert shown is not None
    assert shown.total is not None

    assert shown.total.carbon_grams is not None
    assert shown.missing == ["carbon leaves out 1.0 Wh for which no intensity was known"]


def test_an_hour_before_the_service_was_seen_is_not_shown() -> None:
    new = footprints(ledger(since=Instant(NOW + 60)), CHAT, intensity(300), Instant(NOW + 120))
    old = footprints(ledger(), CHAT, intensity(300), NOW)
    assert new is not None
    assert old is not None

    assert new.last_hour is None
    assert old.last_hour is not None


def test_a_service_without_books_has_no_footprint() -> None:
    other = type(CHAT)("llm", "other")

    assert footprints(ledger(), other, intensity(300), NOW) is None
