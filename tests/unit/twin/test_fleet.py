"""GPUs under pods that come and go: energy counters, placement, and what each state draws."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.readings import PodRef
from fallow.twin.calibration.tasks import Precision
from fallow.twin.fleet import Fleet
from fallow.twin.physics.requests import FinishReason, Request
from fallow.twin.pods import EngineFacts, PodPhase
from tests.support.twin import a_node, a_pod, submitted


def a_fleet(*, gpus: int = 2) -> Fleet:
    fleet = Fleet(now=0.0)
    fleet.put_node(a_node(gpus=gpus))
    return fleet


@pytest.mark.parametrize(
    ("phase", "watts"), [(PodPhase.PULLING, 71.8), (PodPhase.LOADING, 150.0), (PodPhase.READY, 121.7)]
)
def test_a_pods_gpu_draws_what_its_phase_draws(phase: PodPhase, watts: float) -> None:
    fleet = a_fleet(gpus=1)
    fleet.put_pod(a_pod(phase=phase))
    fleet.advance(10.0)
    assert next(fleet.gpus()).joules == pytest.approx(10 * watts)
    assert fleet.watts() == pytest.approx(watts)


def test_pods_take_the_first_free_gpus_and_give_them_back() -> None:
    fleet = a_fleet(gpus=3)
    for name in ("a", "b", "c"):
        fleet.put_pod(a_pod(name))
    fleet.remove_pod(PodRef("demo", "b"))
    fleet.put_pod(a_pod("d"))
    assert [str(gpu.holder) for gpu in fleet.gpus_of("gpu-1")] == ["demo/a", "demo/d", "demo/c"]


def test_a_pod_waits_for_enough_gpus() -> None:
    fleet = a_fleet(gpus=2)
    fleet.put_pod(a_pod("small"))
    fleet.put_pod(a_pod("large", gpus=2))
    assert not fleet.pods[PodRef("demo", "large")].listening
    fleet.remove_pod(PodRef("demo", "small"))
    assert fleet.pods[PodRef("demo", "large")].listening


def test_the_counter_goes_on_when_pods_change_and_does_not_start_at_zero() -> None:
    fleet = a_fleet(gpus=1)
    gpu = next(fleet.gpus())
    first = gpu.counter_joules
    fleet.put_pod(a_pod("a"))
    fleet.advance(10.0)
    fleet.remove_pod(PodRef("demo", "a"))
    fleet.advance(20.0)
    assert first > 0
    assert gpu.counter_joules - first == pytest.approx(10 * 121.7 + 10 * 71.8)


def test_a_new_node_of_the_same_name_begins_its_counters_at_zero_with_the_same_uuids() -> None:
    fleet = a_fleet(gpus=1)
    fleet.advance(10.0)
    uuid = next(fleet.gpus()).uuid
    fleet.remove_node("gpu-1")
    fleet.put_node(a_node(gpus=1, uid="another"))
    again = next(fleet.gpus())
    assert (again.uuid, again.counter_joules) == (uuid, 0.0)
    assert fleet.gone_joules == pytest.approx(718.0)


def test_requests_of_a_pod_that_vanishes_are_given_back_as_aborted() -> None:
    fleet = a_fleet()
    fleet.put_pod(a_pod())
    engine = fleet.pods[PodRef("demo", "chat-0")].engine
    assert engine is not None
    request = submitted(engine, output=1000)
    fleet.advance(1.0)
    assert fleet.remove_pod(PodRef("demo", "chat-0")) == [request]
    assert request.reason is FinishReason.ABORT


def test_another_pod_under_a_known_name_gets_a_fresh_engine() -> None:
    fleet = a_fleet()
    fleet.put_pod(a_pod(uid="1"))
    before = fleet.pods[PodRef("demo", "chat-0")].engine
    fleet.put_pod(a_pod(uid="2"))
    assert fleet.pods[PodRef("demo", "chat-0")].engine is not before


def test_a_draining_pod_finishes_what_runs() -> None:
    fleet = a_fleet()
    fleet.put_pod(a_pod())
    pod = fleet.pods[PodRef("demo", "chat-0")]
    assert pod.engine is not None
    request = submitted(pod.engine)
    fleet.put_pod(a_pod(phase=PodPhase.DRAINING))
    fleet.advance(5.0)
    assert not pod.serving
    assert request.reason is FinishReason.STOP


def test_a_model_too_large_for_its_gpus_never_opens_its_port() -> None:
    fleet = Fleet(now=0.0)
    fleet.put_node(a_node(gpus=1))
    large = EngineFacts("org/model-70B", "chat", Precision.BF16)
    fleet.put_pod(a_pod(engine=large))
    pod = fleet.pods[PodRef("demo", "chat-0")]
    assert "does not fit" in pod.fault
    assert not pod.listening


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "loading", "pulling", "draining", "remove", "request", "sleep", "wake"]),
        st.integers(0, 2),
        st.floats(0.01, 3.0, allow_nan=False),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_energy_is_the_integral_of_the_watts_that_were_reported(steps: list[tuple[str, int, float]]) -> None:
    fleet = a_fleet(gpus=2)
    begin = {gpu.uuid: gpu.counter_joules for gpu in fleet.gpus()}
    integral = dict.fromkeys(begin, 0.0)
    counters = dict(begin)
    for what, index, seconds in steps:
        ref = PodRef("demo", f"chat-{index}")
        engine = fleet.pods[ref].engine if ref in fleet.pods else None
        if what == "remove":
            fleet.remove_pod(ref)
        elif what == "request" and engine is not None:
            engine.submit(Request(fleet.now, 500, 200), fleet.now)
        elif what == "sleep" and engine is not None:
            engine.sleep(1)
        elif what == "wake" and engine is not None:
            engine.wake()
        elif what in {*PodPhase}:
            fleet.put_pod(a_pod(ref.name, PodPhase(what)))
        fleet.advance(fleet.now + seconds)
        fleet.take_samples()
        for gpu in fleet.gpus():
            integral[gpu.uuid] += gpu.sample.watts * seconds
            assert gpu.sample.counter_joules >= counters[gpu.uuid]
            assert gpu.spec.bare * 0.999 <= gpu.sample.watts <= gpu.spec.tdp * 1.001
            counters[gpu.uuid] = gpu.sample.counter_joules
    for gpu in fleet.gpus():
        assert gpu.counter_joules - begin[gpu.uuid] == pytest.approx(integral[gpu.uuid], rel=1e-6, abs=1e-3)
    held = sum(energy.total for energy in fleet.retired.values()) + sum(p.energy.total for p in fleet.pods.values())
    assert held <= sum(gpu.joules for gpu in fleet.gpus()) + 1e-6


def test_an_address_that_is_given_to_another_pod_leads_to_that_one() -> None:
    fleet = a_fleet()
    fleet.put_pod(a_pod("old", address="127.0.0.2"))
    fleet.put_pod(a_pod("new", address="127.0.0.2"))
    fleet.remove_pod(PodRef("demo", "old"))
    found = fleet.pod_at("127.0.0.2")
    assert found is not None
    assert found.facts.ref.name == "new"
    assert fleet.pod_at("127.0.0.3") is None
