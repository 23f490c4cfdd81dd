"""Runs the operator: builds it, serves its metrics, hands it to kopf, and ends when kopf does."""

import asyncio
import logging
import os
import signal

import kopf
from prometheus_client import start_http_server

from fallow.app import handlers
from fallow.app.settings import Settings
from fallow.app.wiring import build

log = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; the ledger is stored on the way out."""
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)  # kopf's own login reads it there
    logging.getLogger("kopf").setLevel(logging.WARNING)
    operator = await build(settings)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, registry=operator.reported.registry)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    log.info(
        "fallow watches; metrics from %s, a cycle every %g s",
        settings.prometheus_url or "direct scrape",
        settings.cycle_interval,
    )
    await kopf.operator(
        registry=handlers.registry(operator),
        settings=handlers.settings(),
        clusterwide=True,
        standalone=True,
        stop_flag=stop,
        liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz" if settings.health_port else None,
    )
