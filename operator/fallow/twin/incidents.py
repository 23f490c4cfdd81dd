"""What happens to engines, GPUs and nodes themselves: crash, hang, XID, loss.

`faults` change what a client gets; here the physics takes part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fallow.domain.readings import PodRef
from fallow.twin.faults import ALL, FaultError
from fallow.twin.gpu import XID_MESSAGES
from fallow.twin.world import World


class EngineIncident(StrEnum):
    """CRASH happens once: the container starts again and loads. HANG lasts: nothing moves, requests wait."""

    CRASH = "crash"
    HANG = "hang"


class NodeIncident(StrEnum):
    """LOST lasts: nothing on the node answers or draws power; what comes back begins anew."""

    LOST = "lost"


NONE = "none"
XIDS = tuple(str(code) for code in XID_MESSAGES if code)
# What a family happens to, and how it is told.
KEYS = {"engine": "pod", "gpu": "gpu", "node": "node"}
MODES: Mapping[str, tuple[str, ...]] = {"engine": (*EngineIncident,), "gpu": XIDS, "node": (*NodeIncident,)}


@dataclass(frozen=True, slots=True)
class Incidents:
    """They happen to what is there then: pods by "namespace/name" or name, GPUs by UUID, nodes; "*" is all."""

    world: World

    def set(self, body: Mapping[str, object]) -> None:
        """{"engine": {"pod": ..., "mode": ...}}; mode "none" ends what lasts.

        Raises FaultError before anything happens.
        """
        chosen = [(family, *self._chosen(family, entry)) for family, entry in body.items()]
        for family, names, mode in chosen:
            for name in names:
                self._happen(family, name, mode)

    def clear(self) -> None:
        for family, lasting in self.lasting().items():
            for name in lasting:
                self._happen(family, name, NONE)

    def lasting(self) -> dict[str, dict[str, str]]:
        """What has not ended, by family."""
        fleet = self.world.fleet
        hung = [str(ref) for ref, pod in fleet.pods.items() if pod.engine is not None and pod.engine.hung]
        found = {
            "engine": dict.fromkeys(hung, EngineIncident.HANG.value),
            "gpu": {gpu.uuid: str(gpu.xid) for gpu in fleet.gpus() if gpu.xid},
            "node": {name: NodeIncident.LOST.value for name, host in fleet.hosts.items() if host.dark},
        }
        return {family: known for family, known in found.items() if known}

    def _chosen(self, family: str, entry: object) -> tuple[list[str], str]:
        key = KEYS[family]
        if not isinstance(entry, Mapping) or set(entry) != {key, "mode"}:
            raise FaultError(f'"{family}" takes {{"{key}": "name or *", "mode": "..."}}')
        who, mode = str(entry[key]), str(entry["mode"])
        allowed = (*MODES[family], NONE)
        if mode not in allowed:
            raise FaultError(f'mode {mode!r} of "{family}": write one of {", ".join(allowed)}')
        names = self._names(family, who)
        if not names:
            raise FaultError(f"no {key} {who!r} here")
        return names, mode

    def _names(self, family: str, who: str) -> list[str]:
        fleet = self.world.fleet
        there = {
            "engine": [str(ref) for ref, pod in fleet.pods.items() if pod.facts.engine is not None],
            "gpu": [gpu.uuid for gpu in fleet.gpus()],
            "node": list(fleet.nodes),
        }[family]
        return [name for name in there if who in {ALL, name, name.split("/")[-1]}]

    def _happen(self, family: str, who: str, mode: str) -> None:
        if family == "gpu":
            self.world.fail_gpu(who, 0 if mode == NONE else int(mode))
        elif family == "node":
            self.world.lose_node(who, lost=mode != NONE)
        elif mode == EngineIncident.CRASH:
            self.world.crash(PodRef(*who.split("/")))
        else:
            self.world.hang(PodRef(*who.split("/")), hung=mode != NONE)
