"""Profiles are filled in from the books, come back after a restart, and are reckoned anew only where one changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.adapters.cluster.ledger_codec import decode, encode
from fallow.adapters.reports.profile_status import Known, profile_status
from fallow.domain.ledger import Ledger
from fallow.domain.profiles import Profile
from fallow.domain.snapshots import ClusterView
from fallow.domain.units import Instant
from fallow.planner.estimate import Taught, teach
from tests.support.builders import BF16, CHAT, NOW, profile, service
from tests.support.learning import PLACEMENT, Traffic, engine_windows, learned
from tests.support.metered import NOON

EMPTY = profile(BF16)
DECLARED = profile(BF16, (1, 100, 200), (8, 800, 400), (64, 4000, 650))
VIEW = ClusterView(services={CHAT: service()}, profiles=(EMPTY,))


@pytest.fixture(scope="module")
def books() -> Ledger:
    known = learned(engine_windows(Traffic(3.0, 0.6), hours=1.0))
    return Ledger(NOON, NOON, learned={PLACEMENT: known})


def shown(ledger: Ledger | None, before: dict[str, Any] | None = None, declared: Profile = EMPTY) -> dict[str, Any]:
    taught = teach(ledger, VIEW, Taught())
    known = Known(taught.profiles.get(declared.key), taught.differences.get(declared.name, ()), ledger is not None)
    return profile_status(declared, known, before or {}, 1, NOW)


def test_a_learned_profile_without_points_is_filled_in(books: Ledger) -> None:
    status = shown(books)
    assert status["pointCount"] == len(status["points"]) >= 2
    costs = [point["joulesPerToken"] for point in status["points"]]
    assert costs == sorted(costs, reverse=True)
    assert status["bestJoulesPerToken"] == pytest.approx(min(costs), rel=1e-3)
    for point in status["points"]:
        assert point["lowJoulesPerToken"] < point["joulesPerToken"] < point["highJoulesPerToken"]
        assert point["watts"] / point["tokensPerSecond"] == pytest.approx(point["joulesPerToken"], rel=1e-3)


def test_points_come_back_after_a_restart(books: Ledger) -> None:
    before = shown(books)
    again = decode(encode(books))
    assert shown(again, before) == before
    assert shown(None, before) == before
    assert shown(again)["points"] == before["points"]


def test_what_is_reckoned_stays_while_nothing_of_it_changed(books: Ledger) -> None:
    once = teach(books, VIEW, Taught())
    assert teach(replace(books, at=Instant(books.at + 15)), VIEW, once) is once
    assert teach(replace(books, learned=dict(books.learned)), VIEW, once) is not once
    assert teach(books, replace(VIEW, services=dict(VIEW.services)), once) is not once


def test_declared_points_that_do_not_hold_are_named(books: Ledger) -> None:
    view = replace(VIEW, profiles=(DECLARED,))
    found = teach(books, view, Taught()).differences[DECLARED.name]
    for one in found:
        assert not one.seen.low.value <= one.declared.value <= one.seen.high.value
