"""Keeps the power limits of this node's GPUs as the operator orders, and puts back what was before when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from fallow.adapters.node.keeper import Keeper
from fallow.adapters.node.nvml import LimitBounds, NvmlUnavailable
from fallow.api.power_order import PowerOrder
from fallow.domain.units import Watts

log = logging.getLogger(__name__)


class PowerControl(Protocol):
    """Reads and sets the power limits of this node's GPUs, by UUID; raises NvmlUnavailable."""

    def limits(self) -> Mapping[str, LimitBounds]: ...

    def limit(self, uuid: str, watts: Watts) -> None: ...


class Limiter(Keeper):
    """Power limits, and what each GPU was limited to before Fallow did."""

    def __init__(self, gpus: PowerControl, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self._gpus = gpus
        self._before: dict[str, Watts] = {}

    def limits(self) -> Mapping[str, LimitBounds]:
        """Of the GPUs that can be limited. `highest` is no more than its owner allowed before Fallow did anything."""
        with self._lock:
            return {
                uuid: LimitBounds(one.now, one.default, one.lowest, min(one.highest, self._before.get(uuid, one.now)))
                for uuid, one in self._gpus.limits().items()
                if uuid not in self._faults
            }

    def _keep(self, order: PowerOrder | None, now: float) -> None:
        wanted = order.limits if order is not None and now < order.until else {}
        if wanted or self._before:
            self._set(wanted)

    def _set(self, wanted: Mapping[str, Watts]) -> None:
        try:
            known = self._gpus.limits()
        except NvmlUnavailable as error:
            self._fault("", str(error))
            return
        self._faults.pop("", None)
        for uuid in [uuid for uuid in {**wanted, **self._before} if uuid in known]:
            one = known[uuid]
            if uuid in wanted and uuid not in self._before:
                # an agent before this one may have set it
                self._before[uuid] = one.default if one.now == wanted[uuid] else one.now
            target = min(max(wanted.get(uuid, self._before[uuid]), one.lowest), one.highest)
            if self._brought(uuid, one.now, target) and uuid not in wanted:
                del self._before[uuid]

    def _brought(self, uuid: str, now: Watts, target: Watts) -> bool:
        if now == target:
            return True
        try:
            self._gpus.limit(uuid, target)
        except NvmlUnavailable as error:
            self._fault(uuid, str(error))
            return False
        self._faults.pop(uuid, None)
        log.info("the power limit of %s is now %.0f W, before %.0f W", uuid, target.value, now.value)
        return True
