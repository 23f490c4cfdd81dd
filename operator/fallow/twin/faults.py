"""Faults of the exporters: what a scrape gets instead of the truth. The physics goes on underneath."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class DcgmFault(StrEnum):
    DOWN = "down"
    NAN = "nan"
    FROZEN = "frozen"
    NO_POD_LABELS = "no_pod_labels"


class VllmFault(StrEnum):
    """HANG accepts the connection and never answers."""

    DOWN = "down"
    HANG = "hang"
    NAN = "nan"
    FROZEN = "frozen"


class FaultError(ValueError):
    """A fault that cannot be set; the message says what to write instead."""


ALL = "*"


@dataclass(slots=True)
class Faults:
    """By node name, and by pod as "namespace/name" or name alone; "*" is for all."""

    dcgm: dict[str, DcgmFault] = field(default_factory=dict)
    vllm: dict[str, VllmFault] = field(default_factory=dict)
    _frozen: dict[str, str] = field(default_factory=dict)

    def of_node(self, node: str) -> DcgmFault | None:
        return self.dcgm.get(node) or self.dcgm.get(ALL)

    def of_pod(self, namespace: str, name: str) -> VllmFault | None:
        return self.vllm.get(f"{namespace}/{name}") or self.vllm.get(name) or self.vllm.get(ALL)

    def frozen(self, who: str, text: str) -> str:
        """The first text seen since the fault began."""
        return self._frozen.setdefault(who, text)

    def set(self, body: Mapping[str, object]) -> None:
        """{"dcgm": {"node": ..., "mode": ...}, "vllm": {"pod": ..., "mode": ...}}; mode "none" clears one."""
        unknown = set(body) - {"dcgm", "vllm"}
        if unknown or not body:
            raise FaultError(f'write "dcgm" or "vllm", not {sorted(unknown) or "nothing"}')
        for family, entry in body.items():
            key = "node" if family == "dcgm" else "pod"
            if not isinstance(entry, Mapping) or set(entry) != {key, "mode"}:
                raise FaultError(f'"{family}" takes {{"{key}": "name or *", "mode": "..."}}')
            self._set(family, str(entry[key]), str(entry["mode"]))
        self._frozen.clear()

    def _set(self, family: str, who: str, mode: str) -> None:
        if mode == "none":
            (self.dcgm if family == "dcgm" else self.vllm).pop(who, None)
            return
        try:
            if family == "dcgm":
                self.dcgm[who] = DcgmFault(mode)
            else:
                self.vllm[who] = VllmFault(mode)
        except ValueError as error:
            allowed = DcgmFault if family == "dcgm" else VllmFault
            raise FaultError(f'mode {mode!r} of "{family}": write one of {", ".join([*allowed, "none"])}') from error

    def clear(self) -> None:
        self.dcgm.clear()
        self.vllm.clear()
        self._frozen.clear()

    def as_json(self) -> dict[str, dict[str, str]]:
        return {"dcgm": dict(self.dcgm), "vllm": dict(self.vllm)}
