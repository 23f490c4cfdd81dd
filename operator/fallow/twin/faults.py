"""Faults of the exporters: what a scrape gets instead of the truth. The physics goes on underneath."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class DcgmFault(StrEnum):
    """NO_ENERGY and NO_PROFILING leave out series, as for a GPU that has no counter or a profiler of somebody else."""

    DOWN = "down"
    NAN = "nan"
    FROZEN = "frozen"
    NO_POD_LABELS = "no_pod_labels"
    NO_ENERGY = "no_energy"
    NO_PROFILING = "no_profiling"


class VllmFault(StrEnum):
    """HANG accepts the connection and never answers."""

    DOWN = "down"
    HANG = "hang"
    NAN = "nan"
    FROZEN = "frozen"


class HostFault(StrEnum):
    """Of the exporters of CPU and memory energy on a node."""

    DOWN = "down"
    NAN = "nan"
    FROZEN = "frozen"


class FaultError(ValueError):
    """A fault that cannot be set; the message says what to write instead."""


ALL = "*"


@dataclass(frozen=True, slots=True)
class _Family:
    """What a family of faults is set on, and its modes."""

    key: str
    modes: type[StrEnum]


FAMILIES = {
    "dcgm": _Family("node", DcgmFault),
    "host": _Family("node", HostFault),
    "vllm": _Family("pod", VllmFault),
}


@dataclass(slots=True)
class Faults:
    """By node name, and by pod as "namespace/name" or name alone; "*" is for all."""

    dcgm: dict[str, DcgmFault] = field(default_factory=dict)
    host: dict[str, HostFault] = field(default_factory=dict)
    vllm: dict[str, VllmFault] = field(default_factory=dict)
    _frozen: dict[str, str] = field(default_factory=dict)

    def of_node(self, node: str) -> DcgmFault | None:
        return self.dcgm.get(node) or self.dcgm.get(ALL)

    def of_host(self, node: str) -> HostFault | None:
        return self.host.get(node) or self.host.get(ALL)

    def of_pod(self, namespace: str, name: str) -> VllmFault | None:
        return self.vllm.get(f"{namespace}/{name}") or self.vllm.get(name) or self.vllm.get(ALL)

    def frozen(self, who: str, text: str) -> str:
        """The first text seen since the fault began."""
        return self._frozen.setdefault(who, text)

    def set(self, body: Mapping[str, object]) -> None:
        """{"dcgm": {"node": ..., "mode": ...}, "vllm": {"pod": ..., "mode": ...}}; mode "none" clears one."""
        unknown = set(body) - set(FAMILIES)
        if unknown or not body:
            known = '"dcgm", "host", "vllm", "engine", "gpu" or "node"'
            raise FaultError(f"write {known}, not {sorted(unknown) or 'nothing'}")
        for family, entry in body.items():
            key = FAMILIES[family].key
            if not isinstance(entry, Mapping) or set(entry) != {key, "mode"}:
                raise FaultError(f'"{family}" takes {{"{key}": "name or *", "mode": "..."}}')
            self._set(family, str(entry[key]), str(entry["mode"]))
        self._frozen.clear()

    def _set(self, family: str, who: str, mode: str) -> None:
        known: dict[str, StrEnum] = getattr(self, family)
        if mode == "none":
            known.pop(who, None)
            return
        modes = FAMILIES[family].modes
        try:
            known[who] = modes(mode)
        except ValueError as error:
            allowed = ", ".join([*modes, "none"])
            raise FaultError(f'mode {mode!r} of "{family}": write one of {allowed}') from error

    def clear(self) -> None:
        for family in FAMILIES:
            getattr(self, family).clear()
        self._frozen.clear()

    def as_json(self) -> dict[str, dict[str, str]]:
        return {family: dict(getattr(self, family)) for family in FAMILIES}
