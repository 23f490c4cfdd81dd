"""The samples that users read, and the wrong objects that are made from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "docs" / "samples"


@dataclass(frozen=True)
class WrongObject:
    name: str
    sample: str
    patch: dict[str, Any]
    field: str
    says: str

    def build(self) -> dict[str, Any]:
        patched: dict[str, Any] = merged(sample(self.sample), self.patch)
        return patched


def sample_names() -> list[str]:
    return sorted(path.stem for path in SAMPLES.glob("*.yaml"))


def sample(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((SAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def wrong_objects() -> list[WrongObject]:
    listed = yaml.safe_load((Path(__file__).parent / "wrong_objects.yaml").read_text(encoding="utf-8"))
    return [WrongObject(**entry) for entry in listed]


def merged(base: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(base, dict) or not isinstance(patch, dict):
        return patch
    kept = {name: part for name, part in base.items() if name not in patch}
    laid = {name: merged(base.get(name), part) for name, part in patch.items() if part is not None}
    return kept | laid
