"""Tells the story: a live screen on a terminal, readable lines in a log."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from e2e.demo.view import Decision, ServiceRow, View, clock, number, watts

LINE_EVERY = 5.0
NOTES = 2
# With two lines each they fit a screen of 30 lines.
DECISIONS = 5
LONGEST = 180
LEGEND = """
Every few seconds: replicas ready/wanted, variant, state unless Active, requests in flight, GPU watts and GPU joules per
generated token; then watts of all GPUs, watts of GPUs that serve nobody, and the grid in gCO2e/kWh. * is a decision."""
STATE_COLOURS = {"Active": "green", "Idle": "yellow", "Unknown": "red", "Stale": "red"}


class Screen(Protocol):
    """Phases come in order; `show` may be called as often as there is something new."""

    def phase(self, number: int, count: int, title: str, why: str) -> None: ...

    def show(self, view: View, *, elapsed: float, left: float) -> None: ...

    def say(self, line: str) -> None: ...

    def close(self) -> None: ...


def screen_for(console: Console) -> Screen:
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)


class PlainScreen:
    """A line every few seconds, and each decision once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._print(LEGEND)
        self._elapsed = 0.0
        self._spoke = float("-inf")
        self._told: set[Decision] = set()

    def phase(self, number: int, count: int, title: str, why: str) -> None:
        self._print(f"\n[{number}/{count}] {title}\n{indented(why)}")
        self._spoke = float("-inf")

    def show(self, view: View, *, elapsed: float, left: float) -> None:  # noqa: ARG002 (a log needs no countdown)
        self._elapsed = elapsed
        for decision in reversed(view.decisions):
            if decision not in self._told:
                self._told.add(decision)
                self._print(f"{clock(elapsed):>5} * {sentence(decision)}")
        if time.monotonic() - self._spoke >= LINE_EVERY:
            self._spoke = time.monotonic()
            services = " | ".join(short(row) for row in view.services)
            self._print(f"{clock(elapsed):>5}   {services} | {cluster_short(view)}")

    def say(self, line: str) -> None:
        self._print(f"{clock(self._elapsed):>5} > {line}")

    def close(self) -> None:
        self._print("")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class LiveScreen:
    """One screen that is drawn anew; decisions and notes are printed once more when it closes, to scroll back to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = Text()
        self._why = ""
        self._notes: list[str] = []
        self._history: list[str] = []
        self._told: set[Decision] = set()
        self._view: View | None = None
        self._elapsed = self._left = 0.0
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._live.start()

    def phase(self, number: int, count: int, title: str, why: str) -> None:
        self._title = Text.assemble((f" {number}/{count} ", "reverse"), " ", (title, "bold"))
        self._why = why
        self._notes = []
        self._history.append(f"[{number}/{count}] {title}")
        self._draw()

    def show(self, view: View, *, elapsed: float, left: float) -> None:
        self._view, self._elapsed, self._left = view, elapsed, left
        for decision in reversed(view.decisions):
            if decision not in self._told:
                self._told.add(decision)
                self._history.append(f"{clock(elapsed):>5} * {sentence(decision)}")
        self._draw()

    def say(self, line: str) -> None:
        self._notes.append(line)
        self._history.append(f"{clock(self._elapsed):>5} > {line}")
        self._draw()

    def close(self) -> None:
        self._live.stop()
        for line in self._history:
            self._console.print(line, highlight=False, markup=False)

    def frame(self) -> RenderableType:
        parts: list[RenderableType] = [
            self._title,
            Text(self._why),
            Text("\n".join(self._notes[-NOTES:]), style="cyan"),
        ]
        if self._view is not None:
            parts += [service_table(self._view), Text(cluster_words(self._view), style="bold")]
            parts.append(decision_panel(self._view.decisions))
            parts.append(Text(f"{clock(self._elapsed)} so far, about {clock(self._left)} left; Ctrl-C ends it", "dim"))
        return Group(*parts)

    def _draw(self) -> None:
        self._live.update(self.frame(), refresh=True)


def service_table(view: View) -> Table:
    table = Table(expand=True, header_style="bold")
    for name in ("service", "variant", "state"):
        table.add_column(name)
    for name in ("replicas", "in flight", "draw", "J/token", "gCO2e"):
        table.add_column(name, justify="right")
    for row in view.services:
        table.add_row(
            row.name,
            row.variant,
            Text(row.state, STATE_COLOURS.get(row.state, "")),
            replicas(row),
            number(row.in_flight),
            watts(row.watts),
            number(row.joules_per_token, ".3f"),
            number(row.grams, ".2f"),
        )
    return table


def decision_panel(decisions: tuple[Decision, ...]) -> Panel:
    lines: list[Text] = []
    for decision in decisions[:DECISIONS]:
        head = f"{decision.at:%H:%M:%S} {decision.service} "
        rest = f" ({decision.reason}): {decision.message}"
        room = LONGEST - len(head) - len(decision.action)
        rest = rest if len(rest) <= room else rest[: room - 1] + "…"
        lines.append(Text.assemble((head, "dim"), (decision.action, "bold"), rest))
    return Panel(Group(*lines) if lines else Text("none yet"), title="decisions, newest first", title_align="left")


def sentence(decision: Decision) -> str:
    effect = decision.saves_watts or 0.0
    verb = "saves" if effect > 0 else "costs"
    saves = f" [{verb} {abs(effect):,.0f} W]" if round(effect) else ""
    return f"{decision.service}: {decision.action} ({decision.reason}): {decision.message}{saves}"


def short(row: ServiceRow) -> str:
    words = [row.name, replicas(row), row.variant]
    if row.state != "Active":
        words.append(row.state)
    if row.in_flight:
        words.append(f"{row.in_flight:.0f} req")
    words.append(watts(row.watts))
    if row.joules_per_token is not None:
        words.append(f"{row.joules_per_token:.3f} J/tok")
    return " ".join(word for word in words if word)


def replicas(row: ServiceRow) -> str:
    return f"{row.ready}/{row.desired}"


def cluster_short(view: View) -> str:
    return f"all {watts(view.watts)}, waste {watts(waste(view))}, grid {number(view.intensity)}"


def cluster_words(view: View) -> str:
    return (
        f"{view.gpus} GPUs draw {watts(view.watts)}; grid {number(view.intensity)} gCO2e/kWh\n"
        f"idle waste {watts(waste(view))}: {watts(view.unallocated_watts)} in {view.free_gpus} empty GPUs, "
        f"{watts(view.idle_watts)} loaded and idle"
    )


def waste(view: View) -> float | None:
    if view.unallocated_watts is None or view.idle_watts is None:
        return None
    return view.unallocated_watts + view.idle_watts


def indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())
