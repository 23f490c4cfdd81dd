"""Schedules: at least so many replicas while a window is open, ready when it opens, and no surprise when it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.app.openings import Openings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.weekly import weekly
from fallow.domain.workloads import Schedule, Service, ServiceMemory
from fallow.planner.opening import LATE, LONGER, UNKNOWN, lead, opened
from tests.support.builders import BF16, CHAT, Running, Scene, policy, profile, service
from tests.unit.planner.asking import planned

# 2026-11-02, a Monday, at 08:00 UTC
OPENS = Instant(1_793_606_400.0)
CLOSES = Instant(OPENS + 10 * 3600)
HOURS = Schedule(weekly("Mon-Fri 08:00-18:00 UTC"), 2)


def scheduled(*schedules: Schedule, **more: Any) -> Service:
    one = service(**{"minimum": 0, **more})
    return replace(one, scaling=replace(one.scaling, schedules=schedules or (HOURS,)))


def resting(now: float, memory: ServiceMemory | None = None, **more: Any) -> Scene:
    given: dict[str, Any] = {"service": scheduled(), "policy": policy(), "history": ()} | more
    asleep = replace(memory or ServiceMemory(), resting=True)
    return Scene(variants={"bf16": Running(0)}, memory=asleep, now=Instant(now), **given)


def at_work(scene: Scene, openings: Openings | None = None) -> Any:
    """One service's plan, by what is open at the scene's time."""
    snapshot = scene.snapshot()
    return planned(replace(snapshot, cluster=(openings or Openings()).seen(snapshot.cluster, snapshot.at)))


def test_a_resting_service_wakes_for_its_opening() -> None:
    plan = at_work(resting(OPENS - 60))

    assert plan.replicas == {"bf16": 2}
    assert (plan.decision.action, plan.decision.reason) == ("Wake", Reason.SCHEDULE)
    assert plan.decision.message.endswith("opens Mon-Fri 08:00-18:00 UTC: at least 2 replicas")
    assert at_work(resting(OPENS - 3600)).standing.reason is Reason.RESTING


def test_an_adopted_deployment_is_started_too_and_one_that_was_stopped_is_not() -> None:
    assert at_work(resting(OPENS, service=scheduled(target="chat"))).replicas == {"bf16": 2}
    assert at_work(resting(OPENS, service=scheduled(requested=0))).replicas == {"bf16": 0}
    assert at_work(resting(OPENS, service=scheduled(paused=True))).replicas == {"bf16": 0}


@pytest.mark.parametrize(
    ("memory", "profiles", "seconds"),
    [
        (ServiceMemory(wake_took=Seconds(100)), (), 100 * LONGER + LATE),
        (ServiceMemory(), (profile(BF16, (1, 100, 300), load_seconds=Seconds(40)),), 40 * LONGER + LATE),
        (ServiceMemory(), (), UNKNOWN),
        (ServiceMemory(wake_took=Seconds(9000)), (), 1800),
    ],
    ids=["the last wake", "the profile", "nothing", "an endless start"],
)
def test_it_is_early_by_what_a_start_takes(memory: ServiceMemory, profiles: Any, seconds: float) -> None:
    scene = resting(OPENS, memory, profiles=profiles)

    assert lead(scene.cluster(), scene.service) == pytest.approx(seconds)


def test_running_replicas_are_brought_up_to_the_schedule_and_kept_there_through_a_quiet_hour() -> None:
    few = Scene(service=scheduled(), variants={"bf16": Running(1)}, policy=policy(), now=OPENS)
    plan = at_work(few)
    assert plan.replicas == {"bf16": 2}
    assert (plan.decision.action, plan.decision.reason) == ("ScaleUp", Reason.SCHEDULE)

    idle = ServiceMemory(quiet_since=Instant(OPENS - 3600))
    quiet = Scene(
        service=scheduled(), variants={"bf16": Running(2)}, policy=policy(), memory=idle, now=Instant(CLOSES - 1)
    )
    assert at_work(quiet).replicas == {"bf16": 2}
    assert "the schedule Mon-Fri 08:00-18:00 UTC keeps 2 replicas" in at_work(quiet).standing.message
    assert at_work(replace(quiet, now=Instant(CLOSES + 1))).replicas == {"bf16": 0}


def test_what_was_opened_early_stays_open_when_the_start_was_a_short_one() -> None:
    openings, early = Openings(), Instant(OPENS - 590)
    unknown = resting(early).cluster()
    known = replace(unknown, memories={CHAT: ServiceMemory(wake_took=Seconds(20))})

    assert openings.seen(unknown, early).services[CHAT].scaling.min_replicas == 2
    assert openings.seen(known, Instant(early + 60)).services[CHAT].scaling.min_replicas == 2
    assert Openings().seen(known, Instant(early + 60)) is known
    assert openings.seen(known, CLOSES) is known


def test_while_nothing_opens_or_closes_services_are_the_same_objects() -> None:
    """What was reckoned from them before is still good."""
    openings, cluster = Openings(), resting(OPENS).cluster()
    first = openings.seen(cluster, OPENS)

    assert openings.seen(cluster, Instant(OPENS + 15)).services is first.services
    assert openings.seen(replace(cluster, services={}), Instant(OPENS + 30)).services == {}


@given(
    minimum=st.integers(0, 4),
    maximum=st.integers(4, 8),
    asked=st.lists(st.integers(1, 12), max_size=3),
    hours=st.integers(-200, 200),
)
def test_a_schedule_only_ever_asks_for_more(minimum: int, maximum: int, asked: list[int], hours: int) -> None:
    schedules = tuple(Schedule(HOURS.window, count) for count in asked)
    one = service(minimum=minimum, maximum=maximum)
    one = replace(one, scaling=replace(one.scaling, schedules=schedules))
    cluster, now = Scene(service=one).cluster(), Instant(OPENS + 3600.0 * hours)
    found = Openings().seen(cluster, now).services[CHAT].scaling
    most = max([minimum, *(asked if HOURS.window.is_open(now, UNKNOWN) else [])])

    assert found.min_replicas == min(most, maximum)
    assert (found.opened_by != "") == (CHAT in opened(cluster, now, {}))
