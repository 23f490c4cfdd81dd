"""Orders of power limits on their way through a real API server: from the operator to a node's agent, and back."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from kubernetes import client as blocking
from kubernetes import config as blocking_config
from kubernetes.aio import client, config

from e2e.harness.cluster import Cluster
from e2e.harness.process import wait_for
from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.power_orders import PowerOrders
from fallow.adapters.node.clocks import Clocks
from fallow.adapters.node.limiter import Limiter
from fallow.adapters.node.nvml import Nvml
from fallow.adapters.node.orders import Orders
from fallow.domain.plans import GpuLimits
from fallow.domain.units import Hertz, Instant, Watts
from tests.adapters.node.driver import Driver, Gpu

pytestmark = pytest.mark.cluster

NODE = "gpu-node-with-an-agent"


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[KubernetesApi]:
    configuration = client.Configuration()
    await config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    raw = client.ApiClient(configuration)
    yield KubernetesApi(raw)
    await raw.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def driver(cluster: Cluster, kube_namespace: str) -> Iterator[Driver]:
    """Two GPUs of 700 W and 1980 MHz on a node whose agent listens."""
    driver = Driver([Gpu("GPU-a"), Gpu("GPU-b")])
    configuration = blocking.Configuration()
    blocking_config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    core = blocking.CoreV1Api(blocking.ApiClient(configuration))
    kept = (Limiter(Nvml(driver)), Clocks(Nvml(driver)))
    orders = Orders(core, kube_namespace, NODE, *(one.ask for one in kept))
    threading.Thread(target=orders.run, daemon=True).start()
    yield driver
    orders.stop.set()


async def test_an_agent_limits_its_gpus_as_ordered_and_lets_go_of_them(
    api: KubernetesApi, driver: Driver, kube_namespace: str
) -> None:
    given = PowerOrders(api, kube_namespace, "fallow")

    async def limited(**watts: float) -> None:
        limits = {f"GPU-{name}": GpuLimits(Watts(value)) for name, value in watts.items()}
        assert await given.give({NODE: limits}, Instant(time.time())) == ()
        wanted = [watts.get("a", 700.0), watts.get("b", 700.0)]
        wait_for(lambda: [(gpu.limit or 0) / 1e3 for gpu in driver.gpus] == wanted, "the limits of the GPUs", 20)

    await limited(a=350.0, b=490.0)
    await limited(b=420.0)
    await limited()


async def test_an_agent_lowers_clocks_as_ordered_and_unlocks_them(
    api: KubernetesApi, driver: Driver, kube_namespace: str
) -> None:
    given = PowerOrders(api, kube_namespace, "fallow")

    async def run_at(limits: dict[str, GpuLimits], *wanted: tuple[int, int] | None) -> None:
        assert await given.give({NODE: limits}, Instant(time.time())) == ()
        wait_for(lambda: [gpu.locked for gpu in driver.gpus] == list(wanted), "the clocks of the GPUs", 20)

    await run_at({"GPU-a": GpuLimits(clock=Hertz(1.386e9)), "GPU-b": GpuLimits(Watts(500))}, (345, 1386), None)
    await run_at({"GPU-b": GpuLimits(clock=Hertz(1.5e9))}, None, (345, 1500))
    await run_at({}, None, None)
