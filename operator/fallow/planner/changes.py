"""What a service's plan asks of the cluster. Pure; whether it makes a difference is seen when it is carried out."""

from collections.abc import Iterator

from fallow.domain.plans import Change, ClearRequest, KeepVariant, RunVariant, ServicePlan, SetFloor
from fallow.domain.snapshots import Snapshot, Workload
from fallow.domain.tuning import Tuning
from fallow.domain.workloads import Service
from fallow.planner import autoscaled
from fallow.planner.leaving import leaving


def changes(snapshot: Snapshot, plan: ServicePlan) -> list[Change]:
    """A variant that was never run and is wanted at zero needs no Deployment."""
    service = snapshot.cluster.services[plan.key]
    existing = {workload.variant: workload for workload in snapshot.workloads_of(plan.key)}
    found: list[Change] = []
    if not service.paused:
        for variant, count in plan.replicas.items():
            workload = existing.get(variant)
            if workload is not None and workload.scalers:
                found.extend(_beside_autoscalers(service, workload, count, plan.tuning(variant)))
            elif count > 0 or workload is not None:
                goes = leaving(snapshot, plan, variant)
                found.append(RunVariant(service, variant, count, plan.tuning(variant), goes))
    if plan.clear_request:
        found.append(ClearRequest(service))
    return found


def _beside_autoscalers(service: Service, workload: Workload, count: int, tuning: Tuning) -> Iterator[Change]:
    """An autoscaler does nothing at zero, so from and to zero Fallow sets the replicas, and else the minimum alone."""
    if (count == 0) is not (workload.replicas == 0):
        yield RunVariant(service, workload.variant, count, tuning)
        return
    if count > 0:
        yield KeepVariant(service, workload.variant, tuning)
    scaler = workload.scaler
    if scaler is not None and count != autoscaled.floor(workload):
        yield SetFloor(service, workload.variant, scaler, autoscaled.minimum(scaler, count))


def takes_away(snapshot: Snapshot, change: Change) -> bool:
    if isinstance(change, SetFloor):
        return change.minimum < change.scaler.minimum
    if not isinstance(change, RunVariant):
        return False
    now = {workload.variant: workload.replicas for workload in snapshot.workloads_of(change.service.key)}
    return change.replicas < now.get(change.variant, 0)
