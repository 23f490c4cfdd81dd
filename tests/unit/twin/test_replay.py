"""A trace over fixed replicas: more replicas cost more energy for the same tokens."""

import pytest

from fallow.twin.rates import Piecewise
from fallow.twin.replay import Objectives, ReplayError, ReplayResult, Replicas, replay
from fallow.twin.traffic import Arrival, GeneratedTraffic, Lengths
from tests.support.twin import CHAT, a_node, engine_facts

NODES = [a_node(gpus=4)]


def arrivals(seconds: float = 120.0) -> list[Arrival]:
    return GeneratedTraffic(Piecewise(((0, 8.0),)), Lengths(300), Lengths(150), seed=3).until(seconds)


def replayed(count: int, *, start: float = 0.0, load: float = 0.0, seconds: float = 150.0) -> ReplayResult:
    replicas = [Replicas(CHAT, engine_facts(), count, start=start, load_seconds=load)]
    return replay(
        NODES, replicas, {CHAT: arrivals()}, seconds=seconds, objectives={CHAT: Objectives(ttft=1.0, itl=0.05)}
    )


def test_the_same_work_on_more_replicas_costs_more() -> None:
    one, three = replayed(1), replayed(3)
    assert one.generated_tokens == three.generated_tokens > 0
    assert one.services[0].energy < three.services[0].energy
    assert one.services[0].attainment == pytest.approx(1.0)


def test_energy_of_the_fleet_is_that_of_services_and_of_free_gpus() -> None:
    result = replayed(1)
    assert result.unallocated.value == pytest.approx(3 * 71.8 * 150)
    assert result.energy.value == pytest.approx(result.unallocated.value + result.services[0].energy.value)


def test_a_late_start_is_felt_and_its_load_is_paid() -> None:
    result = replayed(1, start=20.0, load=30.0).services[0]
    assert result.loading.value == pytest.approx(30 * 150)
    assert result.ttft_p95 is not None
    assert result.ttft_p95 > 30
    assert result.attainment is not None
    assert result.attainment < 0.7


def test_it_is_deterministic() -> None:
    assert replayed(2) == replayed(2)


def test_unfinished_requests_are_named() -> None:
    result = replayed(1, seconds=60.0).services[0]
    assert result.arrivals == result.done + result.failed + result.unfinished
    assert result.unfinished > 0


def test_a_fleet_that_is_too_small_is_refused() -> None:
    with pytest.raises(ReplayError, match="no node has 1 GPUs left for replica 5 of 5"):
        replayed(5)
