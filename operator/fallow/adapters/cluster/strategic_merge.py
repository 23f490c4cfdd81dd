"""Strategic merge of a pod template overlay: maps merge, known lists merge by their key, null deletes.

The keys are those of the Kubernetes API types (patchMergeKey in k8s.io/api/core/v1); every other list is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}
# Kubernetes replaces this list; here entries are added, as the GPU nodes' own taint has still to be tolerated.
ADDED = frozenset({"tolerations"})
# Kubernetes keeps one source of a volume (retainKeys): another source in the overlay takes its place.
WHOLE = frozenset({"volumes"})
DIRECTIVE = "$patch"


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the overlay laid over it; neither is changed."""
    if overlay.get(DIRECTIVE) == "replace":
        return _plain(overlay)
    merged = dict(base)
    for name, value in overlay.items():
        if name == DIRECTIVE:
            continue
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(name, merged.get(name), value)
    return merged


def _merged(name: str, base: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return merge(base if isinstance(base, Mapping) else {}, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if name in MERGE_KEYS:
            return _by_key(name, base or [], value)
        if name in ADDED:
            return [*(base or []), *(entry for entry in value if entry not in (base or []))]
    return value


def _by_key(name: str, base: Sequence[Mapping[str, Any]], overlay: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Entries of the base in their order, overlaid by those with the same key; new ones at the end."""
    key = MERGE_KEYS[name]
    if any(entry.get(DIRECTIVE) == "replace" and key not in entry for entry in overlay):
        return [_plain(entry) for entry in overlay if key in entry]
    merged = {entry[key]: dict(entry) for entry in base}
    for entry in overlay:
        if key not in entry:
            raise ValueError(f"spec.template: every entry of {name} needs {key}, as entries are merged by it")
        if entry.get(DIRECTIVE) == "delete":
            merged.pop(entry[key], None)
        else:
            known = {} if name in WHOLE else merged.get(entry[key], {})
            merged[entry[key]] = merge(known, entry)
    return list(merged.values())


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in value.items() if name != DIRECTIVE}
