"""A claim to lead in memory that keeps the port's promises: one object, and the older writer is refused."""

from __future__ import annotations

from dataclasses import replace

from fallow.domain.errors import Conflict, WriteError
from fallow.domain.tenure import Tenure


class InMemoryLease:
    """`fault`, where set, is raised by every call. `writes` counts what was stored."""

    def __init__(self) -> None:
        self.stored: Tenure | None = None
        self.fault: WriteError | None = None
        self.writes = 0

    async def read(self) -> Tenure | None:
        self._check()
        return self.stored

    async def write(self, tenure: Tenure) -> Tenure:
        self._check()
        if tenure.version != (self.stored.version if self.stored is not None else ""):
            raise Conflict(f"stored is not version {tenure.version or 'none'}")
        self.writes += 1
        self.stored = replace(tenure, version=str(self.writes))
        return self.stored

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault
