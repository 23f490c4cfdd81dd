"""The /metrics answer of dcgm-exporter for one simulated node, line by line as the real one writes it.

A divided GPU has several rows: one an instance under MIG, one a pod under --kubernetes-virtual-gpus; in all of them
power and energy are those of the whole board.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from math import nan

from fallow.domain.readings import PodRef
from fallow.twin.exposition import escaped
from fallow.twin.gpu import XID_MESSAGES, GpuDevice, GpuSample, Place, PlaceSample
from fallow.twin.physics.constants import GpuSpec
from fallow.twin.pods import ExporterFacts

DRIVER_VERSION = "580.126.09"
MIB = 2**20
ENERGY_FIELDS = frozenset({"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"})


@dataclass(frozen=True, slots=True)
class Row:
    """A GPU or a MIG instance, and the pod that the exporter names for it."""

    gpu: GpuDevice
    instance: Place | None = None
    holder: PodRef | None = None
    container: str = ""
    copy: str = ""

    @property
    def part(self) -> GpuSample | PlaceSample:
        return self.gpu.sample if self.instance is None else self.instance.sample

    @property
    def spec(self) -> GpuSpec:
        return self.gpu.spec if self.instance is None else self.instance.spec


@dataclass(frozen=True, slots=True)
class Field:
    """One DCGM field. Integers print plain, doubles with six decimals; both as NaN when the fault asks for it.

    `of_instances` is false for what DCGM does not know of a MIG instance, nor of the GPU around it.
    """

    name: str
    kind: str
    explanation: str
    read: Callable[[Row], float]
    whole: bool = True
    more: Callable[[Row], tuple[tuple[str, str], ...]] = lambda _: ()
    of_instances: bool = True


FIELDS: tuple[Field, ...] = (
    Field("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", lambda row: row.gpu.sample.sm_clock),
    Field("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", lambda row: row.gpu.spec.memory_clock),
    Field("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", lambda row: row.gpu.sample.temperature),
    Field("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", lambda row: row.gpu.sample.watts, whole=False),
    Field(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
        lambda row: row.gpu.sample.counter_joules * 1000.0,
    ),
    Field(
        "DCGM_FI_DEV_GPU_UTIL",
        "gauge",
        "GPU utilization (in %).",
        lambda row: row.gpu.sample.busy_share * 100.0,
        of_instances=False,
    ),
    Field(
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "gauge",
        "Memory utilization (in %).",
        lambda row: row.gpu.sample.dram_active * 100.0,
        of_instances=False,
    ),
    Field(
        "DCGM_FI_DEV_XID_ERRORS",
        "gauge",
        "Value of the last XID error encountered.",
        lambda row: row.gpu.xid,
        more=lambda row: (("err_code", str(row.gpu.xid)), ("err_msg", XID_MESSAGES[row.gpu.xid])),
    ),
    Field(
        "DCGM_FI_DEV_FB_FREE",
        "gauge",
        "Framebuffer memory free (in MiB).",
        lambda row: (row.spec.memory - row.part.used_bytes) / MIB,
    ),
    Field("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", lambda row: row.part.used_bytes / MIB),
    Field(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "gauge",
        "Ratio of time the graphics engine is active.",
        lambda row: row.part.busy_share,
        whole=False,
    ),
    Field(
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "gauge",
        "Ratio of cycles the tensor (HMMA) pipe is active.",
        lambda row: row.part.tensor_active,
        whole=False,
    ),
    Field(
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "gauge",
        "Ratio of cycles the device memory interface is active sending or receiving data.",
        lambda row: row.part.dram_active,
        whole=False,
    ),
)
PROFILING_FIELDS = frozenset(field.name for field in FIELDS if field.name.startswith("DCGM_FI_PROF_"))


def dcgm_metrics(
    gpus: Iterable[GpuDevice],
    *,
    hostname_label: str = "Hostname",
    exporter: ExporterFacts | None = None,
    broken: bool = False,
    pod_labels: bool = True,
    without: Collection[str] = (),
) -> str:
    """`hostname_label` is Hostname up to exporter 4.8.2 and hostname after it. `broken` writes NaN everywhere."""
    facts = exporter or ExporterFacts()
    rows = [
        (row, _device(row, hostname_label), _workload(row) if pod_labels else ())
        for gpu in gpus
        for row in _rows(gpu, facts, pod_labels=pod_labels)
    ]
    lines: list[str] = []
    for field in FIELDS:
        known = [entry for entry in rows if field.of_instances or entry[0].instance is None]
        if field.name in without or not known:
            continue
        lines.append(f"# HELP {field.name} {field.explanation}\n# TYPE {field.name} {field.kind}\n")
        for row, device, workload in known:
            attributes = "".join(f",{text}" for text in _texts(sorted((*field.more(row), *workload))))
            lines.append(f"{field.name}{{{device}{attributes}}} {_number(nan if broken else field.read(row), field)}\n")
    return "".join(lines)


def _rows(gpu: GpuDevice, exporter: ExporterFacts, *, pod_labels: bool) -> Iterator[Row]:
    seen = [place for place in gpu.places if place.holder is not None and exporter.sees(place.resource)]
    if gpu.mig:
        for place in gpu.places:
            yield Row(gpu, place, place.holder if place in seen else None, place.container)
    elif gpu.in_turns and exporter.virtual_gpus and pod_labels and seen:
        for place in seen:
            yield Row(gpu, None, place.holder, place.container, str(place.number))
    else:
        # The mapping of the exporter has room for one pod a device: the last in the kubelet's list stays.
        last = max(seen, key=lambda place: str(place.holder), default=None)
        yield Row(gpu) if last is None else Row(gpu, None, last.holder, last.container)


def _number(value: float, field: Field) -> str:
    if value != value:  # noqa: PLR0124 -- the one number that differs from itself
        return "NaN"
    return str(int(value)) if field.whole else f"{value:.6f}"


def _device(row: Row, hostname_label: str) -> str:
    gpu = row.gpu
    labels = [
        ("gpu", str(gpu.index)),
        ("UUID", gpu.uuid),
        ("pci_bus_id", gpu.pci_bus_id),
        ("device", f"nvidia{gpu.index}"),
        ("modelName", gpu.spec.model_name),
    ]
    if row.instance is not None and row.instance.profile is not None:
        labels += [("GPU_I_PROFILE", row.instance.profile.name), ("GPU_I_ID", str(row.instance.number))]
    labels += [(hostname_label, gpu.node), ("DCGM_FI_DRIVER_VERSION", DRIVER_VERSION)]
    return ",".join(_texts(labels))


def _workload(row: Row) -> tuple[tuple[str, str], ...]:
    if row.holder is None:
        return ()
    named = (("container", row.container), ("namespace", row.holder.namespace), ("pod", row.holder.name))
    return (*named, ("vgpu", row.copy)) if row.copy else named


def _texts(labels: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (f'{name}="{escaped(value)}"' for name, value in labels)
