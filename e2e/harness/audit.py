"""What the API server was asked, by whom: read from its audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One finished request.

    `allowed`: the user had the right; what fails can be 403 for other reasons, as to create in a namespace that ends.
    """

    time: str
    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    status: int
    agent: str
    allowed: bool = False

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES


def read_events(log: Path) -> Iterator[AuditEvent]:
    """Every request in the log, oldest first; a line still being written is left for the next reading."""
    try:
        handle = log.open()
    except FileNotFoundError:
        return
    with handle:
        for line in handle:
            if line.endswith("\n"):
                yield parse(json.loads(line))


def parse(event: dict[str, Any]) -> AuditEvent:
    target = event.get("objectRef") or {}
    return AuditEvent(
        time=event["stageTimestamp"],
        user=event["user"]["username"],
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        status=(event.get("responseStatus") or {}).get("code", 0),
        agent=event.get("userAgent", ""),
        allowed=(event.get("annotations") or {}).get("authorization.k8s.io/decision") == "allow",
    )
