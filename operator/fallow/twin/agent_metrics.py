"""The page of Fallow's node agent beside a dcgm-exporter: who holds a GPU, and each pod's share of its time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from fallow.domain.readings import PodRef
from fallow.twin.exposition import Labels, Page, labelled
from fallow.twin.gpu import GpuDevice


def agent_metrics(gpus: Iterable[GpuDevice]) -> str:
    """NVML gives no utilisation by process under MIG, and none for a process that ran no kernel."""
    devices = tuple(gpus)
    page = Page(0.0)
    page.gauge(
        "fallow_agent_up",
        "1 while the source answers.",
        [((("source", source),), 1.0) for source in ("nvml", "kubelet")],
    )
    shares = [
        (labelled((("UUID", gpu.uuid),), namespace=pod.namespace, pod=pod.name), min(share, 1.0))
        for gpu in devices
        if not gpu.mig
        for pod, share in sorted(_shares(gpu).items())
    ]
    page.gauge(
        "fallow_agent_process_sm_utilization_ratio",
        "Share of the GPU's time that the pod's processes ran on its multiprocessors, 0 to 1.",
        shares,
    )
    page.gauge(
        "fallow_agent_gpu_holder",
        "1 for each container that holds the GPU, a copy of it, or a MIG instance of it (GPU_I_ID).",
        [(labels, 1.0) for gpu in devices for labels in _holders(gpu)],
    )
    return page.text()


def _shares(gpu: GpuDevice) -> dict[PodRef, float]:
    shares: defaultdict[PodRef, float] = defaultdict(float)
    for place in gpu.places:
        if place.holder is not None and place.sample.busy_share > 0:
            shares[place.holder] += place.sample.busy_share
    return shares


def _holders(gpu: GpuDevice) -> list[Labels]:
    held = {
        labelled(
            (("UUID", gpu.uuid),),
            GPU_I_ID="" if place.profile is None else str(place.number),
            namespace=place.holder.namespace,
            pod=place.holder.name,
            container=place.container,
        )
        for place in gpu.places
        if place.holder is not None
    }
    return sorted(held)
