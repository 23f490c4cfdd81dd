"""From dcgm-exporter's and the node agent's samples to GPU readings: the one place that knows labels and duplicates.

MIG instances, copies in turns and a second exporter all repeat the whole GPU's power and energy under one UUID, so one
UUID is one reading. A GPU that several pods hold, or none, has no holder; who holds its parts is told by `shares`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern

from fallow.adapters.metrics.gpu_series import (
    AGENT_METRICS,
    DCGM_METRICS,
    ENERGY,
    ENGINE_ACTIVE,
    GPU_UTIL,
    POWER,
    newest,
)
from fallow.adapters.metrics.gpu_shares import NOTHING, holder_and_shares, told_by_agents
from fallow.adapters.metrics.samples import Sample
from fallow.domain.figures import Missing
from fallow.domain.readings import Activity, ActivitySource, EnergyCounter, GpuReading, PodRef, Power
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds, Watts, from_millijoules

READ_METRICS = DCGM_METRICS
AGENT_NAMES = frozenset(name for spec in AGENT_METRICS for name in spec.names)
READ_NAMES = AGENT_NAMES | {name for spec in READ_METRICS for name in spec.names}

# Two exporters on one node update at different moments: changing between them would make a counter seem to fall.
_EXPORTER_LAG = Seconds(45)
# An agent that has been silent for longer no longer says who holds a GPU: two scrapes of 30 s and some delay.
_AGENT_SILENCE = Seconds(75)


@dataclass(frozen=True, slots=True)
class DcgmLabels:
    """Where labels are found, the preferred first.

    Prometheus renames the workload's labels to `exported_*` where the target's own `pod` names the exporter.
    """

    uuid: tuple[str, ...] = ("UUID", "uuid")
    node: tuple[str, ...] = ("Hostname", "hostname", "node", "kubernetes_node")
    holders: tuple[tuple[str, str], ...] = (
        ("exported_namespace", "exported_pod"),
        ("pod_namespace", "pod_name"),
        ("namespace", "pod"),
    )


@dataclass(frozen=True, slots=True)
class Exporters:
    """What is known of the scraped exporters: node names by address, and the pod a target's own labels name.

    `targets` is keyed by (job, instance); None where the target has no `pod` label of its own.
    """

    node_names: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[tuple[str, str], PodRef | None] = field(default_factory=dict)

    def names(self, pod: PodRef, labels: Mapping[str, str]) -> bool:
        """Whether this pod is the exporter rather than a workload."""
        target = (labels.get("job", ""), labels.get("instance", ""))
        if target in self.targets:
            return self.targets[target] == pod
        return "dcgm-exporter" in pod.name


def read_gpus(
    samples: Iterable[Sample], *, labels: DcgmLabels | None = None, exporters: Exporters | None = None
) -> dict[str, GpuReading]:
    """The readings by UUID; series of the node agent alone, without a meter, are none."""
    names, known = labels or DcgmLabels(), exporters or Exporters()

    def uuid_of(found: Mapping[str, str]) -> str:
        return _first(found, names.uuid)

    def pod_of(found: Mapping[str, str]) -> PodRef | None:
        return _pod(found, names, known)

    # readings of several cycles are kept: names that come anew with every answer are one string each
    by_uuid: defaultdict[str, list[Sample]] = defaultdict(list)
    by_agents: list[Sample] = []
    everything = list(samples)
    latest = max((sample.at for sample in everything), default=0.0)
    for sample in everything:
        if sample.name in AGENT_NAMES:
            if sample.at >= latest - _AGENT_SILENCE:
                by_agents.append(sample)
        elif sample.name in READ_NAMES and (uuid := uuid_of(sample.labels)):
            by_uuid[intern(uuid)].append(sample)
    told = told_by_agents(by_agents, uuid_of, pod_of)
    readings: dict[str, GpuReading] = {}
    for uuid, found in sorted(by_uuid.items()):
        chosen = _one_exporter(found)
        by_agent = told.get(uuid, NOTHING)
        holder, shares = holder_and_shares(chosen, by_agent, pod_of)
        last = max(chosen, key=lambda sample: sample.at)
        readings[uuid] = GpuReading(
            uuid=uuid,
            node=intern(_node(last.labels, names, known)),
            model_name=intern(last.labels.get("modelName", "")),
            power=_power(chosen),
            counter=_counter(chosen),
            activity=_activity(chosen),
            holder=holder,
            shares=shares,
            limit=by_agent.limit,
            clock=by_agent.clock,
        )
    return readings


def _power(samples: Sequence[Sample]) -> Power | Missing:
    sample, value = newest(samples, POWER)
    return value if isinstance(value, Missing) else Power(Watts(value), sample.at)


def _counter(samples: Sequence[Sample]) -> EnergyCounter | Missing:
    sample, value = newest(samples, ENERGY)
    return value if isinstance(value, Missing) else EnergyCounter(from_millijoules(value), sample.at)


def _activity(samples: Sequence[Sample]) -> Activity | Missing:
    sample, ratio = newest(samples, ENGINE_ACTIVE)
    if not isinstance(ratio, Missing):
        return Activity(min(ratio, 1.0), ActivitySource.ENGINE_ACTIVE, sample.at)
    if ratio.reason is not Reason.NO_SERIES:
        return ratio
    sample, percent = newest(samples, GPU_UTIL)
    if not isinstance(percent, Missing):
        return Activity(min(percent / 100, 1.0), ActivitySource.GPU_UTIL, sample.at)
    if percent.reason is not Reason.NO_SERIES:
        return percent
    return Missing(Reason.NO_SERIES, f"neither {ENGINE_ACTIVE.sample} nor {GPU_UTIL.sample} is exported for this GPU")


def _one_exporter(samples: Sequence[Sample]) -> list[Sample]:
    """One exporter's samples: of those that are up to date, always the same one."""
    newest: dict[str, float] = {}
    for sample in samples:
        instance = sample.labels.get("instance", "")
        newest[instance] = max(newest.get(instance, sample.at), sample.at)
    latest = max(newest.values())
    chosen = min(instance for instance, at in newest.items() if at >= latest - _EXPORTER_LAG)
    return [sample for sample in samples if sample.labels.get("instance", "") == chosen]


def _pod(labels: Mapping[str, str], names: DcgmLabels, exporters: Exporters) -> PodRef | None:
    for namespace_label, pod_label in names.holders:
        name = labels.get(pod_label, "")
        if name:
            pod = PodRef(labels.get(namespace_label, ""), name)
            if not exporters.names(pod, labels):
                return pod
    return None


def _node(labels: Mapping[str, str], names: DcgmLabels, exporters: Exporters) -> str:
    """The first label that names a node of the cluster; else the node at the scraped address; else the first label.

    Without NODE_NAME in its environment an exporter prints its own host name, which in a pod is the pod's.
    """
    candidates = [labels[label] for label in names.node if labels.get(label)]
    known = set(exporters.node_names.values())
    at_address = exporters.node_names.get(host_of(labels.get("instance", "")), "")
    return next((name for name in candidates if name in known), "") or at_address or next(iter(candidates), "")


def host_of(instance: str) -> str:
    """The address in `10.0.0.1:9400` or `[fd00::1]:9400`."""
    host, colon, port = instance.rpartition(":")
    return (host if colon and port.isdigit() else instance).strip("[]")


def _first(labels: Mapping[str, str], candidates: Iterable[str]) -> str:
    return next((labels[label] for label in candidates if labels.get(label)), "")
