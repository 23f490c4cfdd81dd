"""Builds the cluster's programs from pinned Go modules into the cache, once.

Each program has a key beside it (module files, flags, Go version, platform); a different key means a
rebuild. Files appear by rename under a lock, so an interrupted or a second builder does no harm.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.harness import locations, tools
from e2e.harness.errors import HarnessError
from e2e.harness.progress import Progress

KUBERNETES_VERSION = "v1.36.3"
BUILD_LIMIT = 60 * 60.0
POLL = 0.5

STRIPPED = "-s -w"
# Without the version the API server calls itself v0.0.0 and clients refuse features.
KUBERNETES = (
    f"{STRIPPED} -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
)


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    module: str
    package: str
    flags: str = STRIPPED


PROGRAMS = (
    Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
    Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", KUBERNETES),
    Program("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", KUBERNETES),
    Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", KUBERNETES),
    Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", KUBERNETES),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    Program("helm", "helm", "helm.sh/helm/v3/cmd/helm"),
    Program("prometheus", "prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
)
BY_NAME = {program.name: program for program in PROGRAMS}

# What Kubernetes' own envtest ships; honoured so that a machine that has them builds less.
ENVTEST = frozenset({"etcd", "kube-apiserver", "kubectl"})


def ensure(names: Sequence[str] | None = None, *, quiet: bool = False) -> dict[str, Path]:
    """Paths of the named programs (all by default), built now where they are missing or out of date."""
    wanted = [BY_NAME[name] for name in names] if names is not None else list(PROGRAMS)
    found = {program.name: path for program in wanted if (path := from_envtest(program.name)) is not None}
    to_build = [program for program in wanted if program.name not in found]
    if not to_build:
        return found
    go = tools.find("go")
    version = tools.go_version(go)
    folder = locations.programs()
    folder.mkdir(parents=True, exist_ok=True)
    keys = {program.name: key_of(program, version) for program in to_build}
    if any(is_stale(folder, program, keys[program.name]) for program in to_build):
        with Progress(quiet=quiet) as progress, lock(folder, progress):
            # Again under the lock: another builder may have finished what we waited for.
            stale = [program for program in to_build if is_stale(folder, program, keys[program.name])]
            progress.plan([program.name for program in stale])
            for program in stale:
                progress.begin(program.name)
                compile_program(go, program, folder, progress)
                write_key(folder, program, keys[program.name])
                progress.finish(program.name)
    return found | {program.name: folder / program.name for program in to_build}


def from_envtest(name: str) -> Path | None:
    """The program in KUBEBUILDER_ASSETS, where that is set and has it."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not assets or name not in ENVTEST:
        return None
    path = Path(assets) / name
    return path if os.access(path, os.X_OK) else None


def key_of(program: Program, go_version: str) -> str:
    """A digest of everything that decides the program's bytes."""
    digest = hashlib.sha256()
    module = locations.TOOLS / program.module
    for name in ("go.mod", "go.sum"):
        digest.update((module / name).read_bytes())
    choices = (
        program.package,
        program.flags,
        go_version,
        platform.system(),
        platform.machine(),
        *(os.environ.get(name, "") for name in ("CGO_ENABLED", "GOFLAGS", "GOOS", "GOARCH")),
    )
    digest.update("\0".join(choices).encode())
    return digest.hexdigest()


def key_file(folder: Path, program: Program) -> Path:
    return folder / f"{program.name}.key"


def is_stale(folder: Path, program: Program, key: str) -> bool:
    try:
        kept = key_file(folder, program).read_text()
    except FileNotFoundError:
        return True
    return kept != key or not os.access(folder / program.name, os.X_OK)


def write_key(folder: Path, program: Program, key: str) -> None:
    draft = folder / f".{program.name}.key.{os.getpid()}"
    draft.write_text(key)
    draft.replace(key_file(folder, program))


def compile_program(go: str, program: Program, folder: Path, progress: Progress) -> None:
    """`go build` into a draft, then rename. Its whole process group ends with us, finished or not."""
    draft = folder / f".{program.name}.{os.getpid()}"
    log = folder / f"{program.name}.log"
    command = [go, "build", "-o", str(draft), "-ldflags", program.flags, program.package]
    with log.open("wb") as output:
        build = subprocess.Popen(
            command,
            cwd=locations.TOOLS / program.module,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            waited = 0.0
            while build.poll() is None:
                if waited > BUILD_LIMIT:
                    raise HarnessError(f"building {program.name} took over an hour; its log is {log}")
                try:
                    build.wait(POLL)
                except subprocess.TimeoutExpired:
                    waited += POLL
                    progress.tick()
        finally:
            if build.poll() is None:
                os.killpg(build.pid, signal.SIGKILL)
                build.wait(10)
            if build.returncode != 0:
                draft.unlink(missing_ok=True)
    if build.returncode != 0:
        said = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise HarnessError(f"building {program.name} failed (in {program.module}: {' '.join(command)}):\n{said}")
    draft.replace(folder / program.name)
    log.unlink()


@contextmanager
def lock(folder: Path, progress: Progress) -> Iterator[None]:
    """One builder at a time; the kernel frees the lock when its holder dies."""
    with (folder / ".lock").open("w") as handle:
        waited = 0.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited > BUILD_LIMIT * len(PROGRAMS):
                    raise HarnessError(f"another build has held {folder / '.lock'} for hours") from None
                progress.wait("another build in the same cache", POLL)
                waited += POLL
        for leftover in folder.glob(".*.[0-9]*"):
            leftover.unlink(missing_ok=True)
        yield
