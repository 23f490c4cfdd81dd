"""Reports from a real Prometheus that holds two months of the operator's own series."""

from __future__ import annotations

import csv
import http.client
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typer.testing import CliRunner

from e2e.harness import build
from e2e.harness.control_plane import answers_ok
from e2e.harness.process import Program, free_ports, wait_for
from fallow.adapters.reports.books import book_families
from fallow.api.metric_names import AT_WORK, BUDGET, BUILD, POLICY, TARGET
from fallow.app.cli import app
from fallow.domain.calendars import CalendarPeriod, period
from fallow.domain.figures import Bounds, Figure
from fallow.domain.ledger import Account, Book, Ledger, LineKey, LineKind, Period
from fallow.domain.units import Grams, Instant, Joules, Litres, Money
from tests.support.pages import PageServer

pytestmark = pytest.mark.cluster

CHAT = LineKey(LineKind.SERVICE, "llm", "chat", "bf16", "north")
LAB = LineKey(LineKind.FOREIGN, "lab", zone="north")
FREE = LineKey(LineKind.UNALLOCATED, zone="north")
DAILY = {CHAT: 10.0, LAB: 4.0, FREE: 2.0}
STEP = 300
# the operator was down for half of this day
LAME = 5


class Shown(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def account(kwh: float, line: LineKey) -> Account:
    energy = Figure.around(Joules(kwh * 3.6e6), Bounds(0.95, 1.05))
    return Account(
        energy=energy,
        bare=energy.best if line is FREE else Joules(0),
        parked=Joules(kwh * 0.3 * 3.6e6) if line is CHAT else Joules(0),
        facility=energy * 1.3,
        carbon=Figure.around(Grams(kwh * 400), Bounds(0.9, 1.1)),
        water=Figure.exact(Litres(kwh * 2)),
        embodied=Figure.exact(Grams(kwh * 20)),
        costs={"EUR": Figure.exact(Money(kwh * 0.25))},
        generated_tokens=kwh * 1e5 if line is CHAT else 0.0,
        requests=kwh * 1e3 if line is CHAT else 0.0,
    )


def exposed(at: Instant, days: float) -> str:
    """The operator's page after so many days of constant use, each sample with its time."""
    books = {}
    for line, kwh in DAILY.items():
        total = Period(at, account(kwh * days, line))
        books[line] = Book(total, total, total, total, total)
    declared = []
    for name, labels, value in (
        (POLICY, {"namespace": "llm", "service": "chat", "policy": "green"}, 1.0),
        (BUDGET, {"policy": "green", "period": "Month", "unit": "grams"}, 100_000.0),
        (BUILD, {"version": "0.1.0", "method": "fallow/2"}, 1.0),
    ):
        family = GaugeMetricFamily(name, "declared", labels=tuple(labels))
        family.add_metric(tuple(labels.values()), value)
        declared.append(family)
    registry = CollectorRegistry()
    registry.register(Shown([*book_families(Ledger(at, at, books=books)), *declared]))
    lines = generate_latest(registry).decode().splitlines()
    return "".join(f"{line} {at * 1000:.0f}\n" for line in lines if not line.startswith("#"))


def history(month: CalendarPeriod) -> str:
    """The month before and the month, looked at just before each midnight, and a cycle every five minutes."""
    page = []
    edges = [*list(month.before().boundaries())[:-1], *month.boundaries()]
    for number, (_, midnight) in enumerate(edges):
        page.append(exposed(Instant(midnight - 60), number))
        if number == len(edges) - 1:
            break
        lame = number == month.before().days + LAME - 1
        steps = 86_400 // STEP // (2 if lame else 1)
        page.extend(f"{AT_WORK} 0.2 {(midnight + step * STEP) * 1000:.0f}\n" for step in range(steps))
    target = {"policy": "green", "measure": "carbonPerToken", "since": month.before().title, "by": "2099-01"}
    labels = ",".join(f'{name}="{value}"' for name, value in target.items())
    page.append(f"{TARGET}{{{labels}}} 0.3 {(edges[-1][1] - 60) * 1000:.0f}\n")
    return "".join(page)


@pytest.fixture(scope="module")
def month() -> CalendarPeriod:
    """The last month that is over."""
    return period(f"{datetime.now(UTC):%Y-%m}", ZoneInfo("UTC")).before()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, month: CalendarPeriod) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    program = build.ensure(["prometheus"], quiet=True)["prometheus"]
    (port,) = free_ports(1)
    with PageServer(history(month)) as pages:
        (folder / "prometheus.yaml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "2s"},
                    "scrape_configs": [{"job_name": "fallow", "static_configs": [{"targets": [pages.address]}]}],
                }
            )
        )
        running = Program(
            "prometheus",
            [
                str(program),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=1000d",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder / "prometheus.log",
        )
        running.start()
        try:
            running.wait_until(
                lambda: answers_ok(http.client.HTTPConnection("127.0.0.1", port, timeout=2), "/-/ready"), 60
            )
            wait_for(lambda: pages.served > 1, "the second scrape", 60)
            yield f"http://127.0.0.1:{port}"
        finally:
            running.stop()


def report(url: str, *options: str) -> str:
    done = CliRunner().invoke(app, ["report", "--prometheus-url", url, *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def document(url: str, month: CalendarPeriod, *options: str) -> Any:
    return json.loads(report(url, "--month", month.title, "-o", "json", *options))


def test_a_month_is_the_difference_of_its_midnights(prometheus: str, month: CalendarPeriod) -> None:
    told = document(prometheus, month)
    assert told["total"]["energy_kwh_best"] == pytest.approx(16 * month.days, rel=1e-6)
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == ["llm/chat", "other pods in lab", "held by nobody"]
    assert rows["llm/chat"]["energy_kwh_low"] == pytest.approx(9.5 * month.days, rel=1e-6)
    assert rows["llm/chat"]["generated_tokens"] == 1e6 * month.days
    assert rows["llm/chat"]["sci_g_per_token"] == pytest.approx((400 + 20) / 1e5, rel=1e-5)
    assert rows["held by nobody"]["energy_j_per_token"] is None
    assert {day["facility_energy_kwh_best"] for day in told["days"]} == {20.8}
    assert len(told["days"]) == month.days


def test_the_month_before_stands_beside_it(prometheus: str, month: CalendarPeriod) -> None:
    before = document(prometheus, month)["total"]["before"]
    assert before["energy_kwh_best"] == pytest.approx(16 * month.before().days, rel=1e-6)


def test_waste_goals_and_gaps_are_told(prometheus: str, month: CalendarPeriod) -> None:
    told = document(prometheus, month, "--by", "policy")
    assert [(one["name"], round(one["kwh"] / month.days, 3)) for one in told["waste"]] == [
        ("llm/chat", 3),
        ("held by nobody", 2),
    ]
    (target,) = told["targets"]
    assert (target["measure"], target["reached"], target["standing"]) == ("carbonPerToken", pytest.approx(0), "behind")
    (budget,) = told["budgets"]
    assert budget["used"] == pytest.approx(4 * month.days, rel=1e-5)
    assert told["gaps"] == [
        f"{month.first.isoformat()[:8]}{LAME:02}: Fallow was seen 50% of the time; its counters cover the rest"
    ]
    assert told["versions"] == ["0.1.0 (fallow/2)"]


def test_the_table_has_one_line_for_each_row_and_the_whole(prometheus: str, month: CalendarPeriod) -> None:
    rows = list(
        csv.DictReader(io.StringIO(report(prometheus, "--month", month.title, "-o", "csv", "--by", "namespace")))
    )
    assert [row["namespace"] for row in rows] == ["llm", "lab", "held by nobody", "cluster"]
    parts = [float(row["energy_kwh_best"]) for row in rows]
    assert sum(parts[:-1]) == pytest.approx(parts[-1])
    assert float(rows[-1]["cost_EUR_best"]) == pytest.approx(16 * 0.25 * month.days, rel=1e-5)


def test_a_week_and_a_quarter_are_reported_too(prometheus: str, month: CalendarPeriod) -> None:
    _, week, _ = month.first.isocalendar()
    title = f"{month.first.isocalendar().year}-W{week + 1:02}" if week < 52 else ""
    if title:
        told = json.loads(report(prometheus, "--week", title, "-o", "json"))
        assert told["total"]["energy_kwh_best"] == pytest.approx(16 * 7, rel=1e-6)
    quarter = f"{month.first.year}-Q{(month.first.month - 1) // 3 + 1}"
    told = json.loads(report(prometheus, "--quarter", quarter, "-o", "json"))
    assert told["total"]["energy_kwh_best"] >= 16 * month.days * (1 - 1e-6)


class Links(HTMLParser):
    """Everything that a browser would have to fetch, and which elements were left open."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag in {"script", "link", "iframe"}:
            self.found.append(tag)
        if tag not in {"meta", "line", "rect", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"line", "rect"}:
            assert self.open.pop() == tag


def test_the_page_is_one_file_that_fetches_nothing(prometheus: str, month: CalendarPeriod, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    report(prometheus, "--month", month.title, "-o", "html", "--file", str(file))
    page = file.read_text()
    parsed = Links()
    parsed.feed(page)
    assert parsed.found == []
    assert parsed.open == []
    assert len(re.findall("<rect ", page)) == month.days * (3 + 1)
    assert "llm/chat" in page


def test_the_text_reads_like_a_report(prometheus: str, month: CalendarPeriod) -> None:
    text = report(prometheus, "--month", month.title)
    assert f"# Footprint of {month.title}" in text
    assert "| energy at the GPUs | " in text
    assert "ISO/IEC 21031" in text


def test_a_month_without_figures_says_what_to_check(prometheus: str) -> None:
    done = CliRunner().invoke(app, ["report", "--prometheus-url", prometheus, "--month", "2020-01"])
    assert done.exit_code == 1
    assert "no figures of Fallow in 2020-01: does this Prometheus scrape the operator" in done.output
