"""Schedules: while a window of a service is open, and as long before as a start takes, it has more fewest replicas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fallow.domain.profiles import Profile
from fallow.domain.snapshots import ClusterView, Pod
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Schedule, Service, ServiceKey, ServiceMemory, Variant
from fallow.planner.capacity import profile_for
from fallow.planner.context import STARTING_LIMIT
from fallow.planner.selection import product_of, serving_of

# A start may take longer than the last one did, and the cycle that begins it comes a little late. Choices.
LONGER, LATE = 1.25, Seconds(30)
# Where nothing tells how long a start takes. A choice: most take less.
UNKNOWN = Seconds(600)


def opened(cluster: ClusterView, now: Instant, before: Mapping[ServiceKey, Schedule]) -> Mapping[ServiceKey, Schedule]:
    """Of each service that has more replicas to keep now than its `minReplicas`: the schedule that asks for most.

    One that was open `before` stays so until its window ends, although its start may turn out to be a short one.
    """
    found: dict[ServiceKey, Schedule] = {}
    for key, service in cluster.services.items():
        if not service.scaling.schedules:
            continue
        early, open_before = lead(cluster, service), before.get(key)
        held = [
            one
            for one in service.scaling.schedules
            if one.window.is_open(now, STARTING_LIMIT if one == open_before else early)
        ]
        most = max(held, key=lambda one: one.replicas, default=None)
        if most is not None and most.replicas > service.scaling.min_replicas:
            found[key] = most
    return found


def raised(service: Service, schedule: Schedule) -> Service:
    """The same with the fewest replicas of a schedule that is open."""
    scaling = service.scaling
    fewest = min(schedule.replicas, scaling.max_replicas)
    return replace(service, scaling=replace(scaling, min_replicas=fewest, opened_by=str(schedule.window)))


def lead(cluster: ClusterView, service: Service) -> Seconds:
    """How long before a window opens its replicas are started."""
    memory = cluster.memory_of(service.key)
    pods, product = cluster.pods_by_service.get(service.key, ()), product_of(cluster, service)
    takes = start_seconds(memory, serving_of(cluster, service, memory), cluster.profiles, product, pods)
    return UNKNOWN if takes is None else Seconds(min(takes * LONGER + LATE, STARTING_LIMIT))


def start_seconds(
    memory: ServiceMemory, serving: Variant, profiles: tuple[Profile, ...], product: str | None, pods: Iterable[Pod]
) -> Seconds | None:
    """How long a start takes: as the last wake did, as the profile says, or as the replicas did that run; None where
    nothing tells.
    """
    if memory.wake_took is not None:
        return memory.wake_took
    profile = profile_for(serving, profiles, product)
    if profile is not None and profile.load_seconds is not None:
        return profile.load_seconds
    took = [pod.ready_since - pod.created for pod in pods if pod.ready_since is not None]
    # one that lost its readiness and has it back tells of that
    believed = [seconds for seconds in took if 0 < seconds <= STARTING_LIMIT]
    return Seconds(max(believed)) if believed else None
