"""Who holds a copy of the same GPU, where GPUs are used in turns, and what each draws while nobody works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fallow.twin.simulation.table import EngineTable

if TYPE_CHECKING:
    from fallow.twin.simulation.fleet import Pod


class Sharers:
    """Pods of GPUs in turns, from when they `come` until they `go`; others are unknown here."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], list[Pod]] = {}

    @property
    def gpus(self) -> Mapping[tuple[int, int], Sequence[Pod]]:
        """The holders of each, by the numbers of its node and of the GPU on it; nobody where all went."""
        return self._held

    def around(self, pod: Pod) -> Sequence[Pod]:
        """Those that hold copies of the GPU that it has one of."""
        gpu = _gpu_of(pod)
        return () if gpu is None else self._held.get(gpu, ())

    def come(self, pod: Pod) -> None:
        gpu = _gpu_of(pod)
        if gpu is not None:
            self._held.setdefault(gpu, []).append(pod)

    def go(self, pod: Pod) -> None:
        gpu = _gpu_of(pod)
        if gpu is not None:
            self._held[gpu].remove(pod)

    def base(self, pod: Pod, table: EngineTable) -> float:
        """W of its part of what the GPU draws without work: bare watts are shared alike by those who hold it, what a
        context adds by those who have one.
        """
        pods = self.around(pod)
        alive = sum(one.has_context for one in pods)
        return table.bare / len(pods) + ((table.context - table.bare) / alive if pod.has_context else 0.0)


def _gpu_of(pod: Pod) -> tuple[int, int] | None:
    """By the numbers of node and GPU; None where it has one of its own, or none."""
    if pod.node is None or not pod.node.kind.in_turns:
        return None
    return pod.node.number, pod.node.meter(pod.gpus[0])
