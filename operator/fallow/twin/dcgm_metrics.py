"""The /metrics answer of dcgm-exporter for one simulated node, line by line as the real one writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import nan

from fallow.domain.readings import PodRef
from fallow.twin.exposition import escaped
from fallow.twin.gpu import GpuDevice

DRIVER_VERSION = "570.124.06"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Field:
    """One DCGM field. Integers print plain, doubles with six decimals; both as NaN when the fault asks for it."""

    name: str
    kind: str
    explanation: str
    read: Callable[[GpuDevice], float]
    whole: bool = True
    extra: tuple[tuple[str, str], ...] = ()


FIELDS: tuple[Field, ...] = (
    Field("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", lambda gpu: gpu.sample.sm_clock),
    Field("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", lambda gpu: gpu.spec.memory_clock),
    Field("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", lambda gpu: gpu.sample.temperature),
    Field("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", lambda gpu: gpu.sample.watts, whole=False),
    Field(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
        lambda gpu: gpu.sample.counter_joules * 1000.0,
    ),
    Field("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", lambda gpu: gpu.sample.busy_share * 100.0),
    Field("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %).", lambda g: g.sample.dram_active * 100.0),
    Field(
        "DCGM_FI_DEV_XID_ERRORS",
        "gauge",
        "Value of the last XID error encountered.",
        lambda _: 0,
        extra=(("err_code", "0"), ("err_msg", "No Error")),
    ),
    Field(
        "DCGM_FI_DEV_FB_FREE",
        "gauge",
        "Framebuffer memory free (in MiB).",
        lambda gpu: (gpu.spec.memory - gpu.sample.used_bytes) / MIB,
    ),
    Field("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", lambda gpu: gpu.sample.used_bytes / MIB),
    Field(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "gauge",
        "Ratio of time the graphics engine is active.",
        lambda gpu: gpu.sample.busy_share,
        whole=False,
    ),
    Field(
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "gauge",
        "Ratio of cycles the tensor (HMMA) pipe is active.",
        lambda gpu: gpu.sample.tensor_active,
        whole=False,
    ),
    Field(
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "gauge",
        "Ratio of cycles the device memory interface is active sending or receiving data.",
        lambda gpu: gpu.sample.dram_active,
        whole=False,
    ),
)


def dcgm_metrics(
    gpus: Iterable[GpuDevice], *, hostname_label: str = "Hostname", broken: bool = False, pod_labels: bool = True
) -> str:
    """`hostname_label` is Hostname up to exporter 4.8.2 and hostname after it. `broken` writes NaN everywhere."""
    devices = tuple(gpus)
    lines: list[str] = []
    for field in FIELDS:
        lines.append(f"# HELP {field.name} {field.explanation}\n# TYPE {field.name} {field.kind}\n")
        for gpu in devices:
            labels = _labels(gpu, hostname_label, field.extra, pod_labels=pod_labels)
            lines.append(f"{field.name}{{{labels}}} {_number(nan if broken else field.read(gpu), field)}\n")
    return "".join(lines)


def _number(value: float, field: Field) -> str:
    if value != value:  # noqa: PLR0124 -- the one number that differs from itself
        return "NaN"
    return str(int(value)) if field.whole else f"{value:.6f}"


def _labels(gpu: GpuDevice, hostname_label: str, extra: tuple[tuple[str, str], ...], *, pod_labels: bool) -> str:
    device = [
        ("gpu", str(gpu.index)),
        ("UUID", gpu.uuid),
        ("pci_bus_id", gpu.pci_bus_id),
        ("device", f"nvidia{gpu.index}"),
        ("modelName", gpu.spec.model_name),
        (hostname_label, gpu.node),
        ("DCGM_FI_DRIVER_VERSION", DRIVER_VERSION),
    ]
    holder: PodRef | None = gpu.holder if pod_labels else None
    workload = list(extra)
    if holder is not None:
        workload += [("container", gpu.container), ("namespace", holder.namespace), ("pod", holder.name)]
    return ",".join(f'{name}="{escaped(value)}"' for name, value in (*device, *sorted(workload)))
