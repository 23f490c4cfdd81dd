"""The same cluster interface on kind, for a machine with Docker: FALLOW_CLUSTER=kind.

A real container runtime and CNI, but no namespace of our own: simulated addresses cannot be reached from
the host, so kind serves install and API checks, not the twin's stories.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from base64 import b64decode
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from e2e.harness import build, locations, tools
from e2e.harness.commands import Commands
from e2e.harness.credentials import write_private
from e2e.harness.errors import HarnessError

CREATE_LIMIT = 600.0


def is_wanted() -> bool:
    """Whether the user asked for kind; any other value is refused rather than ignored."""
    wanted = os.environ.get("FALLOW_CLUSTER", "")
    if wanted not in {"", "kind", "own"}:
        raise HarnessError(f"FALLOW_CLUSTER={wanted} is not known: leave it unset, or say own or kind")
    return wanted == "kind"


def require_docker() -> None:
    docker = tools.find("docker")
    asked = subprocess.run([docker, "info"], capture_output=True, text=True, timeout=60, check=False)
    if asked.returncode != 0:
        raise HarnessError(
            "FALLOW_CLUSTER=kind, but Docker does not answer: start Docker, or unset FALLOW_CLUSTER to run without it"
        )


class KindCluster(Commands):
    """Made on entry, deleted on exit; only what `Commands` offers."""

    def __init__(self) -> None:
        require_docker()
        self._kind = tools.find("kind")
        locations.state().mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="kind-", dir=locations.state()))
        super().__init__(build.ensure(["kubectl", "helm"]), self.folder)
        self._name = self.folder.name.lower().replace("_", "-")
        self.kubeconfig = self.folder / "admin.kubeconfig"

    def __enter__(self) -> Self:
        try:
            self._run_kind("create", "cluster", "--wait", "5m")
            self._read_access()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._run_kind("delete", "cluster")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read_access(self) -> None:
        access = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]
        self.server = access["server"]
        self.authority = self.folder / "authority.crt"
        write_private(self.authority, b64decode(access["certificate-authority-data"]).decode())

    def _run_kind(self, *arguments: str) -> None:
        command = [self._kind, *arguments, "--name", self._name, "--kubeconfig", str(self.kubeconfig)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CREATE_LIMIT, check=False)
        if done.returncode != 0:
            raise HarnessError(f"kind {' '.join(arguments)} failed: {done.stderr.strip()}")
