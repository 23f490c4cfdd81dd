"""Shows that a long build is alive: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

# CI services end a job that is silent for minutes.
LINE_EVERY = 30.0


class Progress:
    """One step per program, with the time it takes."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = sys.stderr.isatty() and not quiet
        self._bar = Bar(
            TextColumn("[bold]building[/] {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task: TaskID | None = None
        self._names: list[str] = []
        self._began = 0.0
        self._spoke = 0.0
        self._current = ""

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()

    def plan(self, names: list[str]) -> None:
        self._names = names
        if not names:
            return
        self._say(
            f"building {len(names)} programs of the test cluster: {', '.join(names)}"
            " (some 12 minutes on 2 cores the first time)"
        )
        if self._live:
            self._task = self._bar.add_task(names[0], total=len(names))

    def begin(self, name: str) -> None:
        self._current = f"{name} ({self._names.index(name) + 1} of {len(self._names)})"
        self._began = self._spoke = time.monotonic()
        if self._task is not None:
            self._bar.update(self._task, description=name)
        elif not self._live:
            self._say(f"building {self._current}")

    def tick(self) -> None:
        now = time.monotonic()
        if not self._live and now - self._spoke >= LINE_EVERY:
            self._spoke = now
            self._say(f"building {self._current}: {now - self._began:.0f} s")

    def finish(self, name: str) -> None:
        self._say(f"built {name} in {time.monotonic() - self._began:.0f} s")
        if self._task is not None:
            self._bar.advance(self._task)

    def wait(self, for_what: str, seconds: float) -> None:
        now = time.monotonic()
        if now - self._spoke >= LINE_EVERY:
            self._spoke = now
            self._say(f"waiting for {for_what}")
        time.sleep(seconds)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
