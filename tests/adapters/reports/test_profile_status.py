"""What was learned of a profile stands in its status, and is written anew only where somebody would look twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.adapters.cluster.mirror import PROFILES, Mirror
from fallow.adapters.reports.profile_status import Known, profile_status
from fallow.adapters.reports.status import StatusReporter
from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import LoadPoint
from fallow.domain.profiles import Difference, LearnedProfile, Profile, ProfileKey, Start
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Joules, Seconds, Watts
from tests.adapters.cluster import raw
from tests.adapters.reports.scenes import Sink, ledger, report
from tests.support.builders import BF16, H100, NOW, profile

KEY = ProfileKey(BF16.model, "BF16", H100, 1)
IDLE = Figure(Watts(115.0), Watts(121.0), Watts(127.0))
DECLARED = profile(BF16, (1, 100, 200), (10, 800, 400))


def seen(concurrency: float = 6.2, cost: float = 0.6, **more: Any) -> LoadPoint:
    plain: dict[str, Any] = {
        "joules_per_token": Figure(Joules(0.94 * cost), Joules(cost), Joules(1.06 * cost)),
        "joules_per_request": Missing(Reason.NO_WORK),
        "tokens_per_second": 300.0,
        "watts": 300.0 * cost,
        "windows": 120.4,
        "prompts": 2.5,
        "last_seen": Instant(NOW - 60),
    }
    return LoadPoint(concurrency, **{**plain, **more})


def one(*points: LoadPoint, **more: Any) -> LearnedProfile:
    return LearnedProfile(points or (seen(),), IDLE, idle_seen=True, services=2, **more)


def status(known: Known, before: dict[str, Any] | None = None, declared: Profile = DECLARED) -> dict[str, Any]:
    return profile_status(declared, known, before or {}, 3, NOW)


def condition(shown: dict[str, Any], kind: str = "PointsAgree") -> dict[str, Any]:
    found: dict[str, Any] = next(part for part in shown["conditions"] if part["type"] == kind)
    return found


def test_learned_points_stand_beside_the_declared_ones_and_count() -> None:
    shown = status(Known(one(seen(6.2, 0.6), seen(25.0, 0.2))))
    assert shown["points"] == [
        {
            "concurrency": level,
            "tokensPerSecond": 300.0,
            "watts": 300.0 * cost,
            "joulesPerToken": cost,
            "lowJoulesPerToken": pytest.approx(0.94 * cost),
            "highJoulesPerToken": pytest.approx(1.06 * cost),
            "samples": 120,
            "lastSeen": "2027-01-15T07:59:00Z",
        }
        for level, cost in ((6, 0.6), (25, 0.2))
    ]
    assert (shown["pointCount"], shown["bestJoulesPerToken"], shown["summary"]["best"]) == (4, 0.2, "0.2 at 25")
    assert shown["contextWatts"] == 121.0


def test_a_profile_without_points_of_its_own_is_filled_in_and_ready() -> None:
    empty = replace(DECLARED, points=())
    assert condition(status(Known(), declared=empty), "Ready")["status"] == "False"
    shown = status(Known(one()), declared=empty)
    assert (condition(shown, "Ready")["status"], shown["pointCount"]) == ("True", 1)
    assert [part["type"] for part in shown["conditions"]] == ["Ready"]


@pytest.mark.parametrize(
    ("mean", "level"), [(1.0, 1), (1.9, 1), (2.1, 2), (3.9, 3), (7.99, 7), (8.4, 8), (256.0, 256), (400.6, 401)]
)
def test_two_bins_never_have_the_same_concurrency(mean: float, level: int) -> None:
    assert status(Known(one(seen(mean))))["points"][0]["concurrency"] == level


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        ({"cost": 0.609}, False),
        ({"cost": 0.63}, True),
        ({"windows": 130.0}, False),
        ({"windows": 140.0}, True),
        ({"tokens_per_second": 325.0, "watts": 180.0}, False),
        ({"tokens_per_second": 340.0, "watts": 180.0}, True),
        ({"last_seen": Instant(NOW - 1)}, False),
        ({"last_seen": Instant(NOW + 3600)}, True),
    ],
    ids=[
        "a little dearer",
        "dearer",
        "some more minutes",
        "many more minutes",
        "a little faster",
        "faster",
        "seen again",
        "seen an hour later",
    ],
)
def test_what_hardly_moved_is_left_as_it_was_written(change: dict[str, Any], is_new: bool) -> None:
    before = status(Known(one()))
    after = status(Known(one(seen(**change))), before)
    assert (after != before) is is_new


def test_while_the_books_are_not_read_what_was_written_stays() -> None:
    before = status(Known(one(start=Start(Seconds(75.0), Joules(20_000)))))
    after = status(Known(is_read=False), before)
    assert {name: after[name] for name in ("points", "contextWatts", "load", "pointCount")} == {
        name: before[name] for name in ("points", "contextWatts", "load", "pointCount")
    }


def test_what_is_not_known_any_more_is_no_point_any_more() -> None:
    after = status(Known(), status(Known(one())))
    assert (after["points"], after["pointCount"], "contextWatts" in after) == ([], 2, False)


def test_the_last_start_that_was_seen_stays_while_no_replica_starts() -> None:
    before = status(Known(one(start=Start(Seconds(75.0), Joules(20_000)))))
    assert before["load"] == {"seconds": 75.0, "joules": 20000.0}
    assert status(Known(one()), before)["load"] == before["load"]
    assert status(Known(one(start=Start(Seconds(78.0), Joules(20_500)))), before)["load"] == before["load"]
    assert status(Known(one(start=Start(Seconds(90.0)))), before)["load"] == {"seconds": 90.0}


def test_an_idle_draw_of_the_table_is_not_shown_as_measured() -> None:
    assert "contextWatts" not in status(Known(replace(one(), idle_seen=False)))


def test_points_agree_where_nothing_contradicts_the_declared_ones() -> None:
    assert condition(status(Known(one())))["status"] == "True"
    assert condition(status(Known()))["status"] == "Unknown"


def test_a_point_that_contradicts_the_declared_ones_is_named_with_both_values_and_what_to_do() -> None:
    point = seen(6.2, 0.9)
    differing = Difference(point, Figure(Joules(0.44), Joules(0.4967), Joules(0.55)), Joules(0.31))
    told = condition(status(Known(one(point), (differing,))))
    assert (told["status"], told["reason"]) == ("False", "PointsDiffer")
    assert told["message"] == (
        "at 6.2 requests at once a token's work takes 0.497 J above loaded idle (0.44 to 0.55, 120 minutes of 2 "
        "services, 2.5 prompt tokens computed a token), spec.points say 0.31 J; 1 of 1 points differ. Precision is "
        "chosen by what was learned once both variants were measured; replicas are sized by spec.points: measure them "
        "again with prompts like these"
    )


class Desk:
    """A reporter over one profile; each `tell` is a cycle in which so much of it is known."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.mirror.put(PROFILES, raw.model_profile())
        self.sink = Sink(self.mirror)
        self.restart()

    def restart(self) -> None:
        self.reporter = StatusReporter(self.sink, self.mirror, refresh=Seconds(300))

    async def tell(self, now: float, learned: LearnedProfile) -> int:
        """The number of writes."""
        before = len(self.sink.sent)
        plain = report(self.mirror, now=now, books=ledger())
        estimates = replace(plain.estimates, profiles={KEY: learned})
        await self.reporter.report(replace(plain, estimates=estimates))
        return len(self.sink.sent) - before


async def test_a_steady_load_writes_a_profile_at_most_once_an_hour() -> None:
    desk, writes = Desk(), 0
    for cycle in range(1440):
        wobble = 0.6 * (1.0 + 0.01 * (cycle % 3 - 1))
        minutes = seen(6.2 + 0.1 * (cycle % 2), wobble, windows=200.0, last_seen=Instant(NOW + 15 * cycle))
        writes += await desk.tell(NOW + 15 * cycle, one(minutes))
    assert 1 <= writes <= 1 + 6


async def test_a_restart_writes_nothing() -> None:
    desk = Desk()
    for cycle in range(4):
        await desk.tell(NOW + 15 * cycle, one())
    desk.restart()
    assert await desk.tell(NOW + 90, one()) == 0
