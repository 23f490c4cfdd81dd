"""What an audit could not see, and what to do about each: a blind spot that is told is no false verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fallow.domain.readings import ActivitySource
from fallow.domain.reasons import Reason
from fallow.domain.windows import EnergyMethod, Survey, Window
from fallow.footprint.audit.holders import hidden_holders
from fallow.footprint.audit.rows import Row
from fallow.footprint.hardware import UNKNOWN, hardware_of

# a GPU seen for less of the window than this is told
COVERED = 0.9
_COUNT = "nvidia.com/gpu.count"
_REMEDIES = {
    Reason.SOURCE_UNREACHABLE: "let it be reached, or read through Prometheus: --prometheus-url",
    Reason.BAD_ANSWER: "check address and rights",
    Reason.NO_SERIES: "let what is missing be exported and scraped",
}


@dataclass(frozen=True, slots=True)
class Unseen:
    """`where` names nodes, pods or GPUs; empty where it concerns the whole audit."""

    what: str
    where: tuple[str, ...]
    to_do: str


def unseen(window: Window, survey: Survey, rows: Sequence[Row]) -> tuple[Unseen, ...]:
    told = [
        *_faults(window, survey),
        *_nodes(window, survey),
        *_engines(window, survey),
        *_names(window, survey),
        *_coverage(window),
        *_meters(rows),
    ]
    return tuple(told)


def _faults(window: Window, survey: Survey) -> Iterable[Unseen]:
    for fault in dict.fromkeys((*window.faults, *survey.faults)):
        yield Unseen(fault.detail or str(fault.reason), (), _REMEDIES.get(fault.reason, str(fault.reason)))


def _nodes(window: Window, survey: Survey) -> Iterable[Unseen]:
    seen: dict[str, int] = {}
    for gpu in window.gpus:
        seen[gpu.node] = seen.get(gpu.node, 0) + 1
    dark = sorted(name for name, node in survey.nodes.items() if node.gpus and not seen.get(name))
    if dark:
        yield Unseen(
            f"{len(dark)} GPU node{_s(dark)} without any DCGM series",
            tuple(dark),
            "run dcgm-exporter there and let it be scraped",
        )
    partly = sorted(
        name
        for name, node in survey.nodes.items()
        if node.labels.get(_COUNT, "").isdigit() and 0 < seen.get(name, 0) < int(node.labels[_COUNT])
    )
    if partly:
        yield Unseen(
            f"{len(partly)} node{_s(partly)} of which some GPUs have no series", tuple(partly), "restart dcgm-exporter"
        )
    foreign = sorted({gpu.node for gpu in window.gpus} - set(survey.nodes)) if survey.nodes else []
    if foreign:
        yield Unseen(
            f"GPUs of {len(foreign)} node{_s(foreign)} that this cluster does not know",
            tuple(foreign),
            "where one Prometheus serves several clusters, narrow it: --matcher cluster=NAME",
        )


def _engines(window: Window, survey: Survey) -> Iterable[Unseen]:
    silent = sorted(
        str(pod.ref)
        for pod in survey.pods.values()
        if pod.is_engine and pod.node and pod.started < window.end and pod.ref not in window.engines
    )
    if silent:
        yield Unseen(
            f"{len(silent)} vLLM pod{_s(silent)} without engine metrics: judged by activity and watts alone",
            tuple(silent),
            "scrape their /metrics (PodMonitor) with the labels namespace and pod; no --disable-log-stats",
        )


def _names(window: Window, survey: Survey) -> Iterable[Unseen]:
    hidden = hidden_holders(window, survey)
    for open_, what in (
        (True, "whose exporter does not say which pod holds which GPU"),
        (False, "whose exporter names no pods: Kubernetes' word was taken"),
    ):
        nodes = sorted(node for node, found in hidden.items() if (found.must is None) is open_)
        if nodes:
            yield Unseen(
                f"{len(nodes)} node{_s(nodes)} {what}",
                tuple(nodes),
                "set DCGM_EXPORTER_KUBERNETES=true; for shared GPUs KUBERNETES_VIRTUAL_GPUS=true",
            )


def _coverage(window: Window) -> Iterable[Unseen]:
    lengths = [(gpu, sum(slot.seconds for slot in gpu.slots.values() if slot.tenures)) for gpu in window.gpus]
    short = [(gpu, seen) for gpu, seen in lengths if seen < COVERED * window.seconds]
    if short:
        seen = sum(seen for _, seen in short) / len(short) / window.seconds
        names = tuple(sorted(f"{gpu.node}/{gpu.index or gpu.uuid}" for gpu, _ in short))
        yield Unseen(
            f"{len(short)} GPU{_s(short)} seen for {seen:.0%} of the window on average",
            names,
            "a shorter --window, or longer retention; new nodes are always short",
        )


def _meters(rows: Sequence[Row]) -> Iterable[Unseen]:
    without = sorted({_name(row) for row in rows if EnergyMethod.POWER in row.tally.methods})
    if without:
        yield Unseen(
            f"{len(without)} GPU{_s(without)} with energy from power samples (±35 %) for want of a whole counter",
            tuple(without),
            "export DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        )
    coarse = sorted({_name(row) for row in rows if row.tally.activity_source is ActivitySource.GPU_UTIL})
    if coarse:
        yield Unseen(
            f"{len(coarse)} GPU{_s(coarse)} with utilisation only: it tells that some kernel ran, not what it did",
            tuple(coarse),
            "export DCGM_FI_PROF_GR_ENGINE_ACTIVE, PIPE_TENSOR_ACTIVE and DRAM_ACTIVE",
        )
    strange = sorted({row.product or "without a name" for row in rows if hardware_of(row.product) is UNKNOWN})
    if strange:
        yield Unseen(
            "GPUs whose watts at rest are not known: idle ones may be taken for working ones",
            tuple(strange),
            "tell us its watts without and with a loaded engine",
        )


def _name(row: Row) -> str:
    return f"{row.gpu.node}/{row.gpu.index or row.gpu.uuid}"


def _s(things: Sequence[object]) -> str:
    return "" if len(things) == 1 else "s"
