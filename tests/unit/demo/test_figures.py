"""The demo's own arithmetic: the ruler over time, carbon by stretches, and figures from metrics."""

from __future__ import annotations

from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.demo.meter import Meter, sample
from e2e.demo.observe import decisions, value
from e2e.demo.summary import grams, rows
from e2e.harness.stack import Stack
from fallow.twin.traffic import Arrival

METRICS = """\
# TYPE fallow_carbon_grams_total counter
fallow_carbon_grams_total{namespace="demo",service="chat",variant="bf16",bound="best"} 2.5
fallow_carbon_grams_total{namespace="demo",service="chat",variant="fp8",bound="best"} 0.5
fallow_carbon_grams_total{namespace="demo",service="chat",variant="fp8",bound="low"} 0.25
# TYPE fallow_cluster_power_watts gauge
fallow_cluster_power_watts 1700
"""


class Twin:
    """Stands for a stack whose twin answers these states in turn, the last one again and again."""

    def __init__(self, *states: dict[str, object]) -> None:
        self._states = list(states)

    def twin_state(self) -> dict[str, object]:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


def state(now: float, joules: float, chat: float) -> dict[str, object]:
    service = {"namespace": "demo", "service": "chat", "joules": {"total": chat}}
    return {"now": now, "cluster": {"joules": joules}, "services": [service]}


def test_the_meter_reads_between_its_samples_in_proportion() -> None:
    with Meter(cast(Stack, Twin(state(100, 1000, 0), state(110, 3000, 500)))) as meter:
        meter.wait_past(105, limit=10)
    assert meter.cluster_at(105) == 2000
    assert meter.service_at("demo/chat", 107.5) == 375
    assert meter.cluster_at(90) == 1000
    assert meter.cluster_at(200) == 3000


def test_a_service_that_is_not_there_yet_has_used_nothing() -> None:
    assert sample(state(1, 2, 3)).services.get("demo/docs", 0.0) == 0.0


def test_every_stretch_of_energy_meets_its_own_intensity() -> None:
    kwh = 3.6e6
    assert grams([0.0, kwh, 2 * kwh, 4 * kwh]) == pytest.approx(80 + 420 + 2 * 80)


def test_figures_add_up_over_variants_and_unknown_ones_are_none() -> None:
    metrics = {family.name: family for family in text_string_to_metric_families(METRICS)}
    assert value(metrics, "fallow_carbon_grams", service="chat", bound="best") == 3.0
    assert value(metrics, "fallow_cluster_power_watts") == 1700
    assert value(metrics, "fallow_carbon_grams", service="docs") is None
    assert value(metrics, "fallow_absent") is None


def test_a_trace_is_read_as_the_twin_writes_it() -> None:
    assert rows("arrival,prompt,output\n0.250000,300,12\n1.500000,20,700\n") == [
        Arrival(0.25, 300, 12),
        Arrival(1.5, 20, 700),
    ]


def test_decisions_come_from_the_status() -> None:
    told = {"at": "2026-01-01T00:00:05Z", "action": "Rest", "reason": "IdleLongEnough", "message": "quiet for 30 s"}
    (decision,) = decisions({"metadata": {"name": "docs"}, "status": {"decision": [told]}})
    assert (decision.service, decision.action, decision.reason) == ("docs", "Rest", "IdleLongEnough")
    assert decision.at.timestamp() == 1767225605
