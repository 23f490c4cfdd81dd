"""What both that carry out the operator's orders on a node's GPUs do alike: keep them, and tell a fault once."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from fallow.api.power_order import PowerOrder

log = logging.getLogger(__name__)


class Keeper(ABC):
    """Called by several threads. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._order: PowerOrder | None = None
        self._faults: dict[str, str] = {}

    def ask(self, order: PowerOrder | None) -> None:
        """From now on; None for no limits at all."""
        with self._lock:
            self._order = order
        self.keep()

    def keep(self) -> None:
        """Set what is not as it should be; what fails is told once and tried again."""
        with self._lock:
            self._keep(self._order, self._clock())

    def release(self) -> None:
        """Put everything back."""
        self.ask(None)

    @abstractmethod
    def _keep(self, order: PowerOrder | None, now: float) -> None:
        """As `keep`, with the lock held."""

    def _fault(self, uuid: str, said: str) -> None:
        if self._faults.get(uuid) != said:
            log.warning("%s", said)
        self._faults[uuid] = said
