"""Replicas for crests: only where it is known what a replica keeps up with, and from rates over a minute."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.arrivals import Arrivals, Uneven
from fallow.domain.profiles import Profile
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint, Flow, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Objectives
from fallow.planner.crests import LOOK, Crests, latest, rates
from tests.support.builders import BF16, CHAT, CYCLE, NOW, Scene, guards, point, policy, profile, service, watched
from tests.unit.planner.asking import planned
from tests.unit.planner.test_replicas import serving

# 10 ms a step at any batch and 20,000 prompt tokens a second: of 500 and 100 tokens some 24 requests/s within 25 ms
KNOWN = profile(BF16, (1, 100, 400, 0.010), (64, 6400, 600, 0.010), prefill_rate=20_000.0, max_concurrency=64)
OBJECTIVES = Objectives(ttft_p95=Seconds(1), itl_p95=Seconds(0.025))


def like(dispersion: float, *, rate: float = 20.0, prompt: float = 500.0, output: float = 100.0) -> Arrivals:
    """An hour of cycles at this rate, each burst within a cycle."""
    seconds = 3600.0
    return Arrivals(
        seconds=seconds,
        requests=rate * seconds,
        began=rate * seconds,
        answered=rate * seconds,
        prompt=rate * seconds * prompt,
        output=rate * seconds * output,
        cycles=Uneven(seconds, rate * seconds * dispersion, rate * seconds * dispersion, CYCLE),
    )


def flow(rate: float) -> Flow:
    return Flow(rate, rate, rate, rate * 500, rate * 100)


def scene(
    arrivals: Arrivals,
    *,
    replicas: int = 1,
    rate: float = 20.0,
    known: Profile = KNOWN,
    objectives: Objectives = OBJECTIVES,
) -> Snapshot:
    """So many requests per second for a long time, few of them in flight at the moments that were looked at."""
    told: dict[str, Any] = {"flow": flow(rate), "tokens_per_second": rate * 100}
    return Scene(
        service=service(concurrency=None, objectives=objectives, maximum=40),
        variants=serving(replicas, 6),
        policy=policy(guards=guards(objective_veto=False)),
        profiles=(known,),
        arrivals=arrivals,
        history=watched(6, replicas, desired=replicas, **told),
    ).snapshot()


def test_bursts_ask_for_more_replicas_than_their_mean() -> None:
    plan = planned(scene(like(20), replicas=1))

    assert plan.replicas["bf16"] == 2
    assert plan.standing.reason is Reason.ARRIVALS
    assert plan.standing.message.startswith("20 requests/s with crests of ")
    assert "variance 20 times the mean" in plan.standing.message


def test_of_smooth_requests_one_replica_keeps_up() -> None:
    assert planned(scene(like(1, rate=10), rate=10, replicas=1)).replicas["bf16"] == 1


def test_replicas_that_crests_need_stay_though_few_requests_are_in_flight() -> None:
    assert planned(scene(like(20), replicas=5)).replicas["bf16"] == 5
    assert planned(scene(like(1, rate=10), rate=10, replicas=5)).replicas["bf16"] == 4


def test_requests_that_nobody_counted_for_long_let_no_replica_go() -> None:
    counted = scene(like(20), replicas=5)
    seen = counted.history[CHAT]
    since = tuple(replace(one, flow=None) if NOW - one.at <= 400 else one for one in seen)

    assert planned(replace(counted, history={CHAT: since})).replicas["bf16"] == 5


@pytest.mark.parametrize(
    ("arrivals", "known"),
    [(Arrivals(), KNOWN), (like(20), replace(KNOWN, prefill_rate=None))],
    ids=["nothing came yet", "a profile without its prefill"],
)
def test_what_is_not_known_changes_nothing(arrivals: Arrivals, known: Profile) -> None:
    with_rates, without = scene(arrivals, known=known, replicas=2), scene(Arrivals(), known=known, replicas=2)

    assert planned(with_rates).replicas == planned(without).replicas
    assert planned(with_rates).standing.message == planned(without).standing.message


def points(*rates_: float | None) -> list[DemandPoint]:
    return [
        point(at=Instant(NOW + CYCLE * place), flow=None if rate is None else flow(rate))
        for place, rate in enumerate(rates_)
    ]


def test_rates_are_means_over_a_minute_at_least() -> None:
    found = rates(points(0, 8, 8, 8, 8, 8), 15)

    assert [rate for _, rate in found] == [0, 4, 16 / 3, 6, 8, 8]
    assert found[-1][0] == NOW + 5 * CYCLE
    assert LOOK == 4 * CYCLE


def test_a_longer_window_is_the_policy_s() -> None:
    assert rates(points(0, 8, 8, 8, 8, 8), 90)[-1][1] == pytest.approx(40 / 6)


def test_a_cycle_that_is_not_known_is_left_out() -> None:
    assert [rate for _, rate in rates(points(4, None, 8), 60)] == [4, 6]
    assert rates(points(None), 60) == []


@given(st.lists(st.none() | st.floats(-1, 1000), max_size=40), st.sampled_from([15.0, 60.0, 100.0, 300.0]))
def test_the_latest_rate_is_the_last_of_all(came: list[float | None], window: float) -> None:
    seen = points(*came)
    known = rates(seen, window)

    assert latest(seen, window) == (pytest.approx(known[-1][1], abs=1e-9) if known else None)


def test_no_crest_far_above_the_busiest_cycle_is_provided_for() -> None:
    careful = Crests(replace(like(160, rate=2.5), highest=12.0), 2.5, 7.0, 1.0, 1e-6)
    unknown = replace(careful, arrivals=replace(careful.arrivals, highest=0.0))

    assert unknown.now > 64
    assert careful.now == ceil(4 * 12 / 7)
    assert replace(careful, rate=70.0).now == 10


def test_prompts_alone_may_wait_as_long_as_their_objective_leaves() -> None:
    """A crest of some seconds is served in time by fewer replicas than would serve it at once."""

    def crest(ttft: float, itl: float | None = None) -> float:
        """That is provided for, requests/s."""
        limits = Objectives(ttft_p95=Seconds(ttft), itl_p95=None if itl is None else Seconds(itl))
        message = planned(scene(like(20, prompt=2000, output=1), objectives=limits)).standing.message
        return float(message.partition("crests of ")[2].partition("/s")[0])

    at_once, soon, later = crest(0.1), crest(1.0), crest(5.0)
    assert at_once > soon > later > 20
    # whoever answers as well is late by gaps, whatever its first token may wait
    assert crest(5.0, itl=0.025) == crest(1.0, itl=0.025) >= at_once
