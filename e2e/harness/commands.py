"""kubectl and helm against one cluster, as a person would call them, with a time limit."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.harness.credentials import write_kubeconfig
from e2e.harness.errors import CommandError
from e2e.harness.nodes import MIB_PER_GPU, Shape, addresses, gpu_node
from e2e.harness.process import wait_for

COMMAND_LIMIT = 60.0
HELM_LIMIT = 300.0


class Commands:
    """What any cluster can be asked to do, ours or kind's, once its admin kubeconfig is known."""

    kubeconfig: Path
    server: str
    authority: Path

    def __init__(self, programs: Mapping[str, Path], folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._addresses = addresses()
        self._nodes = 0

    def program(self, name: str) -> Path:
        """Where a program of the cluster lies, for one that must run on its own, such as a watch."""
        return self._programs[name]

    def kubectl(self, *arguments: str, input: str | None = None, limit: float = COMMAND_LIMIT) -> str:  # noqa: A002 (subprocess's own name)
        """What kubectl printed; a refusal raises CommandError with its words."""
        return self._run("kubectl", ["--kubeconfig", str(self.kubeconfig), *arguments], input, limit)

    def helm(self, *arguments: str, limit: float = HELM_LIMIT) -> str:
        return self._run("helm", ["--kubeconfig", str(self.kubeconfig), *arguments], None, limit)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def apply(self, what: Path | str | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
        """Applies a file, a folder, YAML text or objects, by server-side apply."""
        arguments = ("apply", "--server-side", "--force-conflicts", "-f")
        if isinstance(what, Path):
            return self.kubectl(*arguments, str(what))
        if isinstance(what, str):
            return self.kubectl(*arguments, "-", input=what)
        objects = [what] if isinstance(what, Mapping) else list(what)
        return self.kubectl(*arguments, "-", input=yaml.safe_dump_all(objects))

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a fresh token of that ServiceAccount and no more rights than it has."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration=12h").strip()
        path = self._folder / f"{namespace}-{name}.kubeconfig"
        return write_kubeconfig(
            path, token=token, user=name, server=self.server, authority=self.authority, namespace=namespace
        )

    def add_gpu_nodes(
        self,
        count: int,
        gpus: int = 8,
        product: str = "NVIDIA-H100-80GB-HBM3",
        *,
        zone: str = "simulated-a",
        memory_mib: int | None = None,
        shapes: Sequence[Shape] = (),
    ) -> list[str]:
        """Creates simulated nodes, waits until they are Ready and returns their names; `shapes` change them first."""
        memory = MIB_PER_GPU.get(product, 81_559) if memory_mib is None else memory_mib
        names = [f"gpu-{number:04d}" for number in range(self._nodes, self._nodes + count)]
        self._nodes += count
        if not names:
            return names
        nodes = [
            gpu_node(name, gpus=gpus, product=product, address=next(self._addresses), zone=zone, memory_mib=memory)
            for name in names
        ]
        for node in nodes:
            for shape in shapes:
                shape(node)
        self.kubectl("create", "-f", "-", input=yaml.safe_dump_all(nodes), limit=COMMAND_LIMIT + count)
        # One list for all: `kubectl wait` opens a watch for each.
        wait_for(lambda: self._ready_nodes() >= set(names), "the new nodes to be Ready", COMMAND_LIMIT + count)
        return names

    def _ready_nodes(self) -> set[str]:
        line = '{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
        listed = self.kubectl("get", "nodes", "-o", f"jsonpath={line}").splitlines()
        return {words[0] for words in map(str.split, listed) if words[1:] == ["True"]}

    def remove_nodes(self, names: Sequence[str]) -> None:
        self.kubectl("delete", "node", "--ignore-not-found", *names)

    def _run(self, program: str, arguments: Sequence[str], text: str | None, limit: float) -> str:
        command = [str(self._programs[program]), *arguments]
        home = {"HOME": str(self._folder), "HELM_CACHE_HOME": str(self._folder / "helm")}
        try:
            done = subprocess.run(
                command,
                input=text if text is not None else "",
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
                env={**os.environ, **home},
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{program} {' '.join(arguments[2:])}: no answer within {limit:.0f} s") from error
        if done.returncode != 0:
            raise CommandError(f"{program} {' '.join(arguments[2:])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
