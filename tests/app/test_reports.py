"""What a report is made of: numbers with units, short texts, the drawing, and the command's words for bad input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fallow.app.cli import app
from fallow.app.reports.chart import BOTTOM, HEIGHT, TOP, WIDTH, stacked
from fallow.app.reports.figures import change, numbers, text
from fallow.domain.figures import Figure
from fallow.domain.ledger import Account
from fallow.domain.units import Grams, Joules

KWH = 3.6e6


def test_what_is_not_known_is_none_and_never_zero() -> None:
    unknown = Account(facility=Figure.exact(Joules(KWH)), unpriced=Joules(KWH), unmarketed=Joules(KWH))
    told = numbers(unknown)
    assert told["facility_energy_kwh_best"] == 1
    for name in ("carbon_kg_best", "market_carbon_kg_low", "energy_j_per_token", "sci_g_per_token"):
        assert told[name] is None
    assert numbers(Account())["carbon_kg_best"] == 0


def test_a_sum_that_is_partly_known_is_shown() -> None:
    partly = Account(
        facility=Figure.exact(Joules(2 * KWH)),
        unpriced=Joules(KWH),
        carbon=Figure.exact(Grams(400)),
        generated_tokens=8,
    )
    assert numbers(partly)["carbon_kg_best"] == 0.4
    assert numbers(partly)["sci_g_per_token"] is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0 kWh"),
        (0.00123, "0.00123 kWh"),
        (12.34, "12.3 kWh"),
        (1234, "1,234 kWh"),
        (12345, "12,345 kWh"),
        (5.67e6, "5,670,000 kWh"),
    ],
)
def test_texts_have_three_digits(value: float | None, shown: str) -> None:
    assert text(value, "kWh") == shown


def test_a_change_needs_something_to_compare_with() -> None:
    assert [change(90, 100), change(100, None), change(None, 100), change(5, 0)] == ["-10%", "", "", ""]


amounts = st.lists(st.just(0.0) | st.floats(1, 1e6), min_size=31, max_size=31)


@given(amounts, amounts)
def test_bars_stay_inside_the_drawing_and_grow_with_their_values(one: list[float], other: list[float]) -> None:
    labels = [f"2026-10-{number + 1:02}" for number in range(31)]
    chart = stacked(labels, {"useful": one, "bare": other}, "kWh")
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH
        assert bar.y >= TOP - 1e-6
        assert bar.y + bar.height <= HEIGHT - BOTTOM + 1e-6
    heights = {bar.x: 0.0 for bar in chart.bars}
    for bar in chart.bars:
        heights[bar.x] += bar.height
    sums = sorted(a + b for a, b in zip(one, other, strict=True) if a + b > 0)
    assert sorted(heights.values()) == pytest.approx(
        [value / max(sums) * max(heights.values()) for value in sums], rel=1e-6, abs=1e-6
    )


def test_nothing_at_all_draws_an_empty_chart() -> None:
    assert stacked(["2026-10-01"], {"useful": [0.0]}, "kWh").bars == ()
    assert stacked([], {}, "kWh").bars == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say which period: one of --month 2026-11, --week 2026-W47 or --quarter 2026-Q4"),
        (["--month", "2026-10", "--week", "2026-W40"], "say which period: one of"),
        (["--month", "2026-10"], "say where the history is: --prometheus-url http://HOST:PORT"),
        (["--month", "2026-13", "--prometheus-url", "http://localhost:1"], "'2026-13' is no period: write a month"),
        (["--month", "2026-10", "--prometheus-url", "localhost"], "'localhost' is no address of Prometheus"),
        (
            ["--month", "2026-10", "--prometheus-url", "http://localhost:1", "--time-zone", "Mars/Olympus"],
            "'Mars/Olympus' is no time zone: write one such as Europe/Berlin",
        ),
    ],
)
def test_bad_input_gets_a_line_that_says_what_to_write(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FALLOW_PROMETHEUS_URL", raising=False)
    done = CliRunner().invoke(app, ["report", *options])
    assert done.exit_code == 2
    assert message in done.output
