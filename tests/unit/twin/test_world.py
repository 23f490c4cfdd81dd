"""The whole simulation: requests find engines, are held while none is ready, and are counted once."""

from dataclasses import replace

import pytest

from fallow.domain.readings import PodRef
from fallow.twin.physics.requests import FinishReason, Request
from fallow.twin.pods import PodPhase
from fallow.twin.rates import Piecewise
from fallow.twin.state import describe
from fallow.twin.traffic import GeneratedTraffic, Lengths
from fallow.twin.world import World
from tests.support.twin import CHAT, a_node, a_pod, engine_facts


def a_world(*, pods: int = 2, rate: float = 5.0, seed: int = 1) -> World:
    world = World(started=1000.0)
    world.put_node(a_node())
    for index in range(pods):
        world.put_pod(a_pod(f"chat-{index}"))
    if rate:
        world.set_traffic(CHAT, GeneratedTraffic(Piecewise(((0, rate),)), Lengths(300), Lengths(100), seed=seed))
    return world


def lived(world: World, seconds: float, *, tick: float = 0.1) -> World:
    end = world.now + seconds
    while world.now < end:
        world.advance(min(world.now + tick, end))
    return world


def test_a_seed_decides_everything() -> None:
    assert describe(lived(a_world(), 60)) == describe(lived(a_world(), 60))
    assert describe(lived(a_world(), 60)) != describe(lived(a_world(seed=2), 60))


def test_requests_are_shared_by_the_ready_pods() -> None:
    world = lived(a_world(pods=2, rate=20), 30)
    engines = [pod.engine for pod in world.fleet.pods.values() if pod.engine is not None]
    counts = [engine.counters.finished[FinishReason.STOP] for engine in engines]
    assert min(counts) > 0.8 * max(counts) > 0


def test_requests_are_held_while_nobody_is_ready_and_served_on_wake() -> None:
    world = lived(a_world(pods=0), 20)
    gateway = world.gateways[CHAT]
    assert gateway.waiting == len(gateway.arrivals) > 50
    world.put_pod(a_pod())
    lived(world, 20)
    assert gateway.waiting == 0
    assert gateway.done > 50
    assert max(gateway.ttft) > 19


def test_a_sleeping_engine_is_given_nothing() -> None:
    world = a_world(pods=1)
    engine = world.fleet.pods[PodRef("demo", "chat-0")].engine
    assert engine is not None
    engine.sleep(1)
    lived(world, 10)
    assert engine.in_flight == 0
    assert world.gateways[CHAT].waiting > 0


def test_a_draining_pod_is_given_nothing_more() -> None:
    world = lived(a_world(pods=2), 5)
    world.put_pod(a_pod("chat-0", PodPhase.DRAINING))
    drained = world.fleet.pods[PodRef("demo", "chat-0")].engine
    assert drained is not None
    lived(world, 10)
    finished = sum(drained.counters.finished.values())
    lived(world, 10)
    assert drained.in_flight == 0
    assert sum(drained.counters.finished.values()) == finished


def test_every_arrival_is_done_failed_waiting_or_in_flight() -> None:
    world = lived(a_world(pods=2, rate=30), 10)
    world.remove_pod(PodRef("demo", "chat-0"))
    lived(world, 3)
    service = describe(world)["services"][0]
    assert service["failed"] > 0
    assert service["arrivals"] == service["done"] + service["failed"] + service["waiting"] + service["in_flight"]


def test_energy_of_services_and_free_gpus_is_that_of_the_cluster() -> None:
    world = lived(a_world(pods=3), 20)
    world.remove_pod(PodRef("demo", "chat-1"))
    lived(world, 10)
    state = describe(world)
    held = sum(service["joules"]["total"] for service in state["services"])
    free = sum(gpu["joules"] for gpu in state["gpus"] if gpu["index"] > 2) + 10 * 71.8
    assert held + free == pytest.approx(state["cluster"]["joules"])
    parts = state["services"][0]["joules"]
    assert parts["total"] == pytest.approx(sum(parts[name] for name in ("pulling", "loading", "idle", "active")))


def test_a_request_from_outside_is_followed_to_its_end() -> None:
    world = a_world(pods=1, rate=0)
    request = Request(world.now, 50, 30)
    world.ask_service(CHAT, request)
    lived(world, 0.1)
    assert 0 < world.generated(request) < 30
    lived(world, 5)
    assert world.generated(request) == 30
    assert world.gateways[CHAT].done == 1


def test_a_client_that_leaves_is_counted_as_failed() -> None:
    world = a_world(pods=1, rate=0)
    held, running = Request(world.now, 50, 3000), Request(world.now, 50, 3000)
    world.ask_service(CHAT, running)
    lived(world, 1)
    world.ask_service(CHAT, held)
    world.abort(held)
    world.abort(running)
    lived(world, 1)
    assert world.gateways[CHAT].failed == 2
    assert world.gateways[CHAT].done == 0


def test_attainment_is_the_share_within_the_objectives() -> None:
    world = lived(a_world(pods=1), 60)
    gateway = world.gateways[CHAT]
    assert gateway.attainment(ttft=10, itl=1) == pytest.approx(1.0)
    assert gateway.attainment(ttft=0, itl=None) == 0
    assert a_world(rate=0).gateways[CHAT].attainment(ttft=1, itl=1) is None


def test_a_long_gap_between_ticks_is_lived_through() -> None:
    assert describe(lived(a_world(), 60, tick=0.25))["cluster"]["joules"] == pytest.approx(
        describe(lived(a_world(), 60, tick=60))["cluster"]["joules"], rel=1e-6
    )


def test_the_twins_own_clients_keep_an_engine_half_filled_and_are_nobodys_traffic() -> None:
    world = a_world(pods=0, rate=0)
    world.put_pod(a_pod("plain", engine=replace(engine_facts(), clients=4), service=None))
    engine = world.fleet.pods[PodRef("demo", "plain")].engine
    assert engine is not None
    for _ in range(20):
        lived(world, 5)
        assert engine.running == 4
    assert engine.counters.finished[FinishReason.STOP] > 4
    assert world.gateways == {}


def test_coarse_slices_change_when_requests_find_engines_and_little_else() -> None:
    def joules(slice_seconds: float) -> float:
        world = World(started=0.0, slice_seconds=slice_seconds)
        world.put_node(a_node(gpus=2))
        world.put_pod(a_pod())
        world.set_traffic(CHAT, GeneratedTraffic(Piecewise(((0, 5.0),)), Lengths(300), Lengths(100), seed=1))
        world.advance(300.0)
        return float(describe(world)["cluster"]["joules"])

    assert joules(2.5) == pytest.approx(joules(0.25), rel=0.01)


def test_a_reset_starts_the_counter_and_leaves_the_truth() -> None:
    world = lived(a_world(rate=0), 10)
    gpu = world.fleet.gpus_of("gpu-1")[0]
    true = gpu.joules
    assert world.reset("gpu", gpu.uuid) == 1
    assert gpu.counter_joules == pytest.approx(0)
    assert gpu.joules == true
    assert (world.reset("node", "gpu-1"), world.reset("node", "elsewhere"), world.reset("host", "gpu-1")) == (8, 0, 1)
