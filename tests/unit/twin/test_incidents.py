"""Crashes, hangs, XIDs and lost nodes: requests are failed or wait, energy stays whole, and everything comes back."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.readings import PodRef
from fallow.twin.dcgm_metrics import dcgm_metrics
from fallow.twin.faults import FaultError
from fallow.twin.incidents import Incidents
from fallow.twin.rates import Piecewise
from fallow.twin.simulated import SimulatedPod
from fallow.twin.state import account
from fallow.twin.traffic import GeneratedTraffic, Lengths
from fallow.twin.world import World
from tests.support.twin import CHAT, a_node, a_pod

FIRST = PodRef("demo", "chat-0")
LOAD = 5.0


def a_world(*, pods: int = 1, rate: float = 5.0) -> tuple[World, Incidents]:
    world = World(started=0.0)
    world.put_node(a_node(gpus=2))
    for index in range(pods):
        world.put_pod(replace(a_pod(f"chat-{index}", address=f"127.0.0.{index + 2}"), load_seconds=LOAD))
    world.set_traffic(CHAT, GeneratedTraffic(Piecewise(((0, rate),)), Lengths(300), Lengths(200), seed=1))
    return world, Incidents(world)


def lived(world: World, seconds: float) -> World:
    for _ in range(round(seconds * 10)):
        world.advance(world.now + 0.1)
    return world


def first(world: World) -> SimulatedPod:
    return world.fleet.pods[FIRST]


def uuid(world: World) -> str:
    return first(world).gpus[0].uuid


def test_a_crash_fails_the_requests_and_the_engine_comes_back_with_new_counters() -> None:
    world, incidents = a_world()
    lived(world, 10)
    served, in_flight = first(world).served, first(world).engine.in_flight  # type: ignore[union-attr]  # it is ready
    incidents.set({"engine": {"pod": "demo/chat-0", "mode": "crash"}})
    gateway = world.gateways[CHAT]
    assert gateway.failed == in_flight > 0
    assert not first(world).listening
    lived(world, LOAD - 1)
    assert first(world).loading
    assert gateway.waiting > 0
    lived(world, 6)
    engine = first(world).engine
    assert engine is not None
    assert 0 < engine.counters.prompt_tokens < first(world).served.prompt_tokens
    assert first(world).served.prompt_tokens > served.prompt_tokens
    assert gateway.waiting == 0
    assert first(world).energy.loading == pytest.approx(LOAD * 150, rel=0.06)
    assert incidents.lasting() == {}


def test_a_hung_engine_keeps_its_requests_and_goes_on_where_it_stood() -> None:
    world, incidents = a_world()
    lived(world, 10)
    incidents.set({"engine": {"pod": "*", "mode": "hang"}})
    engine = first(world).engine
    assert engine is not None
    generated, joules, running = engine.counters.generated_tokens, engine.joules, engine.running
    lived(world, 20)
    assert (engine.counters.generated_tokens, engine.running) == (generated, running)
    assert engine.waiting > 50
    assert engine.joules - joules == pytest.approx(20 * 121.7)
    incidents.set({"engine": {"pod": "*", "mode": "none"}})
    lived(world, 20)
    assert engine.waiting == 0
    assert world.gateways[CHAT].failed == 0
    assert max(world.gateways[CHAT].ttft) > 19


@pytest.mark.parametrize(("code", "comes_back"), [("31", True), ("48", False), ("79", False)])
def test_an_xid_is_shown_and_kills_the_engine_for_as_long_as_the_gpu_is_of_no_use(code: str, comes_back: bool) -> None:
    world, incidents = a_world()
    lived(world, 5)
    incidents.set({"gpu": {"gpu": uuid(world), "mode": code}})
    lived(world, LOAD + 2)
    text = dcgm_metrics(world.fleet.gpus())
    assert f'err_code="{code}"' in text
    assert text.count('err_msg="No Error"') == 1
    assert first(world).listening == comes_back
    incidents.set({"gpu": {"gpu": uuid(world), "mode": "none"}})
    lived(world, LOAD + 2)
    assert first(world).listening
    assert first(world).fault == ""
    assert dcgm_metrics(world.fleet.gpus()).count('err_msg="No Error"') == 2


def test_an_xid_of_the_past_is_forgotten_without_harm() -> None:
    world, incidents = a_world()
    incidents.set({"gpu": {"gpu": uuid(world), "mode": "31"}})
    lived(world, LOAD + 5)
    engine = first(world).engine
    incidents.clear()
    assert first(world).engine is engine is not None
    assert incidents.lasting() == {}


def test_a_gpu_of_no_use_draws_bare_watts_and_starts_no_engine() -> None:
    world, incidents = a_world(pods=0)
    other = next(world.fleet.gpus()).uuid
    incidents.set({"gpu": {"gpu": other, "mode": "79"}})
    world.put_pod(a_pod())
    lived(world, 10)
    assert not first(world).listening
    assert first(world).energy.total == pytest.approx(10 * 71.8)


def test_a_lost_node_draws_nothing_and_begins_anew() -> None:
    world, incidents = a_world(pods=2)
    lived(world, 10)
    before = account(world)["cluster"]
    incidents.set({"node": {"node": "gpu-1", "mode": "lost"}})
    lived(world, 30)
    during = account(world)["cluster"]
    assert (during["gpu_joules"], during["host_joules"]) == (before["gpu_joules"], before["host_joules"])
    assert world.gateways[CHAT].waiting > 100
    incidents.clear()
    assert [gpu.counter_joules for gpu in world.fleet.gpus()] == [0, 0]
    lived(world, LOAD + 10)
    assert all(pod.listening for pod in world.fleet.pods.values())
    assert world.gateways[CHAT].waiting == 0


INCIDENTS = st.sampled_from(
    [
        {"engine": {"pod": "*", "mode": "crash"}},
        {"engine": {"pod": "chat-1", "mode": "hang"}},
        {"engine": {"pod": "*", "mode": "none"}},
        {"gpu": {"gpu": "*", "mode": "48"}},
        {"gpu": {"gpu": "*", "mode": "31"}},
        {"gpu": {"gpu": "*", "mode": "none"}},
        {"node": {"node": "*", "mode": "lost"}},
        {"node": {"node": "*", "mode": "none"}},
    ]
)


@given(happenings=st.lists(st.tuples(INCIDENTS, st.floats(0.1, 8.0)), max_size=6))
@settings(max_examples=20, deadline=None)
def test_whatever_happens_no_request_and_no_joule_is_lost(happenings: list[tuple[dict[str, object], float]]) -> None:
    world, incidents = a_world(pods=2, rate=10.0)
    for body, seconds in happenings:
        incidents.set(body)
        lived(world, seconds)
    gateway = world.gateways[CHAT]
    in_flight = sum(pod.engine.in_flight for pod in world.fleet.pods.values() if pod.engine is not None)
    assert gateway.done + gateway.failed + gateway.waiting + in_flight == len(gateway.arrivals)
    assert account(world)["cluster"]["unheld_joules"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"engine": {"pod": "demo/none", "mode": "crash"}}, "no pod 'demo/none' here"),
        ({"engine": {"pod": "*", "mode": "burn"}}, "crash, hang, none"),
        ({"gpu": {"gpu": "*", "mode": "13"}}, "31, 48, 79, none"),
        ({"node": {"pod": "*", "mode": "lost"}}, '"node" takes'),
    ],
)
def test_what_cannot_happen_is_refused(body: dict[str, object], why: str) -> None:
    _, incidents = a_world()
    with pytest.raises(FaultError, match=why):
        incidents.set(body)
