"""The Cluster port on a real API server: reads from the mirror, writes by server-side apply where something differs.

Why server-side apply, and what counts as a difference: docs/decisions/server-side-apply.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from fallow.adapters.cluster import manifests, parts, scalers
from fallow.adapters.cluster.client import KubernetesApi, PatchType
from fallow.adapters.cluster.cordons import Cordons
from fallow.adapters.cluster.covering import covers
from fallow.adapters.cluster.labels import SERVICE
from fallow.adapters.cluster.leavers import Leavers
from fallow.adapters.cluster.mirror import DEPLOYMENTS, HPAS, SCALED_OBJECTS, SERVICES, Mirror
from fallow.adapters.cluster.power_orders import PowerOrders
from fallow.adapters.cluster.shields import Shields
from fallow.domain.autoscalers import Autoscaler, AutoscalerKind
from fallow.domain.errors import Refused, WriteError
from fallow.domain.plans import (
    Change,
    ClearRequest,
    CordonNode,
    GpuLimits,
    KeepVariant,
    Outcome,
    RunVariant,
    SetFloor,
    ShieldPod,
)
from fallow.domain.snapshots import ClusterView
from fallow.domain.tuning import Tuning
from fallow.domain.units import Instant
from fallow.domain.workloads import Service, ServiceKey, Variant

log = logging.getLogger(__name__)

JSON = Mapping[str, Any]

# Services and budgets are not watched; one that somebody deleted comes back within this time.
RECHECK_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Applied:
    """What we know to stand: the hash we applied, the generation that this gave, and when it was last looked at."""

    spec_hash: str
    generation: int
    at: float


class KubernetesCluster:
    """Implements ports.Cluster; `namespace` is the operator's own. In a dry run everything is compared and nothing is
    sent.
    """

    def __init__(
        self,
        api: KubernetesApi,
        mirror: Mirror,
        field_manager: str = manifests.MANAGER,
        *,
        namespace: str = "fallow-system",
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._mirror = mirror
        self._field_manager = field_manager
        self._dry_run = dry_run
        self._clock = clock
        self._orders = PowerOrders(api, namespace, field_manager, dry_run=dry_run)
        self._shields = Shields(api, mirror, field_manager, dry_run=dry_run)
        self._cordons = Cordons(api, mirror, field_manager, dry_run=dry_run)
        self._leavers = Leavers(api, mirror, field_manager, dry_run=dry_run)
        self._applied: dict[str, Applied] = {}
        self._locks: WeakValueDictionary[ServiceKey, asyncio.Lock] = WeakValueDictionary()

    def view(self) -> ClusterView:
        return self._mirror.view()

    async def apply(self, change: Change) -> Outcome:
        """Carry out a change where it makes a difference. The variants of one service take turns, its pods need not."""
        if isinstance(change, ShieldPod):
            return await self._shields.apply(change)
        if isinstance(change, CordonNode):
            return await self._cordons.apply(change)
        lock = self._locks.setdefault(change.service.key, asyncio.Lock())
        async with lock:
            try:
                match change:
                    case RunVariant():
                        wrote = await self._run(change)
                    case KeepVariant():
                        wrote = await self._keep(change)
                    case SetFloor():
                        wrote = await self._floor(change.scaler, change.minimum)
                    case ClearRequest():
                        wrote = await self._clear(change.service)
            except WriteError as error:
                return Outcome(change, wrote=False, error=str(error), refused=isinstance(error, Refused))
        return Outcome(change, wrote=wrote)

    async def limit(self, limits: Mapping[str, Mapping[str, GpuLimits]], now: Instant) -> tuple[str, ...]:
        return await self._orders.give(limits, now)

    async def hand_back(self, scaler: Autoscaler) -> str:
        """Give an autoscaler the minimum that its owner declared; the error, empty where it is done."""
        try:
            await self._floor(scaler, scaler.owners)
        except WriteError as error:
            return str(error)
        return ""

    async def _floor(self, scaler: Autoscaler, minimum: int) -> bool:
        """Looked at once more before it is written: its owner may have said something else meanwhile."""
        path = scalers.path_of(scaler)
        live = await self._api.get(path)
        if live is None:
            raise Refused(f"{scaler} does not exist in {scaler.namespace} any more")
        patch = scalers.floor_patch(live, scaler, minimum)
        if patch is None:
            return False
        if self._dry_run:
            log.info("dry run: would set the minimum of %s to %d", path, minimum)
            return False
        answer = await self._api.patch(path, patch, PatchType.MERGE, self._field_manager)
        self._mirror.put(HPAS if scaler.kind is AutoscalerKind.HPA else SCALED_OBJECTS, answer)
        return True

    async def _run(self, change: RunVariant) -> bool:
        service, variant = change.service, change.service.variant(change.variant)
        if change.leaving:
            pods = self._mirror.view().pods_by_service.get(service.key, ())
            await self._leavers.mark(change.leaving, [pod.ref for pod in pods if pod.variant == change.variant])
        if service.target is not None:
            return await self._scale(service, service.target, change.replicas)
        if variant is None:
            # gone from the spec: nothing describes its pods any more, but they can still be sent away
            return await self._scale(service, manifests.deployment_name(service, change.variant), change.replicas)
        return await self._ensure(service, _declared(service, variant, change.replicas, change.tuning))

    async def _keep(self, change: KeepVariant) -> bool:
        """As declared, with as many replicas as there are: a number that is left out would fall back to one."""
        service, variant = change.service, change.service.variant(change.variant)
        live = self._mirror.deployment(service.key.namespace, manifests.deployment_name(service, change.variant))
        if service.target is not None or variant is None or live is None:
            return False
        wanted = _declared(service, variant, live.replicas, change.tuning)
        return await self._ensure(service, wanted, keeps_replicas=True)

    async def _ensure(self, service: Service, wanted: JSON, *, keeps_replicas: bool = False) -> bool:
        wrote = False
        for child, path in (
            (manifests.service_object(service), _path("/api/v1", service, "services")),
            (manifests.disruption_budget(service), _path("/apis/policy/v1", service, "poddisruptionbudgets")),
        ):
            wrote |= await self._ensure_unwatched(service, child, path)
        return await self._ensure_deployment(service, wanted, keeps_replicas=keeps_replicas) or wrote

    async def _ensure_deployment(self, service: Service, wanted: JSON, *, keeps_replicas: bool) -> bool:
        name = wanted["metadata"]["name"]
        path = _path("/apis/apps/v1", service, "deployments", name)
        live = self._mirror.get(DEPLOYMENTS, service.key.namespace, name)
        if live is None:
            live = await self._api.get(path)
        if live is None and wanted["spec"]["replicas"] == 0:
            return False
        _refuse_foreign(live, service, f"Deployment {name}")
        if live is not None and self._stands(path, live, wanted):
            return False
        if keeps_replicas:
            latest = await self._api.get(path)
            if latest is None:
                return False
            wanted = _with_replicas_of(latest, wanted)
        answer = await self._send(path, wanted)
        if answer is None:
            return False
        self._mirror.put(DEPLOYMENTS, answer)
        return True

    async def _ensure_unwatched(self, service: Service, wanted: JSON, path: str) -> bool:
        known = self._applied.get(path)
        fresh = known is not None and self._clock() - known.at < RECHECK_SECONDS
        if known is not None and fresh and known.spec_hash == manifests.spec_hash(wanted):
            return False
        live = await self._api.get(path)
        _refuse_foreign(live, service, f"{wanted['kind']} {service.key.name}")
        if live is not None and manifests.spec_hash(live) == manifests.spec_hash(wanted) and _holds(live, wanted):
            self._note(path, live)
            return False
        return await self._send(path, wanted) is not None

    def _stands(self, path: str, live: JSON, wanted: JSON) -> bool:
        """Whether the live Deployment is as wanted. A generation that is not ours was made by somebody else."""
        if manifests.spec_hash(live) != manifests.spec_hash(wanted):
            return False
        if live["spec"].get("replicas") != wanted["spec"]["replicas"]:
            return False
        known, generation = self._applied.get(path), int(live["metadata"].get("generation") or 0)
        if known is not None and (known.spec_hash, known.generation) == (manifests.spec_hash(wanted), generation):
            return True
        if not _holds(live, wanted):
            return False
        self._note(path, live)
        return True

    async def _send(self, path: str, wanted: JSON) -> JSON | None:
        if self._dry_run:
            log.info("dry run: would apply %s", path)
            return None
        answer = await self._api.apply(path, wanted, self._field_manager)
        self._note(path, answer)
        return answer

    def _note(self, path: str, body: JSON) -> None:
        generation = int(body["metadata"].get("generation") or 0)
        self._applied[path] = Applied(manifests.spec_hash(body), generation, self._clock())

    async def _scale(self, service: Service, name: str, replicas: int) -> bool:
        """Set the number of replicas and nothing else, through the scale subresource."""
        namespace = service.key.namespace
        held = self._mirror.get(DEPLOYMENTS, namespace, name)
        if held is None:
            raise Refused(f"Deployment {name} does not exist in {namespace}; create it or correct spec.targetRef")
        if service.target is None:
            _refuse_foreign(held, service, f"Deployment {name}")
        if held["spec"].get("replicas", 1) == replicas:
            return False
        path = _path("/apis/apps/v1", service, "deployments", f"{name}/scale")
        if self._dry_run:
            log.info("dry run: would set %s to %d replicas", path, replicas)
            return False
        answer = await self._api.patch(path, {"spec": {"replicas": replicas}}, PatchType.MERGE, self._field_manager)
        version = {"resourceVersion": answer.get("metadata", {}).get("resourceVersion", "")}
        scaled = {"metadata": {**held["metadata"], **version}, "spec": {**held["spec"], "replicas": replicas}}
        self._mirror.put(DEPLOYMENTS, {**held, **scaled})
        return True

    async def _clear(self, service: Service) -> bool:
        """Remove spec.replicas, unless somebody has asked for another number meanwhile."""
        if service.requested is None or self._dry_run:
            return False
        path = _path("/apis/fallow.dev/v1alpha1", service, SERVICES)
        answer = await self._api.patch(
            path,
            [
                {"op": "test", "path": "/spec/replicas", "value": service.requested},
                {"op": "remove", "path": "/spec/replicas"},
            ],
            PatchType.JSON,
            self._field_manager,
        )
        self._mirror.put(SERVICES, answer)
        return True


def _declared(service: Service, variant: Variant, replicas: int, tuning: Tuning) -> JSON:
    try:
        return manifests.deployment(service, variant, replicas, tuning)
    except ValueError as error:
        raise Refused(str(error)) from error


def _with_replicas_of(live: JSON, wanted: JSON) -> JSON:
    """The version refuses the write where an autoscaler sets another number meanwhile."""
    version = {"resourceVersion": live["metadata"].get("resourceVersion", "")}
    replicas = {"replicas": live["spec"].get("replicas", 1)}
    return {**wanted, "metadata": {**wanted["metadata"], **version}, "spec": {**wanted["spec"], **replicas}}


def _path(api: str, service: Service, plural: str, name: str = "") -> str:
    return f"{api}/namespaces/{service.key.namespace}/{plural}/{name or service.key.name}"


def _holds(live: JSON, wanted: JSON) -> bool:
    """Metadata and spec alone: objects out of a list carry neither apiVersion nor kind."""
    return all(covers(live.get(part), wanted[part], part) for part in ("metadata", "spec"))


def _refuse_foreign(live: JSON | None, service: Service, what: str) -> None:
    """An object of the same name that is not this service's is never taken over."""
    if live is None:
        return
    owner = parts.controller_of(live)
    orphan = not owner and parts.labels_of(live).get(SERVICE) == service.key.name
    if owner != service.uid and not orphan:
        raise Refused(
            f"{what} exists in {service.key.namespace} and does not belong to InferenceService {service.key.name}; "
            "rename or delete one of the two (an existing Deployment can be adopted with spec.targetRef)"
        )
