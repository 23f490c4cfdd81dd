"""Keeps the SM clocks of this node's GPUs as the operator orders, and gives them back when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fallow.adapters.node.keeper import Keeper
from fallow.adapters.node.nvml import ClockBounds, NvmlUnavailable
from fallow.api.power_order import PowerOrder
from fallow.domain.units import Hertz

log = logging.getLogger(__name__)


class ClockControl(Protocol):
    """Reads and locks the SM clocks of this node's GPUs, by UUID; raises NvmlUnavailable."""

    def clocks(self) -> Mapping[str, ClockBounds]: ...

    def lock(self, uuid: str, to: ClockBounds | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Clock:
    """What a GPU may run at `now`, and between what this can be set."""

    now: Hertz
    lowest: Hertz
    highest: Hertz


class Clocks(Keeper):
    """Which clocks are locked nobody tells, so that those of all GPUs are this agent's: it begins by unlocking them,
    since an agent before it may have been killed.
    """

    def __init__(self, gpus: ClockControl, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self._gpus = gpus
        self._bounds: Mapping[str, ClockBounds] = {}
        # what was set by UUID, None where it was unlocked
        self._set: dict[str, Hertz | None] = {}

    def clocks(self) -> Mapping[str, Clock]:
        """Of the GPUs whose clocks can be set."""
        with self._lock:
            return {
                uuid: Clock(self._set.get(uuid) or bounds.highest, bounds.lowest, bounds.highest)
                for uuid, bounds in self._bounds.items()
                if uuid in self._set and uuid not in self._faults
            }

    def _keep(self, order: PowerOrder | None, now: float) -> None:
        wanted = order.clocks if order is not None and now < order.clocks_until else {}
        if not self._bounds and not self._look():
            return
        for uuid, bounds in self._bounds.items():
            asked = wanted.get(uuid)
            self._bring(uuid, bounds, None if asked is None else max(asked, bounds.lowest))

    def _look(self) -> bool:
        try:
            self._bounds = self._gpus.clocks()
        except NvmlUnavailable as error:
            self._fault("", str(error))
            return False
        self._faults.pop("", None)
        return True

    def _bring(self, uuid: str, bounds: ClockBounds, wanted: Hertz | None) -> None:
        if uuid in self._set and self._set[uuid] == wanted:
            return
        try:
            self._gpus.lock(uuid, None if wanted is None else ClockBounds(bounds.lowest, min(wanted, bounds.highest)))
        except NvmlUnavailable as error:
            self._fault(uuid, str(error))
            return
        self._faults.pop(uuid, None)
        if wanted is not None:
            log.info("the clock of %s is now %.0f MHz at most", uuid, wanted.megahertz)
        elif uuid in self._set:
            log.info("the clock of %s is free again", uuid)
        self._set[uuid] = wanted
