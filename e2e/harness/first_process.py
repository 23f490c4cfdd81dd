"""Process 1 of a run's namespace: sets it up, runs the command, and outlives neither it nor the run.

When process 1 ends, the kernel ends every other process of the namespace; so nothing can be left over.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from e2e.harness import locations, tools
from e2e.harness.namespace import FROM_TERMINAL, LIFELINE, RANGE, WATCHED, send

# A command whose run was killed gets this long to clean up before the kernel ends it.
GRACE = 5.0


def prepare() -> None:
    """Loopback up, the whole range local, and a state folder in memory that vanishes with the namespace."""
    ip = tools.find("ip")
    for arguments in (["link", "set", "lo", "up"], ["route", "add", "local", RANGE, "dev", "lo"]):
        subprocess.run([ip, *arguments], check=True, timeout=30)
    mount = [tools.find("mount"), "-t", "tmpfs", "-o", "mode=0755", "fallow-state", str(locations.state())]
    subprocess.run(mount, check=True, timeout=30)
    # Temporary files of the command vanish with the rest.
    os.environ["TMPDIR"] = str(locations.state())


def end_with_the_run(lifeline: int, command: int) -> None:
    """Blocks until the process that started the run is gone, then ends the command and with it all."""
    while os.read(lifeline, 1):
        pass
    try:
        os.kill(command, signal.SIGTERM)
    except ProcessLookupError:
        return
    threading.Event().wait(GRACE)
    os._exit(128 + signal.SIGKILL)


def run_until_done(command: int) -> int:
    """Passes signals on to the command and reaps the orphans that process 1 inherits; returns its code."""
    while True:
        received = signal.sigwaitinfo(WATCHED)
        if received.si_signo != signal.SIGCHLD:
            if received.si_code != FROM_TERMINAL:
                send([command], received.si_signo)
            continue
        for pid, status in ended_children():
            if pid == command:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def ended_children() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def main() -> None:
    lifeline = int(os.environ.pop(LIFELINE))
    os.set_inheritable(lifeline, False)
    # Blocked before the command starts, so that its end cannot be missed.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    prepare()
    try:
        command = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, setsigmask=(), setsigdef=WATCHED)
    except OSError as error:
        print(f"cannot run {sys.argv[1]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)
    threading.Thread(target=end_with_the_run, args=(lifeline, command), daemon=True).start()
    os._exit(run_until_done(command))


if __name__ == "__main__":
    main()
