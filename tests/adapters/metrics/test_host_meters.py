"""A node's energy outside its GPUs, as node-exporter and Kepler print it: each joule once, on the right node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from fallow.adapters.metrics.host import read_hosts
from fallow.adapters.metrics.samples import Sample
from fallow.domain.readings import HostMeter, HostReading
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Joules
from fallow.ports import ReadScope
from fallow.twin.host import Host
from fallow.twin.host_metrics import kepler_metrics, rapl_metrics
from tests.adapters.metrics.rigs import NOW, SCRAPED, PrometheusRig
from tests.adapters.metrics.trouble import Trouble

AT = Instant(1000)
NODES = {"10.1.0.1": "node-a"}
POWERCAP = "/host/sys/class/powercap"


def rapl(name: str, path: str, value: float, instance: str = "10.1.0.1:9100", index: str = "0", **more: str) -> Sample:
    labels = {"index": index, "path": f"{POWERCAP}/{path}", "instance": instance, "job": "node-exporter", **more}
    return Sample(f"node_rapl_{name}", labels, value, AT)


def kepler(zone: str, value: float, node: str = "node-a", path: str = "intel-rapl:0") -> Sample:
    labels = {"zone": zone, "path": f"{POWERCAP}/{path}", "node_name": node, "instance": "10.9.9.9:28282"}
    return Sample("kepler_node_cpu_joules_total", labels, value, AT)


def joules(reading: HostReading) -> float:
    return sum(counter.value for counter in reading.counters.values())


def test_packages_and_memory_are_counted_and_what_lies_inside_or_around_them_is_not() -> None:
    samples = [
        rapl("package_joules_total", "intel-rapl:0", 1000),
        rapl("package_joules_total", "intel-rapl:1", 2000, index="1"),
        rapl("dram_joules_total", "intel-rapl:0:0", 300),
        rapl("core_joules_total", "intel-rapl:0:1", 70),
        rapl("psys_joules_total", "intel-rapl:2", 90_000),
    ]
    (reading,) = read_hosts(samples, NODES).values()
    assert (reading.node, reading.at, reading.meter) == ("node-a", AT, HostMeter.RAPL)
    assert sorted(counter.value for counter in reading.counters.values()) == [300, 1000, 2000]


def test_a_package_that_is_read_a_second_time_through_memory_counts_once() -> None:
    samples = [
        rapl("package_joules_total", "intel-rapl:0", 1000),
        rapl("package_joules_total", "intel-rapl-mmio:0", 1000),
    ]
    assert joules(read_hosts(samples, NODES)["node-a"]) == 1000
    assert joules(read_hosts(samples[1:], NODES)["node-a"]) == 1000


def test_the_zone_may_be_a_label() -> None:
    samples = [
        rapl("joules_total", "intel-rapl:0", 1000, rapl_zone="package-0"),
        rapl("joules_total", "intel-rapl:0:0", 300, rapl_zone="dram"),
        rapl("joules_total", "intel-rapl:0:1", 70, rapl_zone="core"),
    ]
    assert joules(read_hosts(samples, NODES)["node-a"]) == 1300


def test_kepler_is_preferred_since_it_follows_the_registers_over_their_end() -> None:
    samples = [
        rapl("package_joules_total", "intel-rapl:0", 1000),
        kepler("package", 500_000),
        kepler("dram", 40_000),
        kepler("core", 9),
        kepler("psys", 9),
    ]
    reading = read_hosts(samples, NODES)["node-a"]
    assert (reading.meter, joules(reading)) == (HostMeter.KEPLER, 540_000)


def test_the_zone_of_a_target_is_not_taken_for_the_counter_s() -> None:
    own = kepler("package", 700)
    labels = {**own.labels, "zone": "eu-central-1a", "exported_zone": "package"}
    assert joules(read_hosts([Sample(own.name, labels, own.value, own.at)], NODES)["node-a"]) == 700


def test_a_node_is_known_by_a_label_or_by_its_address_and_others_are_left_out() -> None:
    samples = [
        rapl("package_joules_total", "intel-rapl:0", 1, instance="exporter-7:9100", node="node-a"),
        rapl("package_joules_total", "intel-rapl:0", 2, instance="10.1.0.2:9100"),
        rapl("package_joules_total", "intel-rapl:0", 3, instance="192.0.2.7:9100", node="laptop"),
    ]
    found = read_hosts(samples, {**NODES, "10.1.0.2": "node-b"})
    assert {node: joules(reading) for node, reading in found.items()} == {"node-a": 1, "node-b": 2}


def test_two_exporters_on_a_node_count_once() -> None:
    samples = [
        rapl("package_joules_total", "intel-rapl:0", 1000, instance="10.1.0.1:9100"),
        rapl("package_joules_total", "intel-rapl:0", 1001, instance="10.1.0.1:9101"),
    ]
    assert joules(read_hosts(samples, NODES)["node-a"]) == 1000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_counter_that_is_no_number_leaves_the_node_unread(value: float) -> None:
    samples = [rapl("package_joules_total", "intel-rapl:0", 1000), rapl("dram_joules_total", "intel-rapl:0:0", value)]
    assert read_hosts(samples, NODES) == {}


def test_memory_without_a_package_is_no_host() -> None:
    assert read_hosts([rapl("dram_joules_total", "intel-rapl:0:0", 5)], NODES) == {}


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PrometheusRig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        yield await PrometheusRig.start(stack)


@pytest.mark.parametrize("meter", HostMeter)
async def test_a_node_s_meter_is_read_through_prometheus(rig: PrometheusRig, meter: HostMeter) -> None:
    twin = Host("node-a", fresh=True)
    twin.advance(100, busy=4, loading=0)
    if meter is HostMeter.KEPLER:
        page, target = kepler_metrics(twin, "node-a"), {"job": "kepler", "instance": "10.2.0.9:28282"}
    else:
        page, target = rapl_metrics(twin), {"job": "node-exporter", "instance": "10.1.0.1:9100"}
    rig.server.scrape(page, target, SCRAPED)

    readings = await rig.source.read(NOW, ReadScope(nodes={"node-a": "10.1.0.1"}))

    assert readings.host_fault is None
    reading = readings.hosts["node-a"]
    assert (reading.meter, reading.at) == (meter, SCRAPED)
    assert joules(reading) == pytest.approx(twin.joules, rel=1e-6)


async def test_a_cluster_without_host_meters_has_none_and_no_fault(rig: PrometheusRig) -> None:
    readings = await rig.source.read(NOW, ReadScope(nodes={"node-a": "10.1.0.1"}))

    assert readings.hosts == {}
    assert readings.host_fault is None


async def test_a_failing_query_of_hosts_leaves_the_other_families_alone(rig: PrometheusRig) -> None:
    rig.server.trouble_with = {"node_rapl": Trouble.STATUS_422}

    readings = await rig.source.read(NOW, ReadScope())

    assert readings.host_fault is not None
    assert readings.host_fault.reason is Reason.BAD_ANSWER
    assert readings.engine_fault is None


def test_readings_keep_the_counters_apart() -> None:
    reading = read_hosts([rapl("package_joules_total", "intel-rapl:0", 1000)], NODES)["node-a"]
    assert reading.counters == {"package-0-intel-rapl:0": Joules(1000)}
