"""The node agent's metrics page: GPUs under dcgm-exporter's names, who holds them, and each pod's share of their time.

Where dcgm-exporter runs as well, it serves the meters, and the agent only adds what dcgm-exporter does not know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fallow.adapters.node.clocks import Clock
from fallow.adapters.node.nvml import Device, GpuMeter, LimitBounds, NvmlUnavailable
from fallow.adapters.node.podresources import Held, KubeletUnavailable
from fallow.domain.readings import PodRef

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NodeSources:
    """What the agent reads. `held` raises KubeletUnavailable; `pods_of` finds the pods of processes.

    `limits` are power limits and `clocks` SM clocks that the agent may set, None where it may not.
    """

    gpus: GpuMeter
    held: Callable[[], tuple[Held, ...]]
    pods_of: Callable[[Iterable[int]], Mapping[int, PodRef]]
    limits: Callable[[], Mapping[str, LimitBounds]] | None = None
    clocks: Callable[[], Mapping[str, Clock]] | None = None


class NodeCollector(Collector):
    """Reads at each scrape. `meters`: serve power, energy and utilisation too, for a node without dcgm-exporter."""

    def __init__(self, sources: NodeSources, node: str, *, meters: bool) -> None:
        self._sources = sources
        self._node = node
        self._meters = meters
        self._told: dict[str, str] = {}

    def collect(self) -> Iterable[Metric]:
        devices = self._asked("nvml", self._sources.gpus.devices)
        held = self._asked("kubelet", self._sources.held)
        up = GaugeMetricFamily("fallow_agent_up", "1 while the source answers.", labels=("source",))
        up.add_metric(("nvml",), float(devices is not None))
        up.add_metric(("kubelet",), float(held is not None))
        yield up
        if devices is not None:
            if self._meters:
                yield from self._metered(devices)
            yield self._shares(devices, held or ())
        if held is not None:
            yield _holders(held, devices or ())
        if self._sources.limits is not None:
            yield _bounded(
                "fallow_agent_power_limit_watts",
                "Power limit of the GPU: as it is (now), and the lowest and highest that the agent may set.",
                self._asked("limits", self._sources.limits) or {},
            )
        if self._sources.clocks is not None:
            yield _bounded(
                "fallow_agent_sm_clock_hertz",
                "Most that the GPU's SM clock may be: as it is (now), and the lowest and highest that the agent may "
                "set.",
                self._sources.clocks(),
            )

    def _metered(self, devices: tuple[Device, ...]) -> Iterator[Metric]:
        labels = ("gpu", "UUID", "device", "modelName", "Hostname")
        power = GaugeMetricFamily("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", labels=labels)
        # a counter, under the name that dcgm-exporter gives it: the client would add _total to a counter family
        energy = Metric(
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ).", "unknown"
        )
        used = GaugeMetricFamily("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", labels=labels)
        for device in devices:
            values = (str(device.index), device.uuid, f"nvidia{device.index}", device.model, self._node)
            if device.power is not None:
                power.add_metric(values, device.power.value)
            if device.energy is not None:
                energy.add_sample(energy.name, dict(zip(labels, values, strict=True)), device.energy.value * 1e3)
            if device.utilization is not None:
                used.add_metric(values, device.utilization * 100)
        yield from (power, energy, used)

    def _shares(self, devices: tuple[Device, ...], held: tuple[Held, ...]) -> Metric:
        """Whoever holds the GPU and ran nothing has a share of 0; a GPU that does not tell its processes has none."""
        family = GaugeMetricFamily(
            "fallow_agent_process_sm_utilization_ratio",
            "Share of the GPU's time that the pod's processes ran on its multiprocessors, 0 to 1.",
            labels=("UUID", "namespace", "pod"),
        )
        running = {process.pid for device in devices for process in device.processes or ()}
        pods = self._sources.pods_of(running)
        for device in devices:
            if device.processes is None:
                continue
            shares = {one.pod: 0.0 for one in held if one.device == device.uuid}
            for process in device.processes:
                pod = pods.get(process.pid)
                if pod is not None:
                    shares[pod] = shares.get(pod, 0.0) + process.sm
            for pod, share in sorted(shares.items()):
                family.add_metric((device.uuid, pod.namespace, pod.name), min(share, 1.0))
        return family

    def _asked(self, source: str, question: Callable[[], T]) -> T | None:
        """The answer, or None; trouble is logged once, not at every scrape."""
        try:
            answer = question()
        except (NvmlUnavailable, KubeletUnavailable) as error:
            if self._told.get(source) != str(error):
                log.warning("%s", error)
            self._told[source] = str(error)
            return None
        self._told.pop(source, None)
        return answer


def _holders(held: tuple[Held, ...], devices: tuple[Device, ...]) -> Metric:
    """A MIG instance is told as the GPU it is on and its number there, as dcgm-exporter does."""
    family = GaugeMetricFamily(
        "fallow_agent_gpu_holder",
        "1 for each container that holds the GPU, a copy of it, or a MIG instance of it (GPU_I_ID).",
        labels=("UUID", "GPU_I_ID", "namespace", "pod", "container"),
    )
    instances = {uuid: (device.uuid, str(number)) for device in devices for uuid, number in device.instances.items()}
    for one in sorted(set(held), key=lambda one: (one.device, one.pod, one.container)):
        uuid, number = instances.get(one.device, (one.device, ""))
        family.add_metric((uuid, number, one.pod.namespace, one.pod.name, one.container), 1)
    return family


def _bounded(name: str, told: str, found: Mapping[str, LimitBounds] | Mapping[str, Clock]) -> Metric:
    """By UUID: as it is now, and between what it can be set."""
    family = GaugeMetricFamily(name, told, labels=("UUID", "kind"))
    for uuid in sorted(found):
        one = found[uuid]
        for kind, value in (("now", one.now), ("lowest", one.lowest), ("highest", one.highest)):
            family.add_metric((uuid, kind), value.value)
    return family
