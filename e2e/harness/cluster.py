"""A whole cluster for one run: control plane, simulated nodes and Prometheus, gone when the run ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.harness import build, locations, namespace
from e2e.harness.audit import AuditEvent, read_events
from e2e.harness.commands import Commands
from e2e.harness.control_plane import ControlPlane
from e2e.harness.credentials import ADMIN, KWOK, PROMETHEUS
from e2e.harness.errors import CommandError
from e2e.harness.namespace import PODS
from e2e.harness.nodes import MANAGED
from e2e.harness.process import Program, wait_for
from e2e.harness.prometheus import Prometheus

SCRAPE_SECONDS = 5.0
ACCOUNT_LIMIT = 60.0


class Cluster(Commands):
    """`with Cluster() as cluster:` inside the run's namespace. See docs/how-to/cluster.md."""

    def __init__(self, *, scrape_seconds: float = SCRAPE_SECONDS, prometheus: bool = True) -> None:
        namespace.require_inside()
        locations.state().mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="cluster-", dir=locations.state()))
        super().__init__(build.ensure(), folder)
        self.folder = folder
        self.stages: dict[str, float] = {}
        self._control_plane = ControlPlane(self._programs, folder)
        self.server = self._control_plane.server
        self.authority = self._control_plane.authority
        self._kwok: Program | None = None
        self._scrape_seconds = scrape_seconds
        self._with_prometheus = prometheus
        self._prometheus: Prometheus | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        began = time.monotonic()
        self._control_plane.start()
        self.kubeconfig = self._control_plane.kubeconfig(ADMIN)
        self.stages["API server ready"] = time.monotonic() - began
        self._kwok = self._kwok_program()
        self._kwok.start()
        if self._with_prometheus:
            self._prometheus = Prometheus(
                self._programs["prometheus"],
                self.folder,
                self._control_plane.kubeconfig(PROMETHEUS),
                self._scrape_seconds,
            )
            self._prometheus.begin()
        self._control_plane.wait_until_whole()
        if self._prometheus is not None:
            self._prometheus.wait_until_ready()
        # Until the controllers have made it, the API server refuses every pod in the namespace.
        wait_for(self._has_default_account, "the default ServiceAccount", ACCOUNT_LIMIT)
        self.stages["cluster whole"] = time.monotonic() - began

    def _has_default_account(self) -> bool:
        try:
            return bool(self.kubectl("get", "serviceaccount", "default", "-n", "default", "-o", "name"))
        except CommandError:
            return False

    def _kwok_program(self) -> Program:
        return Program(
            "kwok",
            [
                str(self._programs["kwok"]),
                f"--kubeconfig={self._control_plane.kubeconfig(KWOK)}",
                f"--config={locations.STAGES}",
                "--manage-all-nodes=false",
                # A real kubelet's node, where one joins, is left alone.
                f"--manage-nodes-with-annotation-selector={MANAGED}=fake",
                f"--cidr={PODS}",
                "--node-lease-duration-seconds=40",
            ],
            self.folder / "kwok.log",
        )

    @property
    def prometheus_url(self) -> str:
        return self._needed_prometheus().url

    def stop_prometheus(self) -> None:
        self._needed_prometheus().stop()

    def start_prometheus(self) -> None:
        prometheus = self._needed_prometheus()
        prometheus.begin()
        prometheus.wait_until_ready()

    def scrape_also(self, job: str, addresses: Sequence[str]) -> None:
        """Lets Prometheus scrape fixed addresses too, such as the operator's `127.0.0.1:port`."""
        self._needed_prometheus().add_targets(job, addresses)

    def stop_apiserver(self) -> None:
        self._control_plane.stop_apiserver()

    def start_apiserver(self) -> None:
        self._control_plane.start_apiserver()

    def restart_apiserver(self) -> None:
        """Killed and started again on the same port; returns when it is ready."""
        self.stop_apiserver()
        self.start_apiserver()

    def audit_events(self) -> Iterator[AuditEvent]:
        """Every request since the cluster began, oldest first."""
        return read_events(self._control_plane.audit_log)

    def process_ids(self) -> dict[str, int]:
        """The programs that run now."""
        programs = list(self._control_plane.running())
        if self._kwok is not None:
            programs.append(self._kwok)
        if self._prometheus is not None:
            programs.append(self._prometheus.program)
        return {program.name: program.pid for program in programs if program.pid is not None}

    def stop(self) -> None:
        """Ends every program and removes the state; FALLOW_LOGS names a folder that keeps the logs."""
        if self._prometheus is not None:
            self._prometheus.stop()
        if self._kwok is not None:
            self._kwok.stop(limit=1.0)
        self._control_plane.stop()
        keep = os.environ.get("FALLOW_LOGS", "")
        if keep and self.folder.is_dir():
            kept = Path(keep) / self.folder.name
            kept.mkdir(parents=True, exist_ok=True)
            for log in self.folder.glob("*.log"):
                shutil.copy2(log, kept)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _needed_prometheus(self) -> Prometheus:
        if self._prometheus is None:
            raise RuntimeError("this cluster was made with prometheus=False")
        return self._prometheus
