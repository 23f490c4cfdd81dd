"""What a reader of the demo sees: one story on a terminal and in a log."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from e2e.demo.screen import LiveScreen, PlainScreen, sentence
from e2e.demo.view import Decision, ServiceRow, View, clock

CHAT = ServiceRow("chat", 2, 3, "bf16", "Active", 187.0, 1204.4, 0.131, 0.42)
DOCS = ServiceRow("docs", 0, 0, "bf16", "Idle", 0.0, 0.0, None, 0.05)
LONG = "221 requests in flight (0 waiting), 100 a replica by scaling.targetConcurrency, " * 3


def decided(second: int, *, saves: float | None = None) -> Decision:
    at = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
    return Decision(at, "chat", "ScaleUp", "Concurrency", LONG, saves)


def view(*decisions: Decision) -> View:
    return View((CHAT, DOCS), 1700.0, 287.2, 0.0, 8, 4, 80.0, decisions)


def text_of(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_log_tells_each_decision_once() -> None:
    console = Console(file=StringIO(), width=120)
    screen = PlainScreen(console)
    screen.show(view(decided(1)), elapsed=10, left=100)
    screen.show(view(decided(2), decided(1)), elapsed=11, left=99)
    assert text_of(console).count("chat: ScaleUp (Concurrency)") == 2


def test_a_log_names_load_watts_waste_and_grid() -> None:
    console = Console(file=StringIO(), width=120)
    PlainScreen(console).show(view(), elapsed=65, left=100)
    line = text_of(console).splitlines()[-1]
    assert line == (
        " 1:05   chat 2/3 bf16 187 req 1,204 W 0.131 J/tok | docs 0/0 bf16 Idle 0 W | all 1,700 W, waste 287 W, grid 80"
    )


def test_what_is_not_known_is_a_question_mark() -> None:
    console = Console(file=StringIO(), width=120)
    unknown = View((ServiceRow("chat", 0, 1, "", "Unknown", None, None, None, None),), None, None, None, 8, 8, None)
    PlainScreen(console).show(unknown, elapsed=1, left=100)
    assert text_of(console).splitlines()[-1] == "  0:01   chat 0/1 Unknown ? | all ?, waste ?, grid ?".replace(
        "  0", " 0"
    )


def test_the_live_screen_fits_a_terminal_of_100_by_30() -> None:
    console = Console(file=StringIO(), width=100, height=30, force_terminal=True, color_system=None)
    screen = LiveScreen(console)
    try:
        screen.phase(3, 7, "Load falls, and docs goes quiet", "One line of reasons.\nAnd another one.")
        for number in range(4):
            screen.say(f"note {number}")
        screen.show(view(*(decided(second) for second in range(9, 0, -1))), elapsed=65, left=100)
        lines = console.render_lines(screen.frame(), console.options, pad=False)
    finally:
        screen.close()
    words = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert len(lines) <= 30
    assert max(len(line) for line in words.splitlines()) <= 100
    for shown in ("Load falls", "note 3", "chat", "187", "1,204 W", "0.131", "287 W", "80 gCO2e/kWh", "1:40 left"):
        assert shown in words


def test_closing_the_live_screen_leaves_the_decisions_to_scroll_back_to() -> None:
    console = Console(file=StringIO(), width=100, height=30, force_terminal=True, color_system=None)
    screen = LiveScreen(console)
    screen.phase(1, 7, "Two services start", "")
    screen.show(view(decided(1)), elapsed=10, left=100)
    screen.close()
    assert "0:10 * chat: ScaleUp" in text_of(console).rsplit("\x1b[?1049l", 1)[-1]


@pytest.mark.parametrize(
    ("saves", "ends"), [(50.2, "[saves 50 W]"), (-41.0, "[costs 41 W]"), (0.1, LONG), (None, LONG)]
)
def test_a_decision_says_what_it_saves_or_costs(saves: float | None, ends: str) -> None:
    assert sentence(decided(1, saves=saves)).endswith(ends)


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (-3, "0:00")])
def test_the_clock_counts_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
