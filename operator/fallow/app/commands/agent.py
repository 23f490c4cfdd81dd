"""`fallow agent`: the node agent, which the chart runs on GPU nodes where it is enabled."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

# Seconds: how soon an order that has ended is undone, and one that failed is tried again.
KEPT_EVERY = 1.0


def agent(  # noqa: PLR0913 - one parameter for each option
    *,
    node: Annotated[str, typer.Option(help="Name of this node.", envvar="NODE_NAME")],
    port: Annotated[int, typer.Option(help="Port of the metrics page.", min=1, max=65535)] = 9401,
    meters: Annotated[
        bool, typer.Option("--meters/--no-meters", help="Serve power and energy too: for nodes without dcgm-exporter.")
    ] = False,
    power_limits: Annotated[
        bool,
        typer.Option("--power-limits/--no-power-limits", help="Limit the power of GPUs as the operator orders."),
    ] = False,
    clocks: Annotated[
        bool, typer.Option("--clocks/--no-clocks", help="Set the highest SM clock of GPUs as the operator orders.")
    ] = False,
    namespace: Annotated[
        str, typer.Option(help="Namespace of the operator's orders.", envvar="FALLOW_NAMESPACE")
    ] = "fallow-system",
    pod_resources: Annotated[Path, typer.Option(help="Socket of the kubelet's PodResources API.")] = Path(
        "/var/lib/kubelet/pod-resources/kubelet.sock"
    ),
    proc: Annotated[Path, typer.Option(help="The host's /proc, to find the pod of a process.")] = Path("/proc"),
    pod_logs: Annotated[Path, typer.Option(help="The kubelet's log folders, which name the node's pods.")] = Path(
        "/var/log/pods"
    ),
) -> None:
    """Serve who holds this node's GPUs, and each pod's share of them, as Prometheus metrics; limit power and clocks."""
    import logging

    from prometheus_client import CollectorRegistry, start_http_server

    from fallow.adapters.node.clocks import Clocks
    from fallow.adapters.node.exporter import NodeCollector, NodeSources
    from fallow.adapters.node.keeper import Keeper
    from fallow.adapters.node.limiter import Limiter
    from fallow.adapters.node.nvml import Nvml
    from fallow.adapters.node.orders import NotInCluster, Orders, in_cluster
    from fallow.adapters.node.podresources import PodResources
    from fallow.adapters.node.processes import pods_of

    try:
        api = in_cluster() if power_limits or clocks else None
    except NotInCluster as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    kubelet, nvml = PodResources(pod_resources), Nvml()
    registry = CollectorRegistry(auto_describe=False)
    limiter, clocking = Limiter(nvml), Clocks(nvml)
    kept: list[Keeper] = [one for one, asked in ((limiter, power_limits), (clocking, clocks)) if asked]
    sources = NodeSources(
        nvml,
        kubelet.held,
        lambda pids: pods_of(pids, logs=pod_logs, proc=proc),
        limiter.limits if power_limits else None,
        clocking.clocks if clocks else None,
    )
    registry.register(NodeCollector(sources, node, meters=meters))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server, thread = start_http_server(port, registry=registry)
    logging.getLogger(__name__).info("the agent of %s serves :%d/metrics", node, port)
    if api is not None:
        orders = Orders(api, namespace, node, *(one.ask for one in kept))
        threading.Thread(target=orders.run, name="orders", daemon=True).start()
        while not stop.wait(KEPT_EVERY):
            for one in kept:
                one.keep()
        orders.stop.set()
        for one in kept:
            one.release()
    stop.wait()
    server.shutdown()
    thread.join()
    kubelet.close()
    nvml.close()
