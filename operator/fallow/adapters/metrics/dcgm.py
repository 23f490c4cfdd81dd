"""From dcgm-exporter's samples to GPU readings: the one place that knows its names, labels and duplicates.

MIG instances, time-sliced copies and a second exporter all repeat the whole GPU's power and energy under one UUID, so
one UUID is one reading. A GPU that several pods hold, or none, has no holder.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fallow.adapters.metrics.samples import MetricSpec, Sample, checked
from fallow.domain.figures import Missing
from fallow.domain.readings import Activity, ActivitySource, EnergyCounter, GpuReading, PodRef, Power
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds, Watts, from_millijoules

_GPU = frozenset({"gpu", "UUID", "modelName"})

POWER = MetricSpec("DCGM_FI_DEV_POWER_USAGE", "gauge", _GPU)
ENERGY = MetricSpec("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", _GPU)
ENGINE_ACTIVE = MetricSpec(ActivitySource.ENGINE_ACTIVE.value, "gauge", _GPU)
GPU_UTIL = MetricSpec(ActivitySource.GPU_UTIL.value, "gauge", _GPU)

READ_METRICS = (POWER, ENERGY, ENGINE_ACTIVE, GPU_UTIL)
READ_NAMES = frozenset(name for spec in READ_METRICS for name in spec.names)

# DCGM's "blank" values (dcgm_structs.h), printed by very old exporters for what the GPU does not report.
_BLANK_DOUBLE = 140737488355328.0
_BLANK_INT64 = 9223372036854775792.0
_BLANKS = {POWER: _BLANK_DOUBLE, ENERGY: _BLANK_INT64, ENGINE_ACTIVE: _BLANK_DOUBLE, GPU_UTIL: 2147483632.0}
# A ratio may exceed 1 by its rounding; more than that is no ratio.
_HIGHEST = {POWER: math.inf, ENERGY: math.inf, ENGINE_ACTIVE: 1.01, GPU_UTIL: 101.0}

# Two exporters on one node update at different moments: changing between them would make a counter seem to fall.
_EXPORTER_LAG = Seconds(45)


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
    names, known = labels or DcgmLabels(), exporters or Exporters()
    by_uuid: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        uuid = _first(sample.labels, names.uuid)
        if sample.name in READ_NAMES and uuid:
            by_uuid[uuid].append(sample)
    return {uuid: _read_gpu(uuid, _one_exporter(found), names, known) for uuid, found in sorted(by_uuid.items())}


def _read_gpu(uuid: str, samples: Sequence[Sample], names: DcgmLabels, exporters: Exporters) -> GpuReading:
    newest = max(samples, key=lambda sample: sample.at)
    return GpuReading(
        uuid=uuid,
        node=_node(newest.labels, names, exporters),
        model_name=newest.labels.get("modelName", ""),
        power=_power(samples),
        counter=_counter(samples),
        activity=_activity(samples),
        holder=_holder([sample for sample in samples if sample.at == newest.at], names, exporters),
    )


def _power(samples: Sequence[Sample]) -> Power | Missing:
    sample, value = _newest(samples, POWER)
    return value if isinstance(value, Missing) else Power(Watts(value), sample.at)


def _counter(samples: Sequence[Sample]) -> EnergyCounter | Missing:
    sample, value = _newest(samples, ENERGY)
    return value if isinstance(value, Missing) else EnergyCounter(from_millijoules(value), sample.at)


def _activity(samples: Sequence[Sample]) -> Activity | Missing:
    sample, ratio = _newest(samples, ENGINE_ACTIVE)
    if not isinstance(ratio, Missing):
        return Activity(min(ratio, 1.0), ActivitySource.ENGINE_ACTIVE, sample.at)
    if ratio.reason is not Reason.NO_SERIES:
        return ratio
    sample, percent = _newest(samples, GPU_UTIL)
    if not isinstance(percent, Missing):
        return Activity(min(percent / 100, 1.0), ActivitySource.GPU_UTIL, sample.at)
    if percent.reason is not Reason.NO_SERIES:
        return percent
    return Missing(Reason.NO_SERIES, f"neither {ENGINE_ACTIVE.sample} nor {GPU_UTIL.sample} is exported for this GPU")


def _newest(samples: Sequence[Sample], spec: MetricSpec) -> tuple[Sample, float | Missing]:
    """The highest of the copies in the newest scrape; the sample is meaningless where the value is Missing."""
    named = [sample for sample in samples if sample.name == spec.sample]
    if not named:
        return samples[0], Missing(Reason.NO_SERIES, f"{spec.sample} is not exported for this GPU")
    at = max(sample.at for sample in named)
    copies = [sample for sample in named if sample.at == at]
    best: tuple[Sample, float] | None = None
    fault: Missing | None = None
    for sample in copies:
        value = _value(sample, spec)
        if isinstance(value, Missing):
            fault = fault or value
        elif best is None or value > best[1]:
            best = (sample, value)
    if fault is not None or best is None:
        return copies[0], fault or Missing(Reason.NO_SERIES, f"{spec.sample} has no sample")
    return best


def _value(sample: Sample, spec: MetricSpec) -> float | Missing:
    if math.isfinite(sample.value) and sample.value >= _BLANKS[spec]:
        return Missing(Reason.NOT_A_NUMBER, f"{sample.name} is DCGM's blank value: the GPU does not report it")
    return checked(sample, highest=_HIGHEST[spec])


def _one_exporter(samples: Sequence[Sample]) -> list[Sample]:
    """One exporter's samples: of those that are up to date, always the same one."""
    newest: dict[str, float] = {}
    for sample in samples:
        instance = sample.labels.get("instance", "")
        newest[instance] = max(newest.get(instance, sample.at), sample.at)
    latest = max(newest.values())
    chosen = min(instance for instance, at in newest.items() if at >= latest - _EXPORTER_LAG)
    return [sample for sample in samples if sample.labels.get("instance", "") == chosen]


def _holder(copies: Sequence[Sample], names: DcgmLabels, exporters: Exporters) -> PodRef | None:
    """The one pod that every MIG instance names; for a whole GPU, the one pod that any copy names."""
    pods = {_pod(sample.labels, names, exporters) for sample in copies}
    if not any("GPU_I_ID" in sample.labels for sample in copies):
        pods.discard(None)
    return pods.pop() if len(pods) == 1 else None


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
