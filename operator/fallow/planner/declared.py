"""What follows from what people declared and from nothing else: reckoned anew only where something of it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow.domain.policies import UTC, Policy
from fallow.domain.profiles import Profile
from fallow.domain.snapshots import ClusterView
from fallow.domain.workloads import Service, ServiceKey
from fallow.planner.selection import cluster_time_zone, time_zones
from fallow.planner.targets import concurrency_targets


@dataclass(frozen=True, slots=True)
class Declared:
    """The calendars and targets of a snapshot, and the very `services`, `policies` and `profiles` that they are of."""

    services: Mapping[ServiceKey, Service] = field(default_factory=dict)
    policies: tuple[Policy, ...] = ()
    profiles: tuple[Profile, ...] = ()
    time_zones: Mapping[ServiceKey, str] = field(default_factory=dict)
    time_zone: str = UTC
    targets: Mapping[tuple[ServiceKey, str], float] = field(default_factory=dict)


def declared(cluster: ClusterView, before: Declared) -> Declared:
    """Of a cluster, or what it was `before` as long as nothing was declared since."""
    if (
        cluster.services is before.services
        and cluster.policies is before.policies
        and cluster.profiles is before.profiles
    ):
        return before
    return Declared(
        services=cluster.services,
        policies=cluster.policies,
        profiles=cluster.profiles,
        time_zones=time_zones(cluster),
        time_zone=cluster_time_zone(cluster.policies),
        targets=concurrency_targets(cluster),
    )
