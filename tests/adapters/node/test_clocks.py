"""SM clocks on a node: as ordered, for as long as ordered, and afterwards as the driver has them."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from fallow.adapters.metrics.dcgm import READ_NAMES, read_gpus
from fallow.adapters.metrics.exposition import parse_page
from fallow.adapters.node.clocks import Clocks
from fallow.adapters.node.exporter import NodeCollector, NodeSources
from fallow.adapters.node.nvml import Nvml
from fallow.api.power_order import PowerOrder, read_order, written
from fallow.domain.readings import ClockRange
from fallow.domain.units import Hertz, Instant, Watts
from tests.adapters.node.driver import Driver, Gpu

NOW = 1_800_000_000.0


def order(*, until: float = NOW + 300, **megahertz: float) -> PowerOrder:
    clocks = {f"GPU-{name}": Hertz(value * 1e6) for name, value in megahertz.items()}
    return PowerOrder(Instant(NOW + 900), {}, Instant(until), clocks)


class Node:
    """Two GPUs of 345 to 1980 MHz, and a time that the test moves."""

    def __init__(self, *gpus: Gpu, root: bool = True) -> None:
        self.driver = Driver(list(gpus or (Gpu("GPU-a"), Gpu("GPU-b"))), root=root)
        self.now = NOW
        self.clocks = Clocks(Nvml(self.driver), lambda: self.now)

    @property
    def locked(self) -> list[tuple[int, int] | None]:
        return [gpu.locked for gpu in self.driver.gpus]


def test_an_order_is_carried_out_and_a_new_one_replaces_it() -> None:
    node = Node()
    node.clocks.ask(order(a=1400))
    assert node.locked == [(345, 1400), None]
    node.clocks.ask(order(b=1500))
    assert node.locked == [None, (345, 1500)]


def test_an_order_that_was_not_renewed_ends_before_that_of_power() -> None:
    node = Node()
    node.clocks.ask(order(a=1400))
    node.now = NOW + 301
    node.clocks.keep()
    assert node.locked == [None, None]


def test_at_the_end_every_clock_is_free() -> None:
    node = Node()
    node.clocks.ask(order(a=1400, b=1400))
    node.clocks.release()
    assert node.locked == [None, None]


def test_what_an_agent_that_was_killed_had_locked_is_unlocked() -> None:
    node = Node(Gpu("GPU-a", locked=(345, 900)), Gpu("GPU-b"))
    node.clocks.keep()
    assert node.locked == [None, None]


def test_clocks_that_a_gpu_does_not_have_are_as_near_as_it_has() -> None:
    node = Node()
    node.clocks.ask(order(a=100, b=9_000))
    assert node.locked == [(345, 345), (345, 1980)]


def test_a_driver_is_asked_only_where_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.clocks.ask(order(a=1400))

    def refuse(*_: object) -> None:
        raise AssertionError("asked again")

    for name in ("nvmlDeviceSetGpuLockedClocks", "nvmlDeviceResetGpuLockedClocks"):
        monkeypatch.setattr(node.driver, name, refuse, raising=False)
    node.clocks.keep()
    node.clocks.ask(order(a=1400))


def test_a_gpu_that_may_not_be_set_is_not_offered(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(Gpu("GPU-a"), root=False)
    node.clocks.ask(order(a=1400))
    node.clocks.keep()
    assert node.clocks.clocks() == {}
    (record,) = caplog.records
    assert "the clock of GPU-a cannot be set: Insufficient Permissions" in record.message


def test_a_driver_that_is_not_there_yet_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    node.driver.loaded = False
    node.clocks.ask(order(a=1400))
    node.driver.loaded = True
    node.clocks.keep()
    assert node.locked == [(345, 1400), None]
    assert "needs NVIDIA's driver" in caplog.text


def test_the_operator_reads_the_clocks_that_the_agent_serves() -> None:
    node = Node(Gpu("GPU-a"), Gpu("GPU-b"), Gpu("GPU-old", clocks=None))
    node.clocks.ask(order(a=1400))
    registry = CollectorRegistry(auto_describe=False)
    sources = NodeSources(Nvml(node.driver), tuple, lambda _: {}, clocks=node.clocks.clocks)
    registry.register(NodeCollector(sources, "node-a", meters=True))

    gpus = read_gpus(parse_page(generate_latest(registry).decode(), READ_NAMES, {}, Instant(NOW)))

    assert gpus["GPU-a"].clock == ClockRange(Hertz(1.4e9), Hertz(345e6), Hertz(1.98e9))
    assert gpus["GPU-b"].clock == ClockRange(Hertz(1.98e9), Hertz(345e6), Hertz(1.98e9))
    assert (gpus["GPU-old"].clock, gpus["GPU-a"].limit) == (None, None)


@pytest.mark.parametrize(
    "clocks", ['{"GPU-a": 0}', '{"GPU-a": NaN}', '{"GPU-a": "fast"}', "[]", '{"GPU-a": 1.4e9}'], ids=str
)
def test_clocks_that_are_none_or_without_an_end_are_refused(clocks: str) -> None:
    with pytest.raises(ValueError, match="no power order"):
        read_order({"until": "1", "limits": "{}", "clocks": clocks})


def test_an_order_comes_back_as_it_was_written() -> None:
    both = PowerOrder(Instant(9), {"GPU-a": Watts(350)}, Instant(5), {"GPU-b": Hertz(1.5e9)})
    assert read_order(written(both)) == both
