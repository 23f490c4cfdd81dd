"""Renders the chart with the pinned helm and reads the objects back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e.harness import build

CHART = Path(__file__).resolve().parents[2] / "charts" / "fallow"
LIMIT = 60.0


class Objects:
    """What `helm template` printed, found by kind and name."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self._documents = documents

    @property
    def kinds(self) -> set[str]:
        return {document["kind"] for document in self._documents}

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [document for document in self._documents if document["kind"] == kind]

    def one(self, kind: str, name: str = "") -> dict[str, Any]:
        found = [part for part in self.all(kind) if not name or part["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} objects of kind {kind} {name}"
        return found[0]

    @property
    def pod(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> dict[str, Any]:
        container: dict[str, Any] = self.pod["containers"][0]
        return container

    @property
    def env(self) -> dict[str, str]:
        return {entry["name"]: entry.get("value", "") for entry in self.container["env"]}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = build.ensure(["helm"], quiet=True)["helm"]
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL
    )


def template(*settings: str) -> subprocess.CompletedProcess[str]:
    """`settings` are helm's own: `--set`-style assignments, JSON values after a colon-equals."""
    arguments: list[str] = []
    for setting in settings:
        name, separator, value = setting.partition(":=")
        arguments += ["--set-json", f"{name}={value}"] if separator else ["--set", setting]
    version = ("--kube-version", build.KUBERNETES_VERSION)
    return helm("template", "fallow", str(CHART), "--namespace", "fallow-system", *version, *arguments)


def render(*settings: str) -> Objects:
    done = template(*settings)
    assert done.returncode == 0, done.stderr
    return Objects([document for document in yaml.safe_load_all(done.stdout) if document])


def refusal(*settings: str) -> str:
    """What helm says when it refuses the values."""
    done = template(*settings)
    assert done.returncode != 0, "helm accepted the values"
    return done.stderr
