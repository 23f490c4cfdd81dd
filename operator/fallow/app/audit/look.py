"""The look of `fallow audit` at a cluster: where, how long, and by which way. It only lists and reads.

With a Prometheus the past is read; without one the cluster is watched for a while, directly or by its API server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.connecting import connected, in_a_pod
from fallow.adapters.cluster.survey import survey
from fallow.adapters.metrics.direct import DirectSource
from fallow.adapters.metrics.prometheus_api import Access
from fallow.adapters.metrics.proxied import ProxiedSource
from fallow.adapters.metrics.watched import look, watched
from fallow.adapters.metrics.window import PrometheusWindow
from fallow.app.audit.options import Way
from fallow.domain.units import Instant, Seconds
from fallow.domain.windows import Survey, Window
from fallow.footprint.audit.report import Audit, Rates, audit
from fallow.ports import EngineTarget, ReadScope

KUBERNETES_TIMEOUT = 30.0
# dcgm-exporter measures every 30 s: a counter read more often shows the same value twice
LOOK_EVERY = Seconds(30)
# engines show the present: more looks for less chance, but fewer where there are many
ENGINES_EVERY, SECONDS_PER_ENGINE = 5.0, 0.05

Told = Callable[[str], None]
Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster and which Prometheus; without a URL pods and nodes are watched for `watch` seconds."""

    kubeconfig: Path | None = None
    context: str | None = None
    prometheus_url: str = ""
    access: Access = field(default_factory=Access)
    matchers: Mapping[str, str] = field(default_factory=dict)
    timeout: Seconds = Seconds(60)
    way: Way = Way.AUTO
    watch: Seconds = Seconds(60)
    dcgm_port: int = 9400


async def run_audit(
    where: Where,
    rates: Rates,
    *,
    window: Seconds,
    until: Instant | None = None,
    namespaces: tuple[str, ...] = (),
    told: Told = lambda _: None,
    pause: Pause = asyncio.sleep,
    clock: Callable[[], float] = time.time,
) -> Audit:
    """Raises ValueError for settings that cannot be, a WriteError where Kubernetes cannot be asked."""
    past = _past(where) if where.prometheus_url else None
    api_client = await connected(where.kubeconfig, where.context)
    try:
        api = KubernetesApi(api_client, KUBERNETES_TIMEOUT)
        told("asking Kubernetes who holds GPUs")
        found = await survey(api)
        if past is not None:
            told(f"asking Prometheus about {len(found.pods)} GPU pods on {len(_gpu_nodes(found))} nodes")
            seen = await past.read(Instant(clock()) if until is None else until, window, found)
        else:
            seen = await _watch(where, api, found, told, pause, clock)
    finally:
        if past is not None:
            await past.close()
        await api_client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    return audit(seen, found, rates, namespaces=namespaces)


def _past(where: Where) -> PrometheusWindow:
    return PrometheusWindow(where.prometheus_url, timeout=where.timeout, access=where.access, matchers=where.matchers)


async def _watch(
    where: Where, api: KubernetesApi, found: Survey, told: Told, pause: Pause, clock: Callable[[], float]
) -> Window:
    """Looks at GPUs every `LOOK_EVERY` at most, and at engines several times in between."""
    source, way = _source(where, api, found)
    scope = ReadScope(engines=_engines(found), nodes=_exporters(found))
    slots = max(1, round(where.watch / LOOK_EVERY))
    between = max(1, round(where.watch / slots / max(ENGINES_EVERY, SECONDS_PER_ENGINE * len(scope.engines))))
    every = where.watch / slots / between
    told(
        f"no Prometheus given: watching {len(scope.nodes)} GPU nodes and {len(scope.engines)} engines"
        f" for {where.watch:g} s, {way}"
    )
    seen = []
    try:
        for number in range(slots * between + 1):
            if number:
                await pause(every)
            whole = number % between == 0
            if number and whole:
                told(f"{number * every:.0f} of {where.watch:g} s")
            seen.append(await look(source, Instant(clock()), scope, exporter_port=where.dcgm_port, whole=whole))
    finally:
        await source.close()
    return watched(seen, scope.nodes, f"{slots + 1} looks {where.watch / slots:g} s apart, {way}")


def _source(where: Where, api: KubernetesApi, found: Survey) -> tuple[DirectSource, str]:
    if where.way is Way.DIRECT or (where.way is Way.AUTO and in_a_pod(where.kubeconfig)):
        return DirectSource(), "at pods' and nodes' own addresses"
    places = {node.address: f"/api/v1/nodes/{name}" for name, node in found.nodes.items() if node.address}
    for exporter in found.exporters.values():
        places[exporter.address] = f"/api/v1/namespaces/{exporter.ref.namespace}/pods/{exporter.ref.name}"
    for pod in found.pods.values():
        if pod.address:
            places[pod.address] = f"/api/v1/namespaces/{pod.ref.namespace}/pods/{pod.ref.name}"
    return ProxiedSource(api.text, places), "by way of the API server"


def _engines(found: Survey) -> tuple[EngineTarget, ...]:
    return tuple(
        EngineTarget(pod.ref, pod.address, pod.port) for pod in found.pods.values() if pod.port and pod.address
    )


def _exporters(found: Survey) -> dict[str, str]:
    """Address by GPU node: its exporter's own, else the node's, where exporters on the host's network answer."""
    return {
        name: found.exporters[name].address if name in found.exporters else found.nodes[name].address
        for name in _gpu_nodes(found)
    }


def _gpu_nodes(found: Survey) -> list[str]:
    return sorted(name for name, node in found.nodes.items() if node.gpus)
