"""CPU and memory of a node: what they draw, and counters that start anew as RAPL's do."""

import re
from itertools import pairwise

import pytest

from fallow.twin.behaviours import Behaviour
from fallow.twin.fleet import Fleet
from fallow.twin.host import Host
from fallow.twin.host_metrics import kepler_metrics, rapl_metrics
from fallow.twin.pods import PodPhase
from tests.support.twin import a_foreign_pod, a_node, a_pod


def total(text: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#"))


def test_busy_gpus_cost_the_host_and_loading_ones_more() -> None:
    def joules(*pods: str) -> float:
        fleet = Fleet(now=0.0)
        fleet.put_node(a_node(gpus=2))
        if "spin" in pods:
            fleet.put_pod(a_foreign_pod("x", Behaviour.SPIN))
        if "load" in pods:
            fleet.put_pod(a_pod(phase=PodPhase.LOADING))
        fleet.advance(10.0)
        return fleet.hosts["gpu-1"].joules

    assert joules() == pytest.approx(10 * (2 * 110 + 60))
    assert joules() < joules("spin") < joules("load") < joules("spin", "load")


def test_rapl_starts_anew_at_its_range_and_kepler_follows_it() -> None:
    host = Host("gpu-1", fresh=True)
    seen: list[float] = []
    for _ in range(120):
        host.advance(60.0, busy=8.0, loading=0)
        seen.append(total(rapl_metrics(host)))
        assert total(kepler_metrics(host, "gpu-1")) == pytest.approx(host.joules)
    assert max(seen) < 2 * (262_144 + 65_713) < host.joules
    assert any(later < before for before, later in pairwise(seen))


def test_counters_of_a_host_do_not_begin_at_zero_until_it_is_started_anew() -> None:
    host = Host("gpu-1")
    host.advance(10.0, busy=0.0, loading=0)
    assert total(kepler_metrics(host, "gpu-1")) > host.joules > 0
    host.reset()
    assert total(kepler_metrics(host, "gpu-1")) == 0
    assert host.joules > 0


def test_a_broken_meter_writes_nan() -> None:
    for text in (rapl_metrics(Host("n"), broken=True), kepler_metrics(Host("n"), "n", broken=True)):
        assert re.findall(r" (\S+)\n(?!#)", text)
        assert all(line.endswith(" NaN") for line in text.splitlines() if not line.startswith("#"))
