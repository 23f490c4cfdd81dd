"""The operator's own metrics, as a scrape reads them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fallow.adapters.reports.metrics import MetricsReporter
from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account, Book, Ledger, LineKey, LineKind, Period
from fallow.domain.plans import ClearRequest, Cordon, CordonNode, Outcome, RunVariant, SetFloor, ShieldPod
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Money
from fallow.domain.workloads import ServiceKey
from tests.adapters.reports.scenes import GROW, MEMORY_BOUND, ledger, report
from tests.support.builders import NOW, ref, scaler, service

CHAT = {"namespace": "llm", "service": "chat"}
BF16 = {**CHAT, "variant": "bf16"}
LINE = {**BF16, "line": "service", "zone": ""}


class Page:
    """A reporter and what a scrape of it shows."""

    def __init__(self, age: float = 0) -> None:
        self.reporter = MetricsReporter(clock=lambda: NOW + age)

    async def tell(self, **changes: Any) -> None:
        await self.reporter.report(report(**changes))

    @property
    def text(self) -> str:
        return generate_latest(self.reporter.registry).decode()

    def value(self, name: str, **labels: str) -> float | None:
        return self.reporter.registry.get_sample_value(name, labels)

    @property
    def names(self) -> set[str]:
        return {family.name for family in text_string_to_metric_families(self.text)}


async def test_before_the_first_cycle_there_are_no_figures() -> None:
    assert not any(name.startswith(("fallow_service", "fallow_gpu", "fallow_cycle_age")) for name in Page().names)


async def test_a_standby_says_that_it_is_one_and_shows_no_totals_a_second_time() -> None:
    leads = True
    reporter = MetricsReporter(clock=lambda: NOW, leads=lambda: leads)
    await reporter.report(report(books=ledger()))
    assert reporter.registry.get_sample_value("fallow_leader") == 1

    leads = False
    assert reporter.registry.get_sample_value("fallow_leader") == 0
    assert "fallow_gpu_energy" not in generate_latest(reporter.registry).decode()


async def test_after_a_change_of_leader_nothing_old_is_shown() -> None:
    page = Page()
    await page.tell(books=ledger())
    page.reporter.forget()

    assert not any(name.startswith("fallow_gpu") for name in page.names)


async def test_totals_of_the_books_are_counters_with_bounds() -> None:
    page = Page()
    await page.tell(books=ledger())

    assert page.value("fallow_gpu_energy_joules_total", **LINE, bound="best") == 7200
    assert page.value("fallow_facility_energy_joules_total", **LINE, bound="high") == 14400
    assert page.value("fallow_gpu_energy_part_joules_total", **LINE, part="parked") == 1800
    assert page.value("fallow_gpu_energy_part_joules_total", **LINE, part="useful") == 5400
    assert page.value("fallow_carbon_grams_total", **LINE, bound="low") == 0.8
    assert page.value("fallow_water_litres_total", **LINE, bound="best") == 0.002
    assert page.value("fallow_tokens_total", **LINE, kind="generated") == 3600
    assert page.value("fallow_requests_total", **LINE) == 10


async def test_every_amount_of_an_account_is_told() -> None:
    """A field that somebody adds to the account and forgets here would be booked and never seen."""
    numbers = {one.name: 1000.0 + place for place, one in enumerate(fields(Account))}
    values: dict[str, Any] = {}
    for name, number in numbers.items():
        empty = getattr(Account(), name)
        if isinstance(empty, Figure):
            values[name] = Figure.exact(type(empty.best)(number))
        elif isinstance(empty, dict):
            values[name] = {"EUR": Figure.exact(Money(number))}
        else:
            values[name] = number if isinstance(empty, float) else type(empty)(number)
    line = LineKey(LineKind.SERVICE, "llm", "chat", "bf16")
    period = Period(NOW, Account(**values))
    page = Page()
    await page.tell(books=Ledger(NOW, NOW, books={line: Book(period, period, period, period, period)}))
    told = {sample.value for family in text_string_to_metric_families(page.text) for sample in family.samples}

    assert {name for name, number in numbers.items() if number not in told} == set()


async def test_a_service_shows_its_calendar_periods_in_its_own_time() -> None:
    page = Page()
    await page.tell(books=ledger(energy=7200))

    assert page.value("fallow_service_period_energy_joules", **CHAT, period="today") == 7200
    assert page.value("fallow_service_period_carbon_grams", **CHAT, period="thisMonth") == 1
    assert page.value("fallow_service_period_tokens", **CHAT, period="lastHour") == 3600
    assert page.value("fallow_booked_until_timestamp_seconds") == NOW


async def test_a_period_before_the_service_was_seen_and_an_unpriced_one_have_no_series() -> None:
    page = Page()
    await page.tell(books=ledger(energy=7200, unpriced=10_800, since=Instant(NOW - 60)))

    assert page.value("fallow_service_period_energy_joules", **CHAT, period="lastMonth") is None
    assert page.value("fallow_service_period_energy_joules", **CHAT, period="thisMonth") == 7200
    assert page.value("fallow_service_period_carbon_grams", **CHAT, period="thisMonth") is None


async def test_without_the_ledger_there_are_no_totals() -> None:
    page = Page()
    await page.tell(books=None)

    assert "fallow_gpu_energy_joules" not in page.names


async def test_a_variant_shows_what_it_computes_for_each_byte_and_the_ridge_of_its_gpu() -> None:
    page = Page()
    await page.tell(rooflines={"bf16": MEMORY_BOUND, "int4": Missing(Reason.NO_WORK)})

    assert page.value("fallow_service_flops_per_byte", **BF16, bound="high") == 68.12
    assert page.value("fallow_service_ridge_flops_per_byte", **BF16, bound="low") == 147.5
    assert page.value("fallow_service_flops_per_byte", **CHAT, variant="int4", bound="best") is None


async def test_a_service_shows_draw_cost_replicas_state_and_conditions() -> None:
    page = Page()
    await page.tell(replicas={"bf16": 2})

    assert page.value("fallow_service_power_watts", **CHAT) == 400
    assert page.value("fallow_service_joules_per_token", **CHAT) == 0.1234
    assert page.value("fallow_service_replicas_desired", **BF16) == 2
    assert page.value("fallow_service_replicas_ready", **BF16) == 1
    assert page.value("fallow_service_idle_state", **CHAT, state="Active") == 1
    assert page.value("fallow_service_idle_state", **CHAT, state="Idle") == 0
    assert page.value("fallow_service_condition", **CHAT, type="Ready", status="True", reason="AsAsked") == 1


async def test_what_is_not_known_has_no_series() -> None:
    page = Page()
    unknown = Missing(Reason.NO_SERIES, "no GPU series")
    await page.tell(watts=unknown, grams=unknown)

    assert page.value("fallow_service_power_watts", **CHAT) is None
    assert page.value("fallow_zone_carbon_intensity_grams_per_kwh", zone="north", bound="best") is None
    assert page.value("fallow_faults", signal="intensity", reason="NoSeries") == 1


async def test_a_zone_shows_its_intensity() -> None:
    page = Page()
    await page.tell(grams=412)

    assert page.value("fallow_zone_carbon_intensity_grams_per_kwh", zone="north", bound="best") == 412
    assert page.value("fallow_zone_carbon_intensity_age_seconds", zone="north") == 0


async def test_a_cycle_shows_its_length_its_queries_and_its_age() -> None:
    page = Page(age=12)
    await page.tell()

    assert page.value("fallow_cycle_duration_seconds") == 0.2
    assert page.value("fallow_cycle_metric_queries") == 7
    assert page.value("fallow_cycle_age_seconds") == 12
    assert page.value("fallow_cluster_power_watts") == 1234
    assert page.value("fallow_cycles_total") == 1


async def test_a_decision_counts_once() -> None:
    page = Page()
    for _ in range(3):
        await page.tell(decision=GROW)

    labels = {"lever": "Replicas", "action": "ScaleUp", "reason": "QueueGrowing", "proposal": "false"}
    assert page.value("fallow_decisions_total", **labels) == 1


async def test_writes_count_by_what_became_of_them() -> None:
    page = Page()
    run, clear = RunVariant(service(), "bf16", 2), ClearRequest(service())
    floor = SetFloor(service(), "bf16", scaler(1), 2)
    await page.tell(
        outcomes=(
            Outcome(run, wrote=True),
            Outcome(run, wrote=False),
            Outcome(clear, wrote=False, error="403 no"),
            Outcome(floor, wrote=True),
            Outcome(ShieldPod(ServiceKey("llm", "chat"), ref("chat-x"), "1", up=True), wrote=True),
            Outcome(CordonNode("gpu-3", Cordon.EMPTY, Instant(0), "green", "why"), wrote=True),
        )
    )

    assert page.value("fallow_workload_writes_total", change="replicas", result="done") == 1
    assert page.value("fallow_workload_writes_total", change="request", result="failed") == 1
    assert page.value("fallow_workload_writes_total", change="minimum", result="done") == 1
    assert page.value("fallow_workload_writes_total", change="shield", result="done") == 1
    assert page.value("fallow_workload_writes_total", change="cordon", result="done") == 1


async def test_every_family_has_a_help_text() -> None:
    page = Page()
    await page.tell(books=ledger())
    families = list(text_string_to_metric_families(page.text))

    assert all(family.documentation for family in families)
    assert all(family.name.startswith("fallow_") for family in families)
