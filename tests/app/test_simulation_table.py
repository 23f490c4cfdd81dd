"""Tables of a simulation in the terminal: every number is whole at any width, and misses are marked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fallow.app.simulation.table import chosen, clock, moved, print_tables
from fallow.app.simulation.telling import About, Saved
from fallow.twin.simulation.result import Outcome
from tests.support.outcomes import (
    ASKED,
    KWH,
    SERVICES,
    a_week,
    bounds,
    decided,
    missed,
    outcome,
    series,
    service_outcome,
    without_traffic,
)


def printed(outcomes: Sequence[Outcome], *, width: int = 80, terminal: bool = True, **changes: Any) -> str:
    file = io.StringIO()
    told: dict[str, Any] = {"title": "A week", "inputs": [], "version": "1", "asked": ASKED} | changes
    print_tables(Console(file=file, width=width, force_terminal=terminal, color_system=None), outcomes, About(**told))
    return file.getvalue()


def large() -> list[Outcome]:
    """What a large fleet uses, under the longest name."""
    return [
        outcome(name, service_outcome(kwh=kwh, requests=9e8, done=9e8, good=8.99e8, unfinished=123_456), currency="EUR")
        for name, kwh in (("fallow", 1_234_567.0), ("keda-carbon", 7_654_321.0))
    ]


@pytest.mark.parametrize("width", [30, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    for outcomes in (a_week(3, "fallow", "static-100", "keda-carbon"), large()):
        text = printed(outcomes, width=width, bounds=bounds(), savings={"rest": Saved(KWH, 0.99, 2 * KWH)})

        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
    for number in ("1,230,000", "7,650,000", "900,000,000", "123,456", "99.89%"):
        assert number in text


def test_a_row_is_one_line_at_80_columns() -> None:
    lines = printed(a_week(3, "fallow", "static-70", "keda-carbon"), bounds=bounds(120, 130, 150)).splitlines()
    rows = [line.split() for line in lines if line.startswith("keda-carbon ")]

    assert rows[0] == ["keda-carbon", "715", "+86%", "279", "1,673", "279", "90.01%", "!", "43.1", "-"]
    assert rows[1][:3] == ["keda-carbon", "300,000", "30"]


def test_without_a_terminal_a_row_is_one_line_at_any_width() -> None:
    lines = printed(a_week(), width=20, terminal=False).splitlines()

    assert ["fallow", "385", "150", "901", "150", "99.50%", "23.2"] in [line.split() for line in lines]
    assert not any("\x1b" in line for line in lines)


def test_what_nobody_knows_has_no_column() -> None:
    text = printed([outcome("fallow", service_outcome(cost=None), currency="")])

    assert text.splitlines()[1].split() == ["controller", "kWh", "kgCO2e", "water", "L", "in", "time", "J/token"]


def test_a_missed_objective_is_marked_and_explained() -> None:
    assert "!" not in printed([outcome("fallow"), outcome("hpa", without_traffic())])
    text = printed([outcome("fallow", missed())])

    assert "90.01% !" in text
    assert "a service has fewer in time than the 99% it asks for" in text


def test_replicas_are_told_by_mean_and_most() -> None:
    over = series(1)
    most = float(np.sum(list(over.ready.values()), axis=0).max())
    row = next(line for line in printed([outcome("fallow", over=over)]).splitlines()[4:] if line.startswith("fallow "))

    assert f" {most:.3g} " in row


def test_decisions_are_told_with_their_reasons() -> None:
    text = printed([outcome("fallow", decisions=tuple(decided(number) for number in range(30)))], width=160)

    assert "12 of the 30 decisions of fallow" in text
    assert "day 1, 00:15:00  llm/chat  bf16 1 → 2  Replicas: 63 requests in flight" in text


def test_decisions_of_baselines_have_no_reason() -> None:
    text = printed([outcome("hpa", decisions=(decided(lever="", reason="", message=""),))])

    assert "llm/chat  bf16 1 → 2\n" in text


def test_each_service_has_as_many_of_the_chosen_decisions() -> None:
    busy = [decided(number, SERVICES[0], before={"bf16": 0}, after={"bf16": 9}) for number in range(50)]
    calm = [decided(60, SERVICES[1]), decided(61, SERVICES[1], before={"bf16": 5}, after={"fp8": 5})]
    kept = chosen([*busy, *calm], 4)

    assert [one.service for one in kept] == [SERVICES[0]] * 2 + [SERVICES[1]] * 2
    assert chosen(calm, 1) == [calm[1]]
    assert chosen(calm, 9) == calm


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"bf16": 1}, {"bf16": 0, "fp8": 1}, "bf16 1 → 0, fp8 0 → 1"),
        ({"bf16": 1, "fp8": 2}, {"bf16": 1, "fp8": 3}, "fp8 2 → 3"),
        ({"bf16": 1}, {"bf16": 1}, "as before"),
    ],
)
def test_what_changes_is_told_by_variant(before: dict[str, int], after: dict[str, int], words: str) -> None:
    assert moved(decided(before=before, after=after)) == words


def test_time_is_told_by_day_and_clock() -> None:
    assert clock(86_400 + 3600 + 62) == "day 2, 01:01:02"
