"""Power limits on a node: as ordered, for as long as ordered, and afterwards as they were before."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from fallow.adapters.metrics.dcgm import READ_NAMES, read_gpus
from fallow.adapters.metrics.exposition import parse_page
from fallow.adapters.node.exporter import NodeCollector, NodeSources
from fallow.adapters.node.limiter import Limiter
from fallow.adapters.node.nvml import Nvml
from fallow.adapters.node.orders import Orders
from fallow.api.power_order import PowerOrder, read_order, written
from fallow.app.cli import app
from fallow.domain.readings import PowerLimit
from fallow.domain.units import Instant, Watts
from tests.adapters.node.driver import Driver, Gpu

NOW = 1_800_000_000.0


def order(*, until: float = NOW + 900, **watts: float) -> PowerOrder:
    return PowerOrder(Instant(until), {f"GPU-{name}": Watts(value) for name, value in watts.items()})


class Node:
    """Two GPUs of 700 W, and a clock that the test moves."""

    def __init__(self, *, root: bool = True) -> None:
        self.driver = Driver([Gpu("GPU-a"), Gpu("GPU-b")], root=root)
        self.now = NOW
        self.limiter = Limiter(Nvml(self.driver), lambda: self.now)

    @property
    def watts(self) -> list[float]:
        return [(gpu.limit or 0) / 1e3 for gpu in self.driver.gpus]


def test_an_order_is_carried_out_and_a_new_one_replaces_it() -> None:
    node = Node()
    node.limiter.ask(order(a=350, b=400))
    assert node.watts == [350, 400]
    node.limiter.ask(order(b=500))
    assert node.watts == [700, 500]


def test_an_order_that_was_not_renewed_ends() -> None:
    node = Node()
    node.limiter.ask(order(a=350))
    node.now = NOW + 901
    node.limiter.keep()
    assert node.watts == [700, 700]


def test_at_the_end_every_limit_is_what_it_was_before() -> None:
    node = Node()
    node.driver.gpus[0].limit = 500_000  # its owner's own
    node.limiter.ask(order(a=350, b=350))
    node.limiter.release()
    assert node.watts == [500, 700]


def test_what_an_agent_before_it_had_set_is_not_taken_for_the_owners_word() -> None:
    node = Node()
    node.driver.gpus[0].limit = 350_000
    node.limiter.ask(order(a=350))
    node.limiter.release()
    assert node.watts == [700, 700]


def test_limits_that_the_driver_would_refuse_are_as_near_as_it_allows() -> None:
    node = Node()
    node.limiter.ask(order(a=50, b=9_000))
    assert node.watts == [200, 700]


def test_a_limit_that_somebody_changes_is_set_again() -> None:
    node = Node()
    node.limiter.ask(order(a=350))
    node.driver.gpus[0].limit = 600_000
    node.limiter.keep()
    assert node.watts == [350, 700]


def test_a_gpu_that_may_not_be_limited_is_no_longer_offered(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(root=False)
    assert set(node.limiter.limits()) == {"GPU-a", "GPU-b"}
    node.limiter.ask(order(a=350))
    node.limiter.keep()
    assert set(node.limiter.limits()) == {"GPU-b"}
    (record,) = caplog.records
    assert "GPU-a cannot be set: Insufficient Permissions; it takes root and the capability SYS_ADMIN" in record.message


def test_the_operator_reads_the_limits_that_the_agent_serves() -> None:
    node = Node()
    node.driver.gpus[0].limit = 500_000
    node.limiter.ask(order(a=350))
    registry = CollectorRegistry(auto_describe=False)
    sources = NodeSources(Nvml(node.driver), tuple, lambda _: {}, node.limiter.limits)
    registry.register(NodeCollector(sources, "node-a", meters=True))
    page = parse_page(generate_latest(registry).decode(), READ_NAMES, {}, Instant(NOW))

    gpus = read_gpus(page)

    assert gpus["GPU-a"].limit == PowerLimit(Watts(350), Watts(200), Watts(500), Instant(NOW))
    assert gpus["GPU-b"].limit == PowerLimit(Watts(700), Watts(200), Watts(700), Instant(NOW))


def test_an_agent_that_may_set_no_limits_serves_none() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(NodeSources(Nvml(Node().driver), tuple, lambda _: {}), "node-a", meters=True))
    assert b"fallow_agent_power_limit_watts" not in generate_latest(registry)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"until": "soon", "limits": "{}"},
        {"until": "1", "limits": "[]"},
        {"until": "1", "limits": '{"GPU-a": "full"}'},
        {"until": "1", "limits": '{"GPU-a": 0}'},
        {"until": "1", "limits": '{"GPU-a": NaN}'},
    ],
)
def test_what_is_no_order_is_refused(data: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no power order"):
        read_order(data)


def test_an_order_comes_back_as_it_was_written() -> None:
    assert read_order(written(order(a=350, b=412.5))) == order(a=350, b=412.5)


# the watch


class Api(BaseHTTPRequestHandler):
    """Lists the ConfigMap that stands, and streams what happens to it; each watch ends after what there is to tell."""

    standing: dict[str, str] | None = None
    events: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012 - set by each test
    asked: list[str] = []  # noqa: RUF012
    fails = 0

    def do_GET(self) -> None:
        Api.asked.append(self.path)
        if Api.fails:
            Api.fails -= 1
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if "watch=true" not in self.path.lower():
            items = [] if Api.standing is None else [_body(Api.standing)]
            self.wfile.write(json.dumps({"metadata": {"resourceVersion": "7"}, "items": items}).encode())
            return
        events, Api.events = Api.events, []
        for kind, data in events:
            self.wfile.write(json.dumps({"type": kind, "object": _body(data)}).encode() + b"\n")

    def log_message(self, *_: Any) -> None:
        pass


def _body(data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fallow-power-node-a"}, "data": data}


@contextmanager
def heard(count: int) -> Iterator[list[PowerOrder | None]]:
    """What the agent is told, up to so many words; it pauses for a hundredth of a second."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    told: list[PowerOrder | None] = []

    def note(one: PowerOrder | None) -> None:
        told.append(one)
        if len(told) >= count:
            orders.stop.set()

    orders = Orders(client.CoreV1Api(client.ApiClient(configuration)), "fallow-system", "node-a", note)
    thread = threading.Thread(target=orders.run, daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fallow.adapters.node.orders.SHORTEST_PAUSE", 0.01)
        thread.start()
        thread.join(20)
    server.shutdown()
    server.server_close()
    assert not thread.is_alive(), told
    yield told


def test_orders_that_stand_change_and_end_are_heard() -> None:
    Api.standing, Api.asked, Api.fails = written(order(a=350)), [], 0
    Api.events = [("MODIFIED", written(order(a=400))), ("DELETED", written(order(a=400)))]
    with heard(3) as told:
        assert told == [order(a=350), order(a=400), None]
    assert all("fieldSelector=metadata.name%3Dfallow-power-node-a" in path for path in Api.asked)


def test_trouble_with_the_api_server_is_waited_out() -> None:
    Api.standing, Api.events, Api.fails = written(order(a=350)), [], 1
    with heard(1) as told:
        assert told == [order(a=350)]


def test_an_order_that_cannot_be_read_changes_nothing() -> None:
    Api.standing, Api.fails = {"limits": "{}"}, 0
    Api.events = [("MODIFIED", written(order(a=400)))]
    with heard(1) as told:
        assert told == [order(a=400)]


def test_outside_a_pod_the_agent_says_what_to_do() -> None:
    done = CliRunner().invoke(app, ["agent", "--node", "node-a", "--power-limits"])

    assert done.exit_code == 2
    assert "leave out --power-limits and --clocks, or run the agent from the chart" in " ".join(done.output.split())
