"""One program of the cluster: started with its log in a file, watched, and ended by its process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from e2e.harness.errors import HarnessError, ProgramError

LOG_LINES = 15
STOP_LIMIT = 5.0
KILL_LIMIT = 10.0
POLL = 0.1

T = TypeVar("T")


class Program:
    """A long-running program; `start` may be called again after `stop`, and the log goes on."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._env = dict(env or {})
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._log.parent,
                env={**os.environ, **self._env},
                # Ctrl-C is for us alone: we then end the programs in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        return self._running.pid if self.is_running() and self._running is not None else None

    def is_running(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def ask_to_stop(self) -> None:
        if self._running is not None and self.is_running():
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGTERM)

    def stop(self, limit: float = STOP_LIMIT) -> None:
        """Asked first, killed after the limit."""
        if self._running is None:
            return
        self.ask_to_stop()
        try:
            self._running.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
        self._running = None

    def kill(self) -> None:
        """At once, as a crash would."""
        if self._running is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait(KILL_LIMIT)

    def last_lines(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(lines[-LOG_LINES:]) or "(the log is empty)"

    def fail(self, what: str) -> ProgramError:
        return ProgramError(f"{self.name} {what}; the end of its log:\n{self.last_lines()}")

    def wait_until(self, is_ready: Callable[[], bool], limit: float) -> None:
        """Polls until ready; a program that ended or is late raises with the end of its log."""
        deadline = time.monotonic() + limit
        while not is_ready():
            if self._running is not None and self._running.poll() is not None:
                raise self.fail(f"ended with code {self._running.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise self.fail(f"was not ready within {limit:.0f} s")
            time.sleep(POLL)


def wait_for(answer: Callable[[], T | None], what: str, limit: float, poll: float = 0.2) -> T:
    """The first answer that is neither None nor False; raises with `what` when none comes in time."""
    deadline = time.monotonic() + limit
    while True:
        found = answer()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise HarnessError(f"{what}: not within {limit:.0f} s")
        time.sleep(poll)


def free_ports(count: int) -> list[int]:
    """Ports that are free now; all are held open until the last is known, so that they differ."""
    held = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
