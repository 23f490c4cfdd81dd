"""A service's load: sums over ready pods, and Missing wherever a part of it cannot be trusted."""

from dataclasses import astuple, replace

import pytest

from fallow.domain.figures import Missing
from fallow.domain.readings import Readings, WaitingSeries
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.planner.demand import covers, demand_of, outside_waiting
from tests.support.builders import (
    CYCLE,
    NOW,
    WAKE,
    Running,
    Scene,
    engine,
    held_series,
    readings,
    ref,
    service,
    watched,
)

MAX_AGE = Seconds(90)
BEFORE = Instant(NOW - CYCLE)
TWO = {"bf16": Running(2, running=6, waiting=2, kv=0.4)}


def demand(scene: Scene) -> DemandPoint | Missing:
    return demand_of(scene.snapshot(), scene.service, MAX_AGE)


def known(scene: Scene) -> DemandPoint:
    found = demand(scene)
    assert isinstance(found, DemandPoint), found
    return found


def test_load_is_the_sum_over_ready_pods_and_cache_their_mean() -> None:
    found = known(Scene(variants=TWO))
    assert (found.running, found.waiting, found.kv_mean, found.ready, found.desired) == (6, 2, 0.4, 2, 2)


def test_pods_that_are_not_ready_add_nothing_but_count_as_desired() -> None:
    found = known(Scene(variants={"bf16": Running(3, ready=2, running=6)}))
    assert (found.running, found.ready, found.desired) == (6, 2, 3)


def test_without_ready_pods_there_is_no_load_and_no_rate_of_anything() -> None:
    found = known(Scene(variants={"bf16": Running(2, ready=0)}))
    assert (found.in_flight, found.kv_mean, found.ready, found.desired) == (0, None, 0, 2)


def test_the_cache_is_unknown_when_one_engine_does_not_tell_it() -> None:
    seen = readings(TWO)
    engines = {**seen.engines, ref("bf16-0"): replace(seen.engines[ref("bf16-0")], kv_usage=None)}
    assert known(Scene(variants=TWO, readings=replace(seen, engines=engines))).kv_mean is None


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ({}, Reason.NO_SERIES, "no vLLM series for pod llm/bf16-0"),
        ({"engine_fault": Missing(Reason.SOURCE_UNREACHABLE, "refused")}, Reason.SOURCE_UNREACHABLE, "refused"),
        ({"pod_faults": {ref("bf16-0"): Missing(Reason.NOT_A_NUMBER, "running is nan")}}, Reason.NOT_A_NUMBER, "nan"),
    ],
    ids=["its series are absent", "the source does not answer", "its value is not a number"],
)
def test_one_unread_pod_makes_the_load_unknown(fault: dict[str, object], reason: Reason, words: str) -> None:
    seen = readings(TWO)
    rest = {pod: reading for pod, reading in seen.engines.items() if pod != ref("bf16-0")}
    missing = demand(Scene(variants=TWO, readings=Readings(at=NOW, engines=rest, **fault)))  # type: ignore[arg-type]
    assert isinstance(missing, Missing)
    assert missing.reason is reason
    assert words in missing.detail


@pytest.mark.parametrize(
    ("seconds", "fault", "reason"),
    [
        (5, None, Reason.NO_HISTORY),
        (91, None, Reason.NO_SERIES),
        (5, Missing(Reason.SOURCE_UNREACHABLE, "refused"), Reason.SOURCE_UNREACHABLE),
    ],
    ids=["just ready", "ready for longer", "just ready, but the source does not answer"],
)
def test_series_of_a_new_pod_may_still_come(seconds: float, fault: Missing | None, reason: Reason) -> None:
    scene = Scene(readings=Readings(at=NOW, engine_fault=fault))
    snapshot = scene.snapshot()
    pods = {ref: replace(pod, ready_since=Instant(NOW - seconds)) for ref, pod in snapshot.cluster.pods.items()}
    missing = demand_of(replace(snapshot, cluster=replace(snapshot.cluster, pods=pods)), scene.service, MAX_AGE)
    assert isinstance(missing, Missing)
    assert missing.reason is reason


@pytest.mark.parametrize(
    ("age", "stale"),
    [(89, False), (91, True), (-60, False), (-91, True)],
    ids=["young", "too old", "a little ahead", "far ahead of our clock"],
)
def test_series_are_believed_only_within_the_maximum_age(age: float, *, stale: bool) -> None:
    found = demand(Scene(readings=readings({"bf16": Running()}, at=Instant(NOW - age))))
    assert isinstance(found, Missing) is stale
    if isinstance(found, Missing):
        assert found.reason is Reason.STALE_SERIES


@pytest.mark.parametrize(
    ("seconds", "running", "more", "known"),
    [(95, 3.0, 0, False), (60, 3.0, 0, True), (95, 0.0, 0, True), (95, 3.0, 1, True)],
    ids=["for long enough", "for a short time", "without requests", "not at all"],
)
def test_an_engine_whose_series_stand_still(seconds: float, running: float, more: float, *, known: bool) -> None:
    then = Instant(NOW - seconds)
    before = Readings(at=then, engines={ref("bf16-0"): engine(then, running=running, generated_tokens=70)})
    now = Readings(at=NOW, engines={ref("bf16-0"): engine(NOW, running=running, generated_tokens=70 + more)})
    found = demand(Scene(readings=now, earlier=before))
    assert isinstance(found, DemandPoint) is known
    if isinstance(found, Missing):
        assert found.reason is Reason.STALE_SERIES


def rate(now: float, before: Readings | None, at: Instant = NOW) -> float | None:
    scene = Scene(readings=Readings(at=NOW, engines={ref("bf16-0"): engine(at, generated_tokens=now)}))
    snapshot: Snapshot = replace(scene.snapshot(), previous=before)
    found = demand_of(snapshot, scene.service, MAX_AGE)
    assert isinstance(found, DemandPoint)
    return found.tokens_per_second


def test_the_flow_tells_those_that_come_from_those_that_begin_and_are_answered() -> None:
    """Ten come in a cycle and five wait no longer; of the prompts' tokens 100 were found in cache."""
    earlier = Instant(NOW - CYCLE)
    before = engine(earlier, running=20, waiting=5, requests=100, prompt_tokens=5000, generated_tokens=900)
    now = engine(
        NOW, running=24, waiting=0, requests=111, prompt_tokens=6600, cached_prompt_tokens=100, generated_tokens=1800
    )
    scene = Scene(
        readings=Readings(at=NOW, engines={ref("bf16-0"): now}),
        previous=Readings(at=earlier, engines={ref("bf16-0"): before}),
    )
    found = demand(scene)

    assert isinstance(found, DemandPoint)
    assert found.flow is not None
    *passed, running = astuple(found.flow)
    assert [rate * CYCLE for rate in passed] == pytest.approx([10, 15, 13, 1500, 900])
    assert running == 22


def earlier(tokens: float, at: Instant = BEFORE) -> Readings:
    return Readings(at=at, engines={ref("bf16-0"): engine(at, generated_tokens=tokens)})


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        (1500, earlier(0), 100),
        (1500, None, None),
        (1500, Readings(at=BEFORE), None),
        (10, earlier(1000), None),
        (1500, earlier(0, NOW), None),
        (1500, earlier(0, Instant(NOW + 60)), None),
    ],
    ids=[
        "tokens over seconds",
        "first reading since start",
        "a new pod",
        "the engine restarted",
        "the same sample again",
        "the clock went back",
    ],
)
def test_token_rate_comes_from_two_readings_or_not_at_all(
    now: float, before: Readings | None, expected: float | None
) -> None:
    assert rate(now, before) == expected


def outside(*series: WaitingSeries, fault: Missing | None = None, declared: bool = True) -> float | Missing:
    svc = service(wake=WAKE if declared else None)
    seen = Readings(at=NOW, waiting=series, waiting_fault=fault)
    return outside_waiting(Scene(service=svc, readings=seen).snapshot(), svc, MAX_AGE)


NAN = Missing(Reason.NOT_A_NUMBER, "gateway_requests_waiting is nan")
OTHER = {"service": "other"}


def test_a_service_without_a_wake_metric_has_nothing_waiting_whatever_failed() -> None:
    assert outside(fault=NAN, declared=False) == 0


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ((), 0),
        ((held_series(3), held_series(2)), 5),
        ((held_series(7, labels=OTHER),), 0),
        ((held_series(4), held_series(0, Instant(NOW - 500))), 4),
    ],
    ids=["no series", "every matching series", "labels of another service", "one held now and one stale"],
)
def test_waiting_requests_are_summed_over_matching_series(series: tuple[WaitingSeries, ...], expected: float) -> None:
    assert outside(*series) == expected


def test_a_request_that_is_seen_waiting_counts_although_other_series_failed() -> None:
    assert outside(held_series(1), fault=NAN) == 1


@pytest.mark.parametrize(
    ("series", "fault", "reason"),
    [
        ((), NAN, Reason.NOT_A_NUMBER),
        ((held_series(0),), NAN, Reason.NOT_A_NUMBER),
        ((held_series(5, Instant(NOW - 500)),), None, Reason.STALE_SERIES),
        ((held_series(0), held_series(0, Instant(NOW - 500))), None, Reason.STALE_SERIES),
    ],
    ids=["not read", "zero, and one not read", "stale", "zero, and one stale"],
)
def test_no_waiting_request_is_claimed_where_a_series_failed(
    series: tuple[WaitingSeries, ...], fault: Missing | None, reason: Reason
) -> None:
    found = outside(*series, fault=fault)
    assert isinstance(found, Missing)
    assert found.reason is reason


FULL = watched(1, 1, seconds=400)


@pytest.mark.parametrize(
    ("points", "covered"),
    [
        (FULL, True),
        ((), False),
        (watched(1, 1, seconds=290), False),
        (tuple(p for p in FULL if not 100 < NOW - p.at < 200), False),
        (tuple(p for p in FULL if p.at < NOW - 100), False),
        (tuple(p for p in watched(1, 1, seconds=900) if p.at < NOW - 395 or p.at > NOW - 100), False),
        (tuple(p for p in FULL if not 100 < NOW - p.at < 180), True),
    ],
    ids=[
        "watched throughout",
        "never watched",
        "not for long enough",
        "a gap inside",
        "a gap at the end",
        "a gap across the window's start",
        "a silence no longer than readings may age",
    ],
)
def test_a_window_counts_only_when_it_was_watched_whole(points: tuple[DemandPoint, ...], *, covered: bool) -> None:
    assert covers(points, NOW, Seconds(300), Seconds(90)) is covered


def test_a_window_shorter_than_the_longest_silence_still_has_to_be_watched() -> None:
    assert not covers(watched(1, 1, seconds=0), NOW, Seconds(60), Seconds(90))
