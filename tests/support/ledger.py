"""A ledger store in memory that keeps the port's promises: one object, and the older writer is refused."""

from __future__ import annotations

from dataclasses import replace

from fallow.domain.errors import Conflict, WriteError
from fallow.domain.ledger import Ledger


class InMemoryLedgerStore:
    """`fault`, where set, is raised by every call. `saves` counts what was stored."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.stored = None if ledger is None else replace(ledger, version="1")
        self.fault: WriteError | None = None
        self.saves = 0

    async def load(self) -> Ledger | None:
        self._check()
        return self.stored

    async def save(self, ledger: Ledger) -> Ledger:
        self._check()
        if self.stored is not None and ledger.version != self.stored.version:
            raise Conflict(f"stored is version {self.stored.version}, not {ledger.version or 'none'}")
        self.saves += 1
        self.stored = replace(ledger, version=str(int(ledger.version or "0") + 1))
        return self.stored

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault
