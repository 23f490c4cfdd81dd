"""The last cycle's report as Prometheus metric families. What is not known has no series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account, Ledger, LineKey, LineKind
from fallow.domain.reports import CycleReport
from fallow.domain.units import Quantity
from fallow.domain.workloads import IdleState

Q = TypeVar("Q", bound=Quantity)

SERVICE = ("namespace", "service")
VARIANT = (*SERVICE, "variant")


def families(report: CycleReport) -> Iterator[Metric]:
    if report.ledger is not None:
        yield from _lines(report.ledger)
        yield from _footprints(report.ledger)
    yield from _services(report)
    yield from _replicas(report)
    yield from _zones(report)
    yield from _cycle(report)


def _lines(ledger: Ledger) -> Iterator[Metric]:
    """Every joule of every GPU is on exactly one line, so these add up to what the GPUs' counters say."""
    energy = CounterMetricFamily(
        "fallow_gpu_energy_joules",
        "Energy at the GPU by line of the books: service, foreign, unallocated, unattributed.",
        labels=("line", "namespace", "bound"),
    )
    totals: dict[tuple[str, str], Account] = {}
    for line, book in ledger.books.items():
        key = (line.kind.value, line.namespace)
        totals[key] = totals.get(key, Account()) + book.total.account
    for (kind, namespace), account in sorted(totals.items()):
        _bounded(energy, (kind, namespace), account.energy)
    yield energy
    resets = CounterMetricFamily("fallow_gpu_counter_resets", "Intervals in which a GPU's energy counter began anew.")
    resets.add_metric((), ledger.resets)
    yield resets


def _footprints(ledger: Ledger) -> Iterator[Metric]:
    """Totals by service and variant from the books; they only grow, also across restarts."""
    booked = sorted((line, book.total.account) for line, book in ledger.books.items() if line.kind is LineKind.SERVICE)
    bound = (*VARIANT, "bound")
    energy = CounterMetricFamily("fallow_service_gpu_energy_joules", "Energy at the GPU.", labels=bound)
    facility = CounterMetricFamily(
        "fallow_service_facility_energy_joules", "Energy of GPUs and host share, times PUE.", labels=bound
    )
    carbon = CounterMetricFamily("fallow_service_carbon_grams", "Operational emissions, gCO2e.", labels=bound)
    embodied = CounterMetricFamily(
        "fallow_service_embodied_carbon_grams", "Share of the hardware's manufacture, gCO2e.", labels=bound
    )
    water = CounterMetricFamily("fallow_service_water_litres", "Water consumed.", labels=bound)
    for line, account in booked:
        labels = _variant(line)
        _bounded(energy, labels, account.energy)
        _bounded(facility, labels, account.facility)
        _bounded(carbon, labels, account.carbon)
        _bounded(embodied, labels, account.embodied)
        _bounded(water, labels, account.water)
    yield from (energy, facility, carbon, embodied, water)
    yield from _plain_totals(booked)


def _plain_totals(booked: Iterable[tuple[LineKey, Account]]) -> Iterator[Metric]:
    idle = CounterMetricFamily(
        "fallow_service_idle_energy_joules", "Energy at the GPU while no request was in work.", labels=VARIANT
    )
    unpriced = CounterMetricFamily(
        "fallow_service_unpriced_energy_joules",
        "Facility energy for which no carbon intensity was known; the emissions leave it out.",
        labels=VARIANT,
    )
    tokens = CounterMetricFamily("fallow_service_tokens", "Tokens through the engines.", labels=(*VARIANT, "kind"))
    requests = CounterMetricFamily("fallow_service_requests", "Finished requests.", labels=VARIANT)
    for line, account in booked:
        labels = _variant(line)
        idle.add_metric(labels, account.idle.value)
        unpriced.add_metric(labels, account.unpriced.value)
        tokens.add_metric((*labels, "prompt"), account.prompt_tokens)
        tokens.add_metric((*labels, "generated"), account.generated_tokens)
        requests.add_metric(labels, account.requests)
    yield from (idle, unpriced, tokens, requests)


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


def _replicas(report: CycleReport) -> Iterator[Metric]:
    desired = GaugeMetricFamily("fallow_service_replicas_desired", "Replicas that Fallow wants.", labels=VARIANT)
    ready = GaugeMetricFamily("fallow_service_replicas_ready", "Replicas that answer.", labels=VARIANT)
    answering = Counter(
        (pod.service, pod.variant)
        for pod in report.snapshot.cluster.pods.values()
        if pod.service and pod.ready and not pod.deleting
    )
    for key, plan in sorted(report.plan.services.items()):
        for variant, count in sorted(plan.replicas.items()):
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
    took = GaugeMetricFamily("fallow_cycle_duration_seconds", "How long the last cycle took.")
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
    whole = (("engines", readings.engine_fault), ("gpus", readings.gpu_fault), ("waiting", readings.waiting_fault))
    found = Counter((signal, str(fault.reason)) for signal, fault in whole if fault is not None)
    found.update(("pod", str(fault.reason)) for fault in readings.pod_faults.values())
    found.update(
        ("intensity", str(reading.intensity.reason))
        for reading in report.snapshot.zones.values()
        if isinstance(reading.intensity, Missing)
    )
    return found


def _variant(line: LineKey) -> tuple[str, str, str]:
    return (line.namespace, line.name, line.variant)


def _bounded(family: CounterMetricFamily | GaugeMetricFamily, labels: tuple[str, ...], figure: Figure[Q]) -> None:
    for bound, value in (("low", figure.low), ("best", figure.best), ("high", figure.high)):
        family.add_metric((*labels, bound), value.value)
