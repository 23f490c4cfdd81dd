"""Each baseline against the documented behaviour of what it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.twin.baselines.carbon_cap import CarbonCap
from fallow.twin.baselines.hpa import Hpa, Recommender
from fallow.twin.baselines.keda import Keda
from fallow.twin.baselines.knative import Knative
from fallow.twin.baselines.named import BASELINES
from fallow.twin.baselines.saturation import Saturation
from fallow.twin.baselines.slo_law import SloLaw
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


@pytest.mark.parametrize(("share", "replicas"), [(0.7, 8), (1.0, 5)])
def test_static_carries_the_peak_at_its_share(share: float, replicas: int) -> None:
    assert one(Static(known(), share), sight(0.0)) == replicas


class TestHpa:
    """The documented examples: 200m against a target of 100m doubles; within 10 % nothing is changed."""

    def asks(self, metric: float, *, asked: int, ready: int | None = None, target: float = 100.0) -> int:
        recommender = Recommender(np.array([1]), np.array([50]))
        there = np.array([asked if ready is None else ready])
        return int(recommender.next(0.0, np.array([asked]), there, np.array([metric]), np.array([target]))[0])

    @pytest.mark.parametrize(
        ("metric", "asked", "wanted"),
        [(400.0, 2, 4), (100.0, 2, 1), (219.0, 2, 2), (181.0, 2, 2), (221.0, 2, 3)],
        ids=["twice the target", "half of it", "within 10 % above", "within 10 % below", "just beyond"],
    )
    def test_replicas_follow_the_ratio_beyond_the_tolerance(self, metric: float, asked: int, wanted: int) -> None:
        assert self.asks(metric, asked=asked) == wanted

    def test_unready_pods_damp_the_way_up(self) -> None:
        assert self.asks(400.0, asked=4, ready=2) == 4

    def test_at_once_it_adds_four_pods_or_doubles_whichever_is_more(self) -> None:
        assert self.asks(5000.0, asked=2) == 6
        assert self.asks(5000.0, asked=10) == 20

    def test_it_goes_down_to_the_highest_recommendation_of_five_minutes(self) -> None:
        recommender = Recommender(np.array([1]), np.array([50]))

        def at(time: float, metric: float, asked: int) -> int:
            return int(
                recommender.next(time, np.array([asked]), np.array([asked]), np.array([metric]), np.array([100.0]))[0]
            )

        asked = 8
        answers = []
        for step in range(25):
            asked = at(15.0 * step, 800.0 if step == 0 else 200.0, asked)
            answers.append(asked)

        assert answers[:20] == [8] * 20
        assert answers[-1] == 2

    def test_it_never_goes_to_zero(self) -> None:
        hpa = Hpa(known(minimum=0))
        assert [one(hpa, sight(15.0 * step)) for step in range(30)][-1] == 1


class TestKeda:
    def test_it_rests_after_the_cooldown_without_a_trigger(self) -> None:
        keda = Keda(known())
        answers = [one(keda, sight(15.0 * step, asked=1)) for step in range(22)]

        assert answers[19] == 1
        assert answers[21] == 0

    def test_a_held_request_brings_one_replica_at_the_next_poll(self) -> None:
        keda = Keda(known())
        keda.desired(sight(0.0, asked=0, ready=0))

        assert one(keda, sight(15.0, asked=0, ready=0, held=3)) == 0
        assert one(keda, sight(30.0, asked=0, ready=0, held=3)) >= 1

    def test_five_waiting_ask_for_a_replica(self) -> None:
        assert one(Keda(known()), sight(0.0, asked=1, waiting=15, running=100)) == 3


class TestKnative:
    def steady(self, kpa: Knative, load: float, *, seconds: int, asked: int, start: float = 0.0) -> int:
        answer = asked
        for step in range(seconds // 2):
            answer = one(kpa, sight(start + 2.0 * step, asked=answer, in_flight=[[load], [load]], running=load))
        return answer

    def test_a_steady_load_has_as_many_replicas_as_seventy_per_cent_of_the_target_needs(self) -> None:
        assert self.steady(Knative(known()), 210.0, seconds=120, asked=3) == 3

    def test_panic_does_not_take_anything_away(self) -> None:
        kpa = Knative(known())
        self.steady(kpa, 70.0, seconds=60, asked=1)
        peak = one(kpa, sight(62.0, asked=1, in_flight=[[700.0], [700.0]], running=700))
        after = one(kpa, sight(64.0, asked=peak, ready=1, in_flight=[[0.0], [0.0]]))

        assert peak > 1
        assert after >= peak

    def test_it_rests_a_grace_after_a_stable_window_without_requests(self) -> None:
        kpa = Knative(known())
        self.steady(kpa, 10.0, seconds=60, asked=1)
        answers = [one(kpa, sight(60.0 + 2 * step, asked=1, in_flight=[[0.0], [0.0]])) for step in range(50)]

        assert answers[30] == 1
        assert answers[-1] == 0


class TestSaturation:
    @pytest.mark.parametrize(
        ("usage", "waiting", "asked", "wanted"),
        [(0.75, 0, 2, 3), (0.2, 12, 2, 3), (0.53, 0, 4, 4), (0.2, 0, 4, 3), (0.65, 0, 2, 2)],
        ids=["cache short", "queue short", "three could not carry it", "one too many", "one could not carry it"],
    )
    def test_spare_below_its_triggers_adds_one_and_ample_spare_takes_one(
        self, usage: float, waiting: float, asked: int, wanted: int
    ) -> None:
        assert one(Saturation(known()), sight(60.0, asked=asked, kv_usage=usage, waiting=waiting)) == wanted

    def test_a_replica_on_its_way_keeps_more_from_being_asked_for(self) -> None:
        assert one(Saturation(known()), sight(60.0, asked=3, ready=2, kv_usage=0.9)) == 3


class TestSloLaw:
    def latencies(self, seconds: float) -> Any:
        counts = np.zeros((1, len(LATENCY_BOUNDS)))
        counts[0, int(np.searchsorted(LATENCY_BOUNDS, seconds))] = 100
        return counts

    @pytest.mark.parametrize(("ttft", "wanted"), [(0.75, 7), (0.5, 4), (0.2, 3)], ids=["above", "between", "below"])
    def test_the_p90_over_the_objective_decides(self, ttft: float, wanted: int) -> None:
        assert one(SloLaw(known()), sight(0.0, asked=4, ttft=self.latencies(ttft))) == wanted


def test_strong_sizes_by_arrivals_and_rests_after_its_ttl() -> None:
    strong = Strong(known())
    busy = [one(strong, sight(15.0 * step, asked=3, arrived=390, running=50)) for step in range(1, 9)]
    quiet = [one(strong, sight(135.0 + 15 * step, asked=3)) for step in range(30)]

    assert busy[-1] == 3
    assert quiet[10] == 3
    assert quiet[-1] == 0


@pytest.mark.parametrize(("grams", "wanted"), [(400, 20), (480, 11), (560, 2), (900, 2)])
def test_the_carbon_cap_follows_its_bands(grams: float, wanted: int) -> None:
    cap = CarbonCap(known())
    assert one(cap, sight(0.0, asked=15, waiting=1000, running=500, grams=grams)) == wanted


@pytest.mark.parametrize("name", BASELINES)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_answers_stay_within_their_limits_and_repeat(name: str, data: st.DataObject) -> None:
    limits = known(minimum=data.draw(st.integers(0, 2)), maximum=data.draw(st.integers(3, 12)))
    make: Callable[[Known], Controller] = BASELINES[name][0]
    both = make(limits), make(limits)
    asked = 1
    for step in range(12):
        load = data.draw(st.floats(0, 3000))
        seen = sight(step * float(both[0].period), asked=asked, running=load, arrived=load, in_flight=[[load]] * 2)
        answers = [one(controller, seen) for controller in both]
        assert answers[0] == answers[1]
        assert limits.minimum[0] <= answers[0] <= limits.maximum[0]
        asked = max(answers[0], 0)


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in {"llm-d", "wva"}])
def test_a_constant_load_comes_to_rest(name: str) -> None:
    """Those two step on latencies and cache, which this load does not have."""
    controller = BASELINES[name][0](known(minimum=1))
    asked, answers = 2, []
    for step in range(600):
        seen = sight(
            step * float(controller.period), asked=asked, running=150.0, arrived=15.0 * controller.period,
            in_flight=[[150.0]] * 2,
        )  # fmt: skip
        asked = one(controller, seen)
        answers.append(asked)

    assert len(set(answers[-60:])) == 1
