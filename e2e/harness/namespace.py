"""Runs a command in a namespace of its own, where 198.18.0.0/15 is local and no packet can leave.

The namespace has its own network, process ids and mounts. Its first process (`first_process.py`) lives
as long as the run that made it, so whatever ends the run, Ctrl-C, a crash or kill -9, ends everything.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from e2e.harness import locations, tools
from e2e.harness.errors import HarnessError, MissingToolError

# The benchmark range of RFC 2544: addresses that are nobody's. Pods get the lower half, nodes the upper.
RANGE = "198.18.0.0/15"
PODS = "198.18.0.0/16"
NODES = "198.19.0.0/16"
PROBE = "198.19.255.253"

MARKER = "FALLOW_HARNESS_NAMESPACE"
LIFELINE = "FALLOW_LIFELINE"
ENTER = "make test, or .venv/bin/python -m e2e.harness exec -- COMMAND"

PASSED_ON = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
WATCHED = PASSED_ON | {signal.SIGCHLD}
# SI_KERNEL: a terminal sends Ctrl-C to its whole foreground group, so the command has got it already.
FROM_TERMINAL = 0x80


def inside() -> bool:
    """Whether this process is in such a namespace: marked so, and the range is local in truth."""
    if os.environ.get(MARKER) != "1":
        return False
    if not range_is_local():
        raise HarnessError(
            f"{MARKER}=1 is set but {RANGE} is not local here: unset it and enter a namespace with {ENTER}"
        )
    return True


def range_is_local() -> bool:
    """An address can be bound only where the route makes it local."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((PROBE, 0))
        except OSError:
            return False
    return True


def require_inside() -> None:
    if not inside():
        raise HarnessError(f"this needs the network namespace of the test cluster; run it with: {ENTER}")


def unshare_command() -> list[str]:
    """`unshare` with the flags that this user needs; refused in one line where the machine forbids it."""
    unshare = tools.find("unshare")
    for needed in ("ip", "mount"):
        tools.find(needed)
    who = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = [unshare, *who, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    tried = subprocess.run(
        [*command, "true"], capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
    )
    if tried.returncode != 0:
        raise MissingToolError(
            f"this machine does not let this user make namespaces ({tried.stderr.strip()}): run as root, or "
            "set sysctl kernel.unprivileged_userns_clone=1 (Ubuntu: "
            "kernel.apparmor_restrict_unprivileged_userns=0); in a container add --cap-add SYS_ADMIN"
        )
    return command


def run_inside(command: Sequence[str], unshare: Sequence[str] | None = None) -> int:
    """Runs the command in a new namespace and returns its exit code; signals are passed on to it."""
    if unshare is None:
        unshare = unshare_command()
    locations.state().mkdir(parents=True, exist_ok=True)
    # Only this process holds the write end: when it is gone, however, the first process reads the end.
    lifeline, held = os.pipe()
    first = [sys.executable, "-m", "e2e.harness.first_process", *command]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    for number in WATCHED:
        # A shell starts its background jobs with SIGINT ignored, and what is ignored never arrives here.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        child = subprocess.Popen(
            [*unshare, *first],
            env={**surroundings(), LIFELINE: str(lifeline)},
            pass_fds=(lifeline,),
        )
        note = note_run(child.pid)
        try:
            while (code := child.poll()) is None:
                received = signal.sigwaitinfo(WATCHED)
                # unshare itself ignores them, so they go to the process behind it.
                if received.si_signo != signal.SIGCHLD and received.si_code != FROM_TERMINAL:
                    send(children(child.pid), received.si_signo)
        finally:
            note.unlink(missing_ok=True)
    finally:
        os.close(lifeline)
        os.close(held)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return code if code >= 0 else 128 - code


def send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def surroundings() -> dict[str, str]:
    """The environment inside: marked, our programs on the PATH, this package found from any folder."""
    path = os.pathsep.join([str(locations.programs()), tools.SEARCH])
    return {**os.environ, MARKER: "1", "PATH": path, "PYTHONPATH": python_path()}


def python_path() -> str:
    """The repository first, so that the first process finds this package from any folder."""
    return os.pathsep.join(part for part in (str(locations.REPOSITORY), os.environ.get("PYTHONPATH")) if part)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def note_run(unshare_pid: int) -> Path:
    folder = locations.runs()
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{unshare_pid}.json"
    note.write_text(json.dumps({"unshare": unshare_pid, "user": os.geteuid()}))
    return note


def live_runs() -> list[int]:
    """The first processes of the runs that are up now, newest first; notes of dead runs are removed."""
    found: list[tuple[float, int]] = []
    for note in locations.runs().glob("*.json"):
        kept = json.loads(note.read_text())
        first = [pid for pid in children(int(kept["unshare"])) if is_first_process(pid)]
        if first:
            found.append((note.stat().st_mtime, first[0]))
        else:
            note.unlink(missing_ok=True)
    return [pid for _, pid in sorted(found, reverse=True)]


def is_first_process(pid: int) -> bool:
    try:
        return b"e2e.harness.first_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def join(command: Sequence[str]) -> int:
    """Runs a command inside the newest live run, for a second terminal."""
    nsenter = tools.find("nsenter")
    runs = live_runs()
    if not runs:
        raise HarnessError("no cluster is up; start one with: make demo KEEP=1, or python -m e2e.harness up")
    who = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    entered = [nsenter, "--target", str(runs[0]), *who, "--net", "--pid", "--mount", f"--wd={Path.cwd()}"]
    environment = surroundings() | kubeconfig_inside(nsenter, runs[0], who)
    # No time limit: a shell lasts as long as its user.
    return subprocess.run([*entered, "--", *command], check=False, env=environment).returncode


def kubeconfig_inside(nsenter: str, first: int, who: Sequence[str]) -> dict[str, str]:
    """KUBECONFIG of the run's cluster: the newest admin file in its own state folder."""
    listed = subprocess.run(
        [
            nsenter,
            "--target",
            str(first),
            *who,
            "--mount",
            "--",
            "sh",
            "-c",
            f"ls -t {locations.state()}/*/admin.kubeconfig",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    newest = listed.stdout.split("\n", 1)[0]
    return {"KUBECONFIG": newest} if newest else {}
