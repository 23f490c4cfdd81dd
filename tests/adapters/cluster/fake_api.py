"""An API server in memory with what Fallow relies on: generations, versions, ownership of names, refusals."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from fallow.adapters.cluster.client import JSON, KubernetesApi, PatchType
from fallow.domain.errors import Conflict, Refused, WriteError


class FakeApi(KubernetesApi):
    """`calls` lists (verb, path) of everything asked; `fault`, where set, is what every call fails with."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.fault: WriteError | None = None
        self._version = 1000

    @property
    def writes(self) -> list[str]:
        return [path for verb, path in self.calls if verb != "get"]

    def hold(self, path: str, body: Mapping[str, Any]) -> None:
        self.objects[path] = copy.deepcopy(dict(body))

    def edited(self, path: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Somebody else changes the spec; gives what the watch brings."""
        live = self.objects[path]
        return self._store(path, {**live, "spec": {**live["spec"], **change}}, live)

    async def get(self, path: str) -> dict[str, Any] | None:
        self._called("get", path)
        return copy.deepcopy(self.objects.get(path))

    async def create(self, path: str, body: JSON) -> dict[str, Any]:
        self._called("create", path, body)
        return dict(body)

    async def apply(self, path: str, body: JSON, field_manager: str) -> dict[str, Any]:
        self._called("apply", path, body)
        assert field_manager == "fallow"
        live = self.objects.get(path)
        return self._store(path, copy.deepcopy(dict(body)), live)

    async def patch(
        self, path: str, body: JSON | Sequence[JSON], content_type: PatchType, field_manager: str
    ) -> dict[str, Any]:
        assert field_manager == "fallow"
        self._called("patch", path, body)
        if path.endswith("/scale"):
            assert content_type is PatchType.MERGE
            live = self._live(path.removesuffix("/scale"))
            self._store(path.removesuffix("/scale"), {**live, "spec": {**live["spec"], **body["spec"]}}, live)  # type: ignore[call-overload]
            return {"kind": "Scale", "metadata": {"resourceVersion": str(self._version)}, **dict(body)}  # type: ignore[arg-type]
        if content_type is PatchType.MERGE:
            return self._merge(path, body)  # type: ignore[arg-type]
        assert content_type is PatchType.JSON
        live = self._live(path)
        wanted, removed = body
        if live["spec"].get("replicas") != wanted["value"]:  # type: ignore[index]
            raise Refused(f"PATCH {path}: 422 testing value /spec/replicas failed")
        assert removed == {"op": "remove", "path": "/spec/replicas"}
        spec = {name: value for name, value in live["spec"].items() if name != "replicas"}
        return self._store(path, {**live, "spec": spec}, live)

    def _merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Of metadata annotations alone, and one level of the spec; another version is a conflict."""
        live = self._live(path)
        metadata, version = live["metadata"], body["metadata"].get("resourceVersion")
        if version is not None and version != metadata.get("resourceVersion"):
            raise Conflict(f"PATCH {path}: 409 the object has been modified")
        annotations = {**(metadata.get("annotations") or {}), **body["metadata"].get("annotations", {})}
        kept = {name: text for name, text in annotations.items() if text is not None}
        merged = {
            **live,
            "metadata": {**metadata, "annotations": kept},
            "spec": {**live["spec"], **body.get("spec", {})},
        }
        return self._store(path, merged, live)

    def _store(self, path: str, body: dict[str, Any], live: dict[str, Any] | None) -> dict[str, Any]:
        before: dict[str, Any] = live["metadata"] if live else {"uid": f"uid-of-{path}", "generation": 0}
        changed = live is None or live["spec"] != body["spec"]
        self._version += 1
        body["metadata"] = {
            **body["metadata"],
            "uid": before["uid"],
            "generation": before["generation"] + int(changed),
            "resourceVersion": str(self._version),
        }
        self.objects[path] = body
        return copy.deepcopy(body)

    def _live(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise Refused(f"PATCH {path}: 404 not found")
        return self.objects[path]

    def _called(self, verb: str, path: str, body: Any = None) -> None:
        self.calls.append((verb, path))
        self.bodies.append(copy.deepcopy(body))
        if self.fault is not None:
            raise self.fault
