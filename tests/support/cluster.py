"""A cluster in memory: changes take effect at once in its view, or fail the way a test wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.errors import Refused, WriteError
from fallow.domain.plans import (
    Change,
    ClearRequest,
    Cordon,
    CordonNode,
    GpuLimits,
    KeepVariant,
    Outcome,
    RunVariant,
    SetFloor,
    ShieldPod,
)
from fallow.domain.snapshots import ClusterView, Shield, Workload
from fallow.domain.units import Instant
from fallow.domain.workloads import Service, ServiceKey


class FakeCluster:
    """`fault`, where set, is what every write fails with. `changes` lists what was written, in order."""

    def __init__(self, view: ClusterView | None = None) -> None:
        self._view = view or ClusterView()
        self.fault: WriteError | None = None
        self.changes: list[Change] = []
        self.limits: Mapping[str, Mapping[str, GpuLimits]] = {}

    def view(self) -> ClusterView:
        return self._view

    def show(self, view: ClusterView) -> None:
        """What the watches bring next."""
        self._view = view

    async def apply(self, change: Change) -> Outcome:
        try:
            match change:
                case RunVariant():
                    wrote = self._run(change)
                case SetFloor():
                    wrote = self._floor(change.scaler, change.minimum)
                case KeepVariant():
                    wrote = False
                case ClearRequest():
                    wrote = self._clear(change)
                case ShieldPod():
                    wrote = self._shield(change)
                case CordonNode():
                    wrote = self._cordon(change)
        except WriteError as error:
            return Outcome(change, wrote=False, error=str(error), refused=isinstance(error, Refused))
        if wrote:
            self.changes.append(change)
        return Outcome(change, wrote=wrote)

    async def limit(self, limits: Mapping[str, Mapping[str, GpuLimits]], now: Instant) -> tuple[str, ...]:  # noqa: ARG002
        self.limits = limits
        return ()

    async def hand_back(self, scaler: Autoscaler) -> str:
        try:
            self._floor(scaler, scaler.owners)
        except WriteError as error:
            return str(error)
        return ""

    def _floor(self, scaler: Autoscaler, minimum: int) -> bool:
        self._check()
        declared = None if minimum == scaler.owners else scaler.owners
        now = replace(scaler, minimum=minimum, declared=declared, overruled=False)
        if now == scaler:
            return False
        self._view = replace(
            self._view,
            workloads=tuple(
                replace(one, scalers=tuple(now if known == scaler else known for known in one.scalers))
                for one in self._view.workloads
            ),
            leftovers=tuple(one for one in self._view.leftovers if one != scaler),
        )
        return True

    def _run(self, change: RunVariant) -> bool:
        key = change.service.key
        known = next((w for w in self._view.workloads if w.service == key and w.variant == change.variant), None)
        if known is None and change.service.target is not None:
            raise Refused(f"Deployment {change.service.target} does not exist in {key.namespace}")
        if (0 if known is None else known.replicas) == change.replicas:
            return False
        self._check()
        now = replace(known or _new(change), replicas=change.replicas)
        self._view = replace(self._view, workloads=(*(w for w in self._view.workloads if w is not known), now))
        return True

    def _shield(self, change: ShieldPod) -> bool:
        pod = self._view.pods.get(change.pod)
        if pod is None or pod.uid != change.uid or pod.shield is not (Shield.NONE if change.up else Shield.UP):
            return False
        self._check()
        now = replace(pod, shield=Shield.UP if change.up else Shield.OVER)
        self._view = replace(self._view, pods={**self._view.pods, now.ref: now})
        return True

    def _cordon(self, change: CordonNode) -> bool:
        node, empty = self._view.nodes.get(change.node), change.to is Cordon.EMPTY
        if node is None or (node.cordoned if empty else node.emptying is None):
            return False
        self._check()
        now = replace(
            node,
            cordoned=empty,
            emptying=change.at if empty else None,
            kept_since=change.at if change.to is Cordon.KEEP else None,
        )
        self._view = replace(self._view, nodes={**self._view.nodes, now.name: now})
        return True

    def _clear(self, change: ClearRequest) -> bool:
        if change.service.requested is None:
            return False
        self._check()
        services: dict[ServiceKey, Service] = {**self._view.services}
        services[change.service.key] = replace(change.service, requested=None)
        self._view = replace(self._view, services=services)
        return True

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault


def _new(change: RunVariant) -> Workload:
    key = change.service.key
    return Workload(
        namespace=key.namespace,
        name=f"{key.name}-{change.variant}",
        service=key,
        variant=change.variant,
        replicas=0,
        ready=0,
        generation=1,
    )
