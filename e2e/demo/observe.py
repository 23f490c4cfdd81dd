"""Looks at the cluster as a user would: Fallow's statuses and Fallow's own metrics.

Only the requests in flight and the count of free GPUs are the simulation's own, since it knows them this second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import Metric

from e2e.demo.view import Decision, ServiceRow, View
from e2e.harness.stack import Stack

Metrics = Mapping[str, Metric]

QUIET = frozenset({"Standby", "Idle"})


class Observer:
    """Decisions are collected over time, since a status keeps only the last five."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._decisions: set[Decision] = set()

    def view(self) -> View:
        services = self._stack.services()
        metrics = self._stack.operator_metrics()
        truth = self._stack.twin_state()
        in_flight = {
            (one["namespace"], one["service"]): float(one["in_flight"] + one["waiting"]) for one in truth["services"]
        }
        rows = tuple(row(service, metrics, in_flight) for service in services)
        for service in services:
            self._decisions.update(decisions(service))
        watts = value(metrics, "fallow_cluster_power_watts")
        held = sum(one.watts or 0.0 for one in rows)
        return View(
            services=rows,
            watts=watts,
            unallocated_watts=None if watts is None else max(watts - held, 0.0),
            idle_watts=None if watts is None else sum(one.watts or 0.0 for one in rows if one.state in QUIET),
            gpus=int(truth["cluster"]["gpus"]),
            free_gpus=int(truth["cluster"]["free_gpus"]),
            intensity=value(metrics, "fallow_zone_carbon_intensity_grams_per_kwh", bound="best"),
            decisions=tuple(sorted(self._decisions, key=lambda one: one.at, reverse=True)),
        )

    def booked_joules(self, service: str) -> float:
        """Energy at the GPU that Fallow has booked on a service so far, all variants together."""
        name = "fallow_gpu_energy_joules"
        return value(self._stack.operator_metrics(), name, service=service, bound="best") or 0.0


def row(service: Mapping[str, Any], metrics: Metrics, in_flight: Mapping[tuple[str, str], float]) -> ServiceRow:
    status = service.get("status", {})
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    mine = {"namespace": namespace, "service": name}
    return ServiceRow(
        name=name,
        ready=int(status.get("readyReplicas", 0)),
        desired=int(status.get("desiredReplicas", 0)),
        variant=status.get("variant", ""),
        state=status.get("idle", {}).get("state", "Unknown"),
        in_flight=in_flight.get((namespace, name)),
        watts=value(metrics, "fallow_service_power_watts", **mine),
        joules_per_token=value(metrics, "fallow_service_joules_per_token", **mine),
        grams=value(metrics, "fallow_carbon_grams", bound="best", **mine),
    )


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The sum of the series with these labels; None without any."""
    family = metrics.get(name)
    if family is None:
        return None
    found = [
        sample.value
        for sample in family.samples
        if not sample.name.endswith("_created") and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


def decisions(service: Mapping[str, Any]) -> Iterator[Decision]:
    for told in service.get("status", {}).get("decision", ()):
        yield Decision(
            at=datetime.fromisoformat(told["at"]),
            service=service["metadata"]["name"],
            action=told["action"],
            reason=told["reason"],
            message=told.get("message", ""),
            saves_watts=told.get("savesWatts"),
        )
