"""`python -m fallow.twin`: answers as vLLM and dcgm-exporter for the simulated pods and nodes of a cluster."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from fallow.twin.scenario import ScenarioError
from fallow.twin.serve import Settings, run
from fallow.twin.server import Ports

log = logging.getLogger("fallow.twin")


def settings_from(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m fallow.twin", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="kubeconfig of the cluster (default: the environment's)")
    parser.add_argument("--scenario", type=Path, help="YAML file with the traffic of each service")
    parser.add_argument(
        "--control-port", type=int, default=9901, help="on 127.0.0.1: /state, /faults, /traffic, /trace"
    )
    parser.add_argument("--vllm-port", type=int, default=8000)
    parser.add_argument("--dcgm-port", type=int, default=9400)
    parser.add_argument("--gateway-port", type=int, default=8080)
    parser.add_argument("--listen", action="append", help="address to listen on (default: all); may be repeated")
    parser.add_argument("--gateway-address", help="the gateway's own address (default: all)")
    parser.add_argument("--hostname-label", choices=("Hostname", "hostname"), default="Hostname")
    chosen = parser.parse_args(arguments)
    hosts = tuple(chosen.listen) if chosen.listen else Ports().hosts
    gateway_hosts = (chosen.gateway_address,) if chosen.gateway_address else ()
    ports = Ports(hosts, chosen.vllm_port, chosen.dcgm_port, chosen.gateway_port, gateway_hosts)
    return Settings(chosen.kubeconfig, chosen.scenario, chosen.control_port, ports, chosen.hostname_label)


async def serve(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C."""
    task = asyncio.ensure_future(run(settings, on_ready=lambda _: log.info("the twin answers")))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("the twin stops")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s twin %(levelname)s %(message)s")
    try:
        asyncio.run(serve(settings_from(sys.argv[1:])))
    except ScenarioError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
