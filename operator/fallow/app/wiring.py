"""Puts the operator together: one dict per port from name to factory, nothing registers itself."""

import logging
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes.aio import client, config

from fallow.adapters.carbon import series
from fallow.adapters.carbon.prometheus import PrometheusPue
from fallow.adapters.carbon.router import CarbonRouter, PueRouter
from fallow.adapters.carbon.series import PrometheusSeries
from fallow.adapters.carbon.sources import CADENCES, NO_PROMETHEUS, carbon_sources
from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.following import Following
from fallow.adapters.cluster.kubernetes import KubernetesCluster
from fallow.adapters.cluster.lease import KubernetesLease
from fallow.adapters.cluster.ledger_store import ConfigMapLedgerStore
from fallow.adapters.cluster.mirror import SCALED_OBJECTS, Mirror
from fallow.adapters.cluster.resync import Resync
from fallow.adapters.cluster.survey import SCALED_OBJECTS as SCALED_OBJECTS_PATH
from fallow.adapters.metrics.direct import DirectSource
from fallow.adapters.metrics.prometheus import PrometheusSource
from fallow.adapters.metrics.prometheus_api import Access
from fallow.adapters.metrics.queues import DirectQueues
from fallow.adapters.reports.decision_log import LogReporter
from fallow.adapters.reports.events import EventReporter
from fallow.adapters.reports.metrics import MetricsReporter
from fallow.adapters.reports.status import StatusReporter
from fallow.api.mapping import ANNOTATIONS
from fallow.app.bookkeeping import Bookkeeper
from fallow.app.catching_up import CatchUp
from fallow.app.cycle import Cycle, Sources
from fallow.app.leadership import Alone, Elected, Leader
from fallow.app.loop import Loop, Reign
from fallow.app.pulse import Pulse, WithQueues
from fallow.app.settings import Settings
from fallow.domain.units import Seconds
from fallow.ports import MetricSource

log = logging.getLogger(__name__)

# Seconds until KEDA is noticed that was not installed before; an HPA that it makes is noticed at once.
LONGEST_ABSENCE = 60.0


@dataclass(slots=True)
class Operator:
    """Everything that lives as long as the process. `declared` remembers the generation last seen of each object."""

    settings: Settings
    mirror: Mirror
    scaled_objects: Following
    loop: Loop
    metrics: MetricSource
    pulse: Pulse
    zones: tuple[CarbonRouter, PueRouter]
    api_client: client.ApiClient
    reported: MetricsReporter
    declared: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = field(default_factory=dict)

    def declared_anew(self, plural: str, body: Mapping[str, Any]) -> bool:
        """Whether an object of ours changed in a way that the cycle should look at soon; own status writes do not."""
        metadata = body.get("metadata", {})
        key = (plural, str(metadata.get("uid", "")))
        annotations = metadata.get("annotations") or {}
        said = tuple(str(annotations.get(name, "")) for name in ANNOTATIONS)
        now = (int(metadata.get("generation", 0)), said)
        if metadata.get("deletionTimestamp"):
            self.declared.pop(key, None)
            return True
        changed = self.declared.get(key) != now
        self.declared[key] = now
        return changed

    async def close(self) -> None:
        await self.loop.close()
        await self.metrics.close()
        await self.pulse.close()
        for source in self.zones:
            await source.close()
        await self.api_client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped


async def connect(settings: Settings) -> client.ApiClient:
    """A client by kubeconfig where one is named, else by the pod's ServiceAccount."""
    configuration = client.Configuration()
    if settings.kubeconfig is not None:
        path = str(settings.kubeconfig)
        await config.load_kube_config(config_file=path, client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return client.ApiClient(configuration)


def prometheus_access(settings: Settings) -> Access:
    return Access(
        headers=settings.prometheus_headers,
        token_file=settings.prometheus_token_file,
        ca_file=settings.prometheus_ca_file,
    )


def metric_source(settings: Settings) -> MetricSource:
    if settings.prometheus_url:
        return PrometheusSource(
            settings.prometheus_url,
            timeout=Seconds(settings.prometheus_timeout),
            window=Seconds(settings.prometheus_window),
            access=prometheus_access(settings),
            matchers=settings.prometheus_matchers,
        )
    return DirectSource(
        exporter_port=settings.dcgm_port, agent_port=settings.agent_port or None, gateways=settings.gateways
    )


def zone_sources(settings: Settings, api_client: client.ApiClient) -> tuple[CarbonRouter, PueRouter]:
    """What GridZones read their carbon intensity and their measured PUE from."""
    prometheus = None
    if settings.prometheus_url:
        access = series.Access(settings.prometheus_headers, settings.prometheus_token_file, settings.prometheus_ca_file)
        prometheus = PrometheusSeries(settings.prometheus_url, access=access)
    sources = carbon_sources(
        prometheus,
        api_client,
        credentials=settings.credentials_dir,
        files=settings.intensity_dir,
        urls=settings.carbon_urls,
    )
    pue = PrometheusPue(prometheus) if prometheus else NO_PROMETHEUS
    return CarbonRouter(sources, cadences=CADENCES), PueRouter(pue)


def leadership(settings: Settings, api_client: client.ApiClient) -> Leader:
    """By a Lease where further replicas may stand by; its renewals are the only writes of a replica at rest."""
    if not settings.leader_election:
        return Alone()
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    return Elected(KubernetesLease(KubernetesApi(api_client), settings.namespace), identity)


async def build(settings: Settings) -> Operator:
    """Wire the operator; nothing is contacted yet."""
    api_client = await connect(settings)
    leader = leadership(settings, api_client)
    api = KubernetesApi(api_client, may_write=lambda: leader.leads)
    mirror = Mirror()
    metrics = metric_source(settings)
    carbon, pue = zone_sources(settings, api_client)
    reported = MetricsReporter(leads=lambda: leader.leads)

    def begin() -> Reign:
        """All that remembers anything is made anew; what it needs to know is in the statuses and in the ledger."""
        reported.forget()
        store = ConfigMapLedgerStore(
            api_client,
            settings.namespace,
            part_bytes=settings.ledger_part_bytes,
            may_write=lambda: leader.leads,
        )
        catch_up = CatchUp(metrics, Seconds(max(settings.prometheus_window, 4 * settings.cycle_interval)))
        bookkeeper = Bookkeeper(store, Seconds(settings.ledger_interval), catch_up)
        cycle = Cycle(
            Sources(
                cluster=KubernetesCluster(api, mirror, namespace=settings.namespace, dry_run=settings.dry_run),
                metrics=WithQueues(metrics, pulse),
                carbon=carbon,
                pue=pue,
            ),
            bookkeeper,
            (
                reported,
                LogReporter(),
                EventReporter(api),
                StatusReporter(api, mirror, refresh=Seconds(settings.status_interval)),
                pulse,
            ),
            window=Seconds(settings.estimation_window),
            writes=settings.max_concurrent_writes,
        )
        return Reign(cycle, bookkeeper)

    loop = Loop(begin, Resync(api, mirror, settings.resync_interval), leader, interval=settings.cycle_interval)
    pulse = Pulse(
        DirectQueues(settings.gateways),
        mirror.view,
        loop.hurry,
        interval=settings.pulse_interval,
        leads=lambda: leader.leads,
    )
    absence = min(settings.resync_interval, LONGEST_ABSENCE)
    scaled_objects = Following(api, mirror, SCALED_OBJECTS, SCALED_OBJECTS_PATH, absence=absence)
    return Operator(settings, mirror, scaled_objects, loop, metrics, pulse, (carbon, pue), api_client, reported)
