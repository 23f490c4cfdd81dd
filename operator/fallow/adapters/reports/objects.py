"""What the reporters need of the cluster: to send an object, and to see what an object holds now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

JSON = Mapping[str, Any]


class Sender(Protocol):
    """Raises WriteErrors."""

    async def apply(self, path: str, body: JSON, field_manager: str) -> dict[str, Any]: ...

    async def create(self, path: str, body: JSON) -> dict[str, Any]: ...


class Held(Protocol):
    """Objects as last watched, by plural name of their kind; our own writes enter at once."""

    def get(self, kind: str, namespace: str, name: str) -> JSON | None: ...

    def put(self, kind: str, body: JSON) -> None: ...
