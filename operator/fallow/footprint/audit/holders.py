"""Who holds a GPU that the meter names nobody for: nobody, the one who must, or somebody who cannot be told.

The same rule as the ledger's (footprint.attribution), over a window: what Kubernetes says holds from a pod's start on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fallow.domain.readings import PodRef
from fallow.domain.units import Instant
from fallow.domain.windows import GpuWindow, HoldingPod, Survey, Window


@dataclass(frozen=True, slots=True)
class Hidden:
    """Pods of a node that hold more GPUs than the meter names them for, since a time.

    `must` holds all that are unnamed; None: nobody can tell which pod holds which GPU. `meters_name`: the cluster's
    meters name pods, so that a GPU without a name before that time was nobody's.
    """

    pods: tuple[PodRef, ...]
    must: PodRef | None
    since: Instant
    meters_name: bool


def hidden_holders(window: Window, survey: Survey) -> Mapping[str, Hidden]:
    """By node; a node without such pods, or of which no GPU was seen, is absent."""
    named: Counter[PodRef] = Counter()
    unnamed: Counter[str] = Counter()
    for gpu in window.gpus:
        for holders in _last_holders(gpu):
            named.update(holder for holder in holders if holder is not None)
            unnamed[gpu.node] += not any(holders)
    by_node: defaultdict[str, list[HoldingPod]] = defaultdict(list)
    for pod in survey.pods.values():
        if pod.node in unnamed and pod.gpus > named[pod.ref]:
            by_node[pod.node].append(pod)
    meters_name = any(tenure.holder for gpu in window.gpus for slot in gpu.slots.values() for tenure in slot.tenures)
    return {
        node: Hidden(
            tuple(sorted(pod.ref for pod in pods)),
            _must(pods, named, unnamed[node]),
            min(pod.started for pod in pods),
            meters_name,
        )
        for node, pods in by_node.items()
    }


def _must(pods: Sequence[HoldingPod], named: Mapping[PodRef, int], unnamed: int) -> PodRef | None:
    missing = sum(pod.gpus - named.get(pod.ref, 0) for pod in pods)
    if missing != unnamed or len({pod.workload for pod in pods}) > 1:
        return None
    return min(pod.ref for pod in pods)


def _last_holders(gpu: GpuWindow) -> Iterable[set[PodRef | None]]:
    """Of each part of the GPU: a pod may hold several."""
    parts: defaultdict[str, set[PodRef | None]] = defaultdict(set)
    for tenure in gpu.slots[max(gpu.slots)].tenures if gpu.slots else ():
        parts[tenure.part].add(tenure.holder)
    return parts.values()
