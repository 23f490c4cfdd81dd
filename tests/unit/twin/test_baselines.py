"""Each baseline against the documented behaviour of what it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.twin.baselines.carbon_cap import CarbonCap
from fallow.twin.baselines.hpa import Behaviour, Hpa, Recommender, by_pods, by_total
from fallow.twin.baselines.keda import Keda
from fallow.twin.baselines.knative import Knative
from fallow.twin.baselines.named import BASELINES
from fallow.twin.baselines.saturation import Saturation
from fallow.twin.baselines.slo_law import SloLaw, law, quantile
from fallow.twin.baselines.static import Static
from fallow.twin.baselines.strong import Strong
from fallow.twin.simulation.sight import LATENCY_BOUNDS, Controller, Known, Sight


def known(*, minimum: int = 0, maximum: int = 20, concurrency: float = 100.0, **more: float) -> Known:
    return Known(
        minimum=np.array([minimum]),
        maximum=np.array([maximum]),
        concurrency=np.array([concurrency]),
        rate=np.array([more.get("rate", 10.0)]),
        peak=np.array([more.get("peak", 50.0)]),
        ttft=np.array([1.0]),
        itl=np.array([0.05]),
        load_seconds=np.array([60.0]),
    )


def sight(at: float, *, asked: int = 1, ready: int | None = None, **more: Any) -> Sight:
    """Everything that is not said is quiet."""
    none = np.zeros((1, len(LATENCY_BOUNDS)))

    def value(name: str) -> np.ndarray[Any, Any]:
        return np.array([float(more.get(name, 0.0))])

    return Sight(
        at=at,
        asked=np.array([asked]),
        ready=np.array([asked if ready is None else ready]),
        running=value("running"),
        waiting=value("waiting"),
        held=value("held"),
        in_flight=np.array(more.get("in_flight", [[0.0]])),
        arrived=value("arrived"),
        finished=value("finished"),
        prompt_tokens=value("prompt_tokens"),
        generated_tokens=value("generated_tokens"),
        kv_usage=value("kv_usage"),
        ttft=more.get("ttft", none),
        itl=more.get("itl", none),
        grams=np.array([float(more.get("grams", 300.0))]),
    )


def one(controller: Controller, seen: Sight) -> int:
    return int(controller.desired(seen)[0])


def closed(controller: Controller, steps: int, *, asked: int = 1, start: int = 0, **seen: Any) -> list[int]:
    """Answers where each is there at once when the controller is next asked, under what is `seen` all along."""
    answers = []
    for step in range(start, start + steps):
        asked = one(controller, sight(float(step * controller.period), asked=asked, **seen))
        answers.append(asked)
    return answers


def latencies(seconds: float, count: float = 100.0) -> np.ndarray[Any, Any]:
    """As many requests at a bound of the histogram."""
    counts = np.zeros((1, len(LATENCY_BOUNDS)))
    counts[0, int(np.searchsorted(LATENCY_BOUNDS, seconds))] = count
    return counts


@pytest.mark.parametrize(
    ("share", "peak", "replicas"), [(0.7, 50.0, 8), (1.0, 50.0, 5), (1.0, 0.0, 1), (0.7, 900.0, 20)]
)  # fmt: skip
def test_static_carries_the_peak_at_its_share_within_its_limits(share: float, peak: float, replicas: int) -> None:
    assert one(Static(known(peak=peak), share), sight(0.0)) == replicas


class TestHpa:
    """The documented examples: 200m against a target of 100m doubles; within 10 % nothing is changed."""

    @pytest.mark.parametrize(
        ("total", "asked", "ready", "wanted"),
        [
            (400.0, 2, 2, 4), (100.0, 2, 2, 1), (219.0, 2, 2, 2), (181.0, 2, 2, 2), (221.0, 2, 2, 3),
            (400.0, 4, 2, 4), (300.0, 4, 1, 4), (100.0, 4, 2, 3), (200.0, 4, 2, 4), (100.0, 4, 0, 4),
        ],
        ids=[
            "twice the target", "half of it", "within 10 % above", "within 10 % below", "just beyond",
            "pods that start count as idle on the way up", "nothing changes where that turns the answer",
            "and as just filled on the way down", "exactly the target", "no pod has a metric",
        ],
    )  # fmt: skip
    def test_replicas_follow_a_metric_of_pods(self, total: float, asked: int, ready: int, wanted: int) -> None:
        answer = by_pods(np.array([asked]), np.array([ready]), np.array([total]), np.array([100.0]))
        assert answer[0] == wanted

    @pytest.mark.parametrize(("total", "wanted"), [(42.0, 9), (10.9, 2), (9.1, 2), (11.1, 3), (0.0, 0)])
    def test_replicas_follow_an_external_metric_whether_or_not_they_are_ready(self, total: float, wanted: int) -> None:
        assert by_total(np.array([2]), np.array([total]), 5.0)[0] == wanted

    def follow(self, wanted: list[int], asked: int, behaviour: Behaviour | None = None) -> list[int]:
        recommender = Recommender(np.array([1]), np.array([50]), behaviour)
        answers = []
        for step, one_wanted in enumerate(wanted):
            asked = int(recommender.next(15.0 * step, np.array([asked]), np.array([one_wanted]))[0])
            answers.append(asked)
        return answers

    def test_a_sync_adds_four_pods_or_doubles_whichever_is_more(self) -> None:
        assert self.follow([50] * 5, asked=2) == [6, 12, 24, 48, 50]

    def test_it_goes_down_to_the_highest_recommendation_of_five_minutes(self) -> None:
        assert self.follow([8, 5, *[2] * 25], asked=8) == [*[8] * 20, 5, *[2] * 6]

    def test_what_runs_when_it_begins_counts_as_a_recommendation(self) -> None:
        assert self.follow([2] * 21, asked=8) == [*[8] * 20, 2]

    def test_a_policy_counts_what_came_within_its_period(self) -> None:
        slower = Behaviour(up_period=60.0)
        assert self.follow([50] * 6, asked=1, behaviour=slower) == [5, 5, 5, 5, 10, 10]

    def test_a_window_on_the_way_up_takes_the_lowest_recommendation(self) -> None:
        assert self.follow([2, 2, 9, 9, 9], asked=2, behaviour=Behaviour(up_window=30.0)) == [2, 2, 2, 6, 9]

    def test_one_pod_may_go_in_a_period(self) -> None:
        slow = Behaviour(down_window=0.0, down_period=60.0, down_pods=1, down_share=0.0)
        assert self.follow([1] * 9, asked=4, behaviour=slow) == [3, 3, 3, 3, 2, 2, 2, 2, 1]

    def test_it_follows_running_requests_and_never_goes_to_zero(self) -> None:
        assert closed(Hpa(known()), 3, asked=2, running=420.0)[-1] == 6
        assert closed(Hpa(known(minimum=0)), 30)[-1] == 1


class TestKeda:
    def test_the_last_replica_goes_at_the_first_poll_after_the_cooldown(self) -> None:
        assert closed(Keda(known()), 22) == [*[1] * 20, 0, 0]

    def test_a_held_request_brings_one_replica_at_the_next_poll(self) -> None:
        assert closed(Keda(known()), 2, asked=0) == [0, 0]
        keda = Keda(known())
        keda.desired(sight(0.0, asked=0, ready=0))

        assert one(keda, sight(15.0, asked=0, ready=0, held=300)) == 0
        assert one(keda, sight(30.0, asked=0, ready=0, held=300)) == 1

    def test_while_the_first_replica_starts_the_queue_asks_for_more(self) -> None:
        assert closed(Keda(known()), 4, asked=0, ready=0, held=300) == [1, 5, 10, 20]

    def test_five_waiting_ask_for_a_replica(self) -> None:
        assert one(Keda(known()), sight(0.0, asked=1, waiting=15, running=100)) == 3

    def test_without_a_queue_it_goes_down_to_one_however_many_run(self) -> None:
        assert closed(Keda(known()), 21, asked=4, running=300.0, arrived=50.0)[-2:] == [4, 1]

    def test_a_queue_alone_takes_the_last_replica_while_requests_run(self) -> None:
        assert closed(Keda(known(), keepalive=False), 21, running=90.0, arrived=50.0)[-1] == 0
        assert closed(Keda(known()), 21, running=90.0, arrived=50.0)[-1] == 1

    def test_running_requests_may_be_part_of_the_trigger(self) -> None:
        keda = Keda(known(), 70.0, keepalive=False, running=True)
        assert closed(keda, 21, asked=2, running=200.0, waiting=70.0)[-1] == 4

    def test_with_a_minimum_it_never_rests(self) -> None:
        assert closed(Keda(known(minimum=2)), 40, asked=3)[-1] == 2


@pytest.mark.parametrize(("grams", "wanted"), [(437, 20), (438, 11), (504, 11), (505, 2), (571, 2), (900, 2)])
def test_the_carbon_cap_follows_its_bands(grams: float, wanted: int) -> None:
    seen = sight(0.0, asked=15, waiting=1000, grams=grams)
    assert one(CarbonCap(known()), seen) == wanted
    assert one(CarbonCap(known(minimum=12)), seen) == max(wanted, 12)


def flight(requests: float) -> dict[str, Any]:
    """In work for both seconds since the tick before, arriving as well."""
    return {"in_flight": [[requests]] * 2, "running": requests, "arrived": requests}


class TestKnative:
    def test_a_steady_load_has_as_many_replicas_as_seventy_per_cent_of_the_target_needs(self) -> None:
        assert closed(Knative(known()), 60, asked=3, **flight(210.0))[-1] == 3

    def test_twice_what_the_ready_ones_carry_is_panic(self) -> None:
        """A mean of 140 over 6 s needs two where one is ready; over 60 s it would not yet."""
        calm, panic = Knative(known()), Knative(known())
        closed(calm, 30, **flight(60.0))
        closed(panic, 30, **flight(60.0))

        assert closed(calm, 3, start=30, ready=1, **flight(69.0)) == [1, 1, 1]
        assert closed(panic, 3, start=30, ready=1, **flight(140.0)) == [2, 2, 2]

    def test_panic_takes_nothing_away_until_a_stable_window_after_its_cause(self) -> None:
        kpa = Knative(known())
        closed(kpa, 30, **flight(60.0))
        peak = one(kpa, sight(60.0, asked=1, **flight(900.0)))
        after = closed(kpa, 40, asked=peak, start=31, **flight(60.0))

        assert peak == 5
        assert after[:30] == [5] * 30
        assert after[30] < 5

    def test_at_most_half_of_the_ready_ones_go_at_a_tick(self) -> None:
        kpa = Knative(known())
        closed(kpa, 90, asked=16, **flight(1.0))
        assert one(kpa, sight(180.0, asked=16, **flight(1.0))) == 8

    def test_several_replicas_that_it_finds_stay_for_a_stable_window(self) -> None:
        answers = closed(Knative(known()), 40, asked=8, **flight(70.0))
        assert answers[:31] == [8] * 31
        assert answers[31:34] == [4, 2, 1]

    def test_before_the_first_sample_nothing_changes(self) -> None:
        assert one(Knative(known()), sight(0.0, asked=3, in_flight=np.zeros((0, 1)))) == 3

    def test_it_rests_a_grace_after_a_stable_window_without_requests(self) -> None:
        kpa = Knative(known())
        closed(kpa, 31, **flight(10.0))
        answers = closed(kpa, 50, start=31)

        assert answers[:44] == [1] * 44
        assert answers[44:] == [0] * 6

    def test_a_held_request_wakes_it_at_the_next_tick(self) -> None:
        kpa = Knative(known())
        assert closed(kpa, 60, asked=1)[-1] == 0
        assert one(kpa, sight(120.0, asked=0, held=1.0, arrived=1.0, in_flight=[[0.0], [1.0]])) == 1


class TestSaturation:
    @pytest.mark.parametrize(
        ("usage", "waiting", "asked", "wanted"),
        [(0.75, 0, 2, 3), (0.2, 12, 2, 3), (0.95, 0, 2, 3), (0.53, 0, 4, 4), (0.2, 0, 4, 3), (0.65, 0, 2, 2),
         (0, 0, 1, 1)],
        ids=[
            "cache short", "queue short", "saturated", "three could not carry it", "one too many",
            "one could not carry it", "the last one",
        ],
    )  # fmt: skip
    def test_spare_below_its_triggers_adds_one_and_ample_spare_takes_one(
        self, usage: float, waiting: float, asked: int, wanted: int
    ) -> None:
        assert one(Saturation(known()), sight(60.0, asked=asked, kv_usage=usage, waiting=waiting)) == wanted

    def test_a_replica_on_its_way_keeps_the_number_as_it_is(self) -> None:
        assert one(Saturation(known()), sight(60.0, asked=3, ready=2, kv_usage=0.9)) == 3
        assert one(Saturation(known()), sight(60.0, asked=3, ready=2, kv_usage=0.1)) == 3

    def test_the_peak_of_a_minute_counts(self) -> None:
        wva = Saturation(known())
        assert one(wva, sight(0.0, asked=2, kv_usage=0.75)) == 3
        assert closed(wva, 3, asked=3, start=1, kv_usage=0.1) == [4, 3, 2]


class TestSloLaw:
    @pytest.mark.parametrize(
        ("signal", "replicas", "ready", "wanted"),
        [
            (1.1, 4, 4, 8), (0.56, 4, 4, 5), (0.55, 4, 4, 4), (0.40, 4, 4, 4), (0.3, 4, 4, 3), (0.2, 4, 4, 2),
            (0.0, 4, 4, 0), (1.1, 8, 4, 8), (2.0, 8, 4, 15), (0.3, 4, 1, 3), (1.1, 4, 0, 8),
        ],
    )  # fmt: skip
    def test_the_published_formula(self, signal: float, replicas: int, ready: int, wanted: int) -> None:
        assert law(np.array([signal]), np.array([replicas]), np.array([ready]))[0] == wanted

    @pytest.mark.parametrize(("share", "seconds"), [(0.5, 0.625), (0.9, 0.725), (1.0, 0.75)])
    def test_a_quantile_lies_within_its_bucket_as_prometheus_has_it(self, share: float, seconds: float) -> None:
        assert quantile(latencies(0.75), share)[0] == pytest.approx(seconds)

    def test_a_quantile_beyond_all_bounds_is_the_highest_one_and_zero_without_requests(self) -> None:
        assert quantile(latencies(np.inf), 0.9)[0] == 80.0
        assert quantile(latencies(1.0, count=0.0), 0.9)[0] == 0.0

    def test_the_worse_of_both_objectives_counts_after_half_a_minute_and_four_more_a_minute(self) -> None:
        """The P90 is 39 ms of 50: .78 / .55 of four is six."""
        answers = closed(SloLaw(known()), 7, asked=4, itl=latencies(0.04), ttft=latencies(0.2))
        assert answers == [4, 4, 6, 6, 8, 8, 12]

    def test_between_its_thresholds_nothing_changes(self) -> None:
        assert closed(SloLaw(known()), 40, asked=4, itl=latencies(0.025)) == [4] * 40

    def test_an_idle_pool_goes_down_one_by_one(self) -> None:
        answers = closed(SloLaw(known()), 40, asked=4)
        assert [answers.index(count) * 15 for count in (3, 2, 1)] == [180, 300, 420]
        assert answers[-1] == 1


class TestStrong:
    def test_it_sizes_by_arrivals_up_at_once_and_down_after_five_minutes(self) -> None:
        strong = Strong(known(minimum=1))
        assert closed(strong, 21, asked=3, arrived=390, running=50)[-1] == 3
        assert closed(strong, 1, asked=3, start=21, arrived=900, running=50) == [7]
        falling = closed(strong, 25, asked=7, start=22, arrived=390, running=50)
        assert falling[:19] == [7] * 19
        assert falling[-1] == 3

    def test_it_rests_after_its_ttl_and_wakes_on_a_held_request(self) -> None:
        strong = Strong(known())
        closed(strong, 4, arrived=15, running=5)
        assert closed(strong, 21, start=4)[18:] == [1, 0, 0]
        assert one(strong, sight(375.0, asked=0, held=2.0, arrived=2.0)) == 1

    def test_what_is_there_at_the_start_stays_until_something_was_counted(self) -> None:
        assert one(Strong(known()), sight(0.0, asked=4)) == 4


@pytest.mark.parametrize("name", BASELINES)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_answers_stay_within_their_limits_and_repeat(name: str, data: st.DataObject) -> None:
    limits = known(minimum=data.draw(st.integers(0, 2)), maximum=data.draw(st.integers(3, 12)))
    make: Callable[[Known], Controller] = BASELINES[name][0]
    both = make(limits), make(limits)
    asked = 1
    for step in range(12):
        load, ready = data.draw(st.floats(0, 3000)), data.draw(st.integers(0, asked))
        seen = sight(
            step * float(both[0].period), asked=asked, ready=ready, running=load, arrived=load, in_flight=[[load]] * 2,
            waiting=load / 10, kv_usage=data.draw(st.floats(0, 1)), itl=latencies(data.draw(st.floats(0, 1))),
            grams=data.draw(st.floats(0, 900)),
        )  # fmt: skip
        answers = [one(controller, seen) for controller in both]
        assert answers[0] == answers[1]
        assert limits.minimum[0] <= answers[0] <= limits.maximum[0]
        asked = answers[0]


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in {"keda", "kpa", "strong", "keda-carbon"}])
def test_those_that_do_not_scale_to_zero_keep_one(name: str) -> None:
    assert closed(BASELINES[name][0](known(minimum=0, peak=0.0)), 100, asked=3)[-1] == 1


@pytest.mark.parametrize("name", BASELINES)
def test_a_constant_load_comes_to_rest(name: str) -> None:
    """150 requests in work; cache and time between tokens follow their number on each replica."""
    controller = BASELINES[name][0](known(minimum=1))
    asked, answers = 2, []
    for step in range(300):
        each = 150.0 / asked
        seen = sight(
            step * float(controller.period), asked=asked, running=150.0, arrived=15.0 * controller.period,
            in_flight=[[150.0]] * 2, kv_usage=min(each / 200.0, 1.0), itl=latencies(0.05 * each / 100.0),
        )  # fmt: skip
        asked = one(controller, seen)
        answers.append(asked)

    assert len(set(answers[-100:])) == 1


@pytest.mark.parametrize("name", BASELINES)
def test_services_do_not_touch_each_other(name: str) -> None:
    alone, beside = BASELINES[name][0](known()), BASELINES[name][0](twice(known()))
    asked = 1
    for step in range(40):
        load = 400.0 if step % 20 < 10 else 0.0
        seen = sight(
            step * float(alone.period),
            asked=asked,
            running=load,
            arrived=load,
            in_flight=[[load]] * 2,
            waiting=load / 20,
        )
        answers = beside.desired(twice(seen, quiet=1))
        asked = one(alone, seen)
        assert answers[0] == asked


def twice(single: Any, quiet: int | None = None) -> Any:
    """The same service two times; where `quiet`, the second one sees nothing."""

    def doubled(name: str, value: Any) -> Any:
        if name == "at":
            return value
        both = np.concatenate((value, value), axis=1 if name == "in_flight" else 0)
        if quiet is not None and name not in {"asked", "ready", "grams"}:
            both[(..., quiet) if both.ndim == 1 or name == "in_flight" else quiet] = 0.0
        return both

    return type(single)(**{one.name: doubled(one.name, getattr(single, one.name)) for one in fields(single)})
