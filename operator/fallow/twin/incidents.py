"""What happens to engines, GPUs and nodes themselves: crash, hang, XID, loss.

`faults` change what a client gets; here the physics takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Incidents:
    """They happen to what is there at that moment: pods by "namespace/name" or name, GPUs by UUID, nodes; "*" is all.

    `lasting` is what has not ended, by family.
    """

    world: World
    lasting: dict[str, dict[str, str]] = field(default_factory=lambda: {family: {} for family in KEYS})

    def set(self, body: Mapping[str, object]) -> None:
        """{"engine": {"pod": ..., "mode": ...}}; mode "none" ends what lasts.

        Raises FaultError before anything happens.
        """
        chosen = [self._chosen(family, entry) for family, entry in body.items()]
        for happen in chosen:
            happen()

    def clear(self) -> None:
        for family, known in self.lasting.items():
            for who in list(known):
                self._happen(family, who, NONE)

    def as_json(self) -> dict[str, dict[str, str]]:
        return {family: dict(known) for family, known in self.lasting.items() if known}

    def _chosen(self, family: str, entry: object) -> Callable[[], None]:
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

        def happen() -> None:
            for name in names:
                self._happen(family, name, mode)

        return happen

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
            self.lasting[family].pop(who, None)
            return
        else:
            self.world.hang(PodRef(*who.split("/")), hung=mode != NONE)
        if mode == NONE:
            self.lasting[family].pop(who, None)
        else:
            self.lasting[family][who] = mode
