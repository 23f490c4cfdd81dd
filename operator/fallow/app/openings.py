"""The cluster as it is to be served now: services whose schedule is open have more replicas as their fewest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fallow.domain.snapshots import ClusterView
from fallow.domain.units import Instant
from fallow.domain.workloads import Schedule, Service, ServiceKey
from fallow.planner.opening import opened, raised


class Openings:
    """While the same schedules are open of the same services, those that it gives are the same too."""

    def __init__(self) -> None:
        self._declared: Mapping[ServiceKey, Service] = {}
        self._open: Mapping[ServiceKey, Schedule] = {}
        self._services: Mapping[ServiceKey, Service] = {}

    def seen(self, cluster: ClusterView, now: Instant) -> ClusterView:
        found = opened(cluster, now, self._open)
        if found != self._open or cluster.services is not self._declared:
            changed = {key: raised(cluster.services[key], schedule) for key, schedule in found.items()}
            self._declared, self._open = cluster.services, found
            self._services = {**cluster.services, **changed} if changed else cluster.services
        return replace(cluster, services=self._services) if found else cluster
