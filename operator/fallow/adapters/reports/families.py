"""The last cycle's report as Prometheus metric families. What is not known has no series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric

from fallow.adapters.reports.books import book_families
from fallow.adapters.reports.budgets import budget_families
from fallow.adapters.reports.declared import declared_families
from fallow.adapters.reports.learned import learned_families
from fallow.adapters.reports.periods import period_families
from fallow.api.metric_names import AT_WORK
from fallow.domain.figures import Figure, Missing
from fallow.domain.reports import CycleReport
from fallow.domain.units import Quantity
from fallow.domain.workloads import IdleState

Q = TypeVar("Q", bound=Quantity)

SERVICE = ("namespace", "service")
VARIANT = (*SERVICE, "variant")


def families(report: CycleReport) -> Iterator[Metric]:
    if report.ledger is not None:
        yield from book_families(report.ledger)
        yield from period_families(report.ledger)
    yield from declared_families(report)
    yield from budget_families(report)
    yield from learned_families(report)
    yield from _services(report)
    yield from _replicas(report)
    yield from _zones(report)
    yield from _cycle(report)


def _services(report: CycleReport) -> Iterator[Metric]:
    power = GaugeMetricFamily("fallow_service_power_watts", "Draw of the GPUs that the service holds.", labels=SERVICE)
    cost = GaugeMetricFamily(
        "fallow_service_joules_per_token", "GPU energy per generated token over the recent window.", labels=SERVICE
    )
    for key, estimate in sorted(report.estimates.services.items()):
        labels = (key.namespace, key.name)
        if not isinstance(estimate.watts, Missing):
            power.add_metric(labels, estimate.watts.value)
        if not isinstance(estimate.joules_per_token, Missing):
            cost.add_metric(labels, estimate.joules_per_token)
    yield from (power, cost)
    yield from _work(report)
    state = GaugeMetricFamily(
        "fallow_service_idle_state", "1 for the state that the service is in.", labels=(*SERVICE, "state")
    )
    conditions = GaugeMetricFamily(
        "fallow_service_condition",
        "1 for the status that the condition has.",
        labels=(*SERVICE, "type", "status", "reason"),
    )
    for key, plan in sorted(report.plan.services.items()):
        labels = (key.namespace, key.name)
        for possible in IdleState:
            state.add_metric((*labels, possible.value), float(plan.memory.idle_state is possible))
        for condition in plan.conditions:
            status = "Unknown" if condition.status is None else str(condition.status)
            conditions.add_metric((*labels, condition.type, status, str(condition.reason)), 1)
    yield from (state, conditions)
    limit = GaugeMetricFamily(
        "fallow_service_power_limit_watts", "Power limit of each GPU of the service under a cap.", labels=SERVICE
    )
    clock = GaugeMetricFamily(
        "fallow_service_clock_ratio",
        "Highest SM clock of the service's GPUs as Fallow sets it, of the highest that they have.",
        labels=SERVICE,
    )
    for key, plan in sorted(report.plan.services.items()):
        if plan.power_limit is not None:
            limit.add_metric((key.namespace, key.name), plan.power_limit.value)
        if plan.clock is not None:
            clock.add_metric((key.namespace, key.name), plan.clock)
    yield from (limit, clock)


def _work(report: CycleReport) -> Iterator[Metric]:
    labels = (*VARIANT, "bound")
    intensity = GaugeMetricFamily(
        "fallow_service_flops_per_byte",
        "Arithmetic intensity of the engines' work as vLLM estimates it, FLOP for each byte that memory moves.",
        labels=labels,
    )
    ridge = GaugeMetricFamily(
        "fallow_service_ridge_flops_per_byte",
        "Arithmetic intensity from which on the engines' GPU has more to compute than to move.",
        labels=labels,
    )
    for key, estimate in sorted(report.estimates.services.items()):
        for variant, bound in sorted(estimate.rooflines.items()):
            if not isinstance(bound, Missing):
                _bounded(intensity, (key.namespace, key.name, variant), bound.intensity)
                _bounded(ridge, (key.namespace, key.name, variant), bound.ridge)
    yield from (intensity, ridge)


def _replicas(report: CycleReport) -> Iterator[Metric]:
    desired = GaugeMetricFamily("fallow_service_replicas_desired", "Replicas that Fallow wants.", labels=VARIANT)
    ready = GaugeMetricFamily("fallow_service_replicas_ready", "Replicas that answer.", labels=VARIANT)
    answering = Counter(
        (pod.service, pod.variant)
        for pod in report.snapshot.cluster.pods.values()
        if pod.service and pod.ready and not pod.deleting
    )
    for key, plan in sorted(report.plan.services.items()):
        for variant, count in sorted(plan.asked.items()):
            labels = (key.namespace, key.name, variant)
            desired.add_metric(labels, count)
            ready.add_metric(labels, answering[key, variant])
    yield from (desired, ready)


def _zones(report: CycleReport) -> Iterator[Metric]:
    intensity = GaugeMetricFamily(
        "fallow_zone_carbon_intensity_grams_per_kwh", "Carbon intensity of the grid, gCO2e.", labels=("zone", "bound")
    )
    age = GaugeMetricFamily("fallow_zone_carbon_intensity_age_seconds", "Age of that value.", labels=("zone",))
    for name, reading in sorted(report.snapshot.zones.items()):
        if not isinstance(reading.intensity, Missing):
            _bounded(intensity, (name,), reading.intensity.grams)
            age.add_metric((name,), max(report.snapshot.at - reading.intensity.at, 0))
    yield from (intensity, age)


def _cycle(report: CycleReport) -> Iterator[Metric]:
    took = GaugeMetricFamily(AT_WORK, "How long the last cycle took.")
    took.add_metric((), report.took)
    queries = GaugeMetricFamily("fallow_cycle_metric_queries", "Requests to the metric source in the last cycle.")
    queries.add_metric((), report.queries)
    faults = GaugeMetricFamily(
        "fallow_faults", "Signals that could not be read in the last cycle, by reason.", labels=("signal", "reason")
    )
    for (signal, reason), number in sorted(_faults(report).items()):
        faults.add_metric((signal, reason), number)
    invalid = GaugeMetricFamily("fallow_invalid_objects", "Objects whose spec cannot be read.", labels=("kind",))
    for kind, number in sorted(Counter(part.kind for part in report.snapshot.cluster.invalid).items()):
        invalid.add_metric((kind,), number)
    yield from (took, queries, faults, invalid)
    if not isinstance(report.estimates.cluster_watts, Missing):
        drawn = GaugeMetricFamily("fallow_cluster_power_watts", "Draw of all GPUs that report their power.")
        drawn.add_metric((), report.estimates.cluster_watts.value)
        yield drawn


def _faults(report: CycleReport) -> Counter[tuple[str, str]]:
    readings = report.snapshot.readings
    whole = (
        ("engines", readings.engine_fault),
        ("gpus", readings.gpu_fault),
        ("hosts", readings.host_fault),
        ("waiting", readings.waiting_fault),
    )
    found = Counter((signal, str(fault.reason)) for signal, fault in whole if fault is not None)
    found.update(("pod", str(fault.reason)) for fault in readings.pod_faults.values())
    found.update(
        ("intensity", str(reading.intensity.reason))
        for reading in report.snapshot.zones.values()
        if isinstance(reading.intensity, Missing)
    )
    return found


def _bounded(family: GaugeMetricFamily, labels: tuple[str, ...], figure: Figure[Q]) -> None:
    for bound, value in (("low", figure.low), ("best", figure.best), ("high", figure.high)):
        family.add_metric((*labels, bound), value.value)
