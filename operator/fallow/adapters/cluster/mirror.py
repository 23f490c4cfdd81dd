"""The cluster as last watched: watch events go in, one frozen ClusterView comes out.

An object is read once, when it changes; the view is built anew only when something did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fallow.adapters.cluster import parts, scalers
from fallow.adapters.cluster.labels import DELETION_COST, DO_NOT_DISRUPT, EMPTYING, SAFE_TO_EVICT, SERVICE, SHIELD
from fallow.adapters.cluster.manifests import deployment_name
from fallow.api import mapping, reading
from fallow.api.memory import recalled
from fallow.domain.autoscalers import Autoscaler
from fallow.domain.snapshots import ClusterView, Invalid, Pod, Workload
from fallow.domain.tuning import PLAIN
from fallow.domain.workloads import Service, ServiceKey, ServiceMemory

JSON = Mapping[str, Any]

SERVICES, POLICIES, ZONES, PROFILES = "inferenceservices", "energypolicies", "gridzones", "modelprofiles"
PODS, NODES, DEPLOYMENTS, NAMESPACES = "pods", "nodes", "deployments", "namespaces"
HPAS, SCALED_OBJECTS = "horizontalpodautoscalers", "scaledobjects"
SCALERS = (HPAS, SCALED_OBJECTS)
OURS = (SERVICES, POLICIES, ZONES, PROFILES)
KINDS = (*OURS, PODS, NODES, DEPLOYMENTS, NAMESPACES, *SCALERS)

# metadata that can be large and that nobody here reads
UNREAD = frozenset({"managedFields", "selfLink"})
# all that is asked about objects of others
IDENTITY = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", "labels")
ON_NODES = (EMPTYING,)
ON_PODS = (SHIELD, DO_NOT_DISRUPT, SAFE_TO_EVICT, DELETION_COST)


@dataclass(frozen=True, slots=True)
class Declared:
    """An InferenceService as declared, and the memory that its status holds."""

    service: Service
    memory: ServiceMemory


@dataclass(frozen=True, slots=True)
class Held:
    """An object, trimmed, and what it reads as: a domain value, or an Invalid that says why not."""

    body: JSON
    value: Any


# The parts of the view that are to be built anew when a kind changes. In a large cluster something always does, and
# a cycle looks again before each write, so an event about a Deployment must not cost a walk over all pods.
_AFFECTED: Mapping[str, tuple[str, ...]] = {
    SERVICES: ("services", "memories", "workloads", "pods", "invalid", "leftovers"),
    POLICIES: ("policies", "invalid"),
    ZONES: ("zones", "invalid"),
    PROFILES: ("profiles", "invalid"),
    PODS: ("pods",),
    NODES: ("nodes",),
    DEPLOYMENTS: ("workloads", "leftovers"),
    NAMESPACES: ("services",),
    HPAS: ("scalers", "workloads", "leftovers"),
    SCALED_OBJECTS: ("scalers", "workloads", "leftovers"),
}

P = TypeVar("P")
Owners = Mapping[scalers.Target, tuple[Autoscaler, ...]]
Adopted = tuple[tuple[str, Mapping[str, str], ServiceKey, str], ...]


@dataclass(slots=True)
class Mirror:
    """Fed by handlers with `put` and `drop`; plurals name the kinds. No I/O, so it may be filled by hand in tests."""

    _held: dict[str, dict[tuple[str, str], Held]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    _parts: dict[str, Any] = field(default_factory=dict)
    _adopted: Adopted = ()
    _view: ClusterView | None = None

    def put(self, kind: str, body: JSON) -> None:
        """Take in an object, unless a later version of it is already held."""
        held, key = self._held[kind], _key(body)
        known = held.get(key)
        if known is not None and _is_older(body, known.body):
            return
        if kind == PODS and not parts.concerns_us(body):
            self.drop(kind, body)
            return
        now = held[key] = Held(_trimmed(kind, body), _READERS[kind](body))
        if known is None or not _reads_the_same(kind, known, now):
            self._changed(*_AFFECTED[kind])

    def drop(self, kind: str, body: JSON) -> None:
        if self._held[kind].pop(_key(body), None) is not None:
            self._changed(*_AFFECTED[kind])

    def uids(self, kind: str) -> frozenset[str]:
        return frozenset(_uid(held.body) for held in self._held[kind].values())

    def forget(self, kind: str, uids: Collection[str]) -> None:
        """Drop objects whose deletion no event told of."""
        for held in [held for held in self._held[kind].values() if _uid(held.body) in uids]:
            self.drop(kind, held.body)

    def get(self, kind: str, namespace: str, name: str) -> JSON | None:
        held = self._held[kind].get((namespace, name))
        return None if held is None else held.body

    def deployment(self, namespace: str, name: str) -> parts.Deployment | None:
        held = self._held[DEPLOYMENTS].get((namespace, name))
        return None if held is None else held.value

    def view(self) -> ClusterView:
        if self._view is None:
            self._view = self._build()
        return self._view

    def _changed(self, *names: str) -> None:
        self._view = None
        for name in names:
            self._parts.pop(name, None)

    def _build(self) -> ClusterView:
        services = self._part("services", lambda: {service.key: service for service in self._services()})
        owners = self._part("scalers", lambda: scalers.by_target(self._values(HPAS), self._values(SCALED_OBJECTS)))
        workloads = self._part("workloads", lambda: tuple(self._workloads(services, owners)))
        adopted = tuple(self._selectors(workloads))
        if adopted != self._adopted:
            self._adopted = adopted
            self._parts.pop("pods", None)
        return ClusterView(
            nodes=self._part("nodes", lambda: {node.name: node for node in self._values(NODES)}),
            pods=self._part("pods", lambda: {pod.ref: pod for pod in self._pods(services)}),
            workloads=workloads,
            services=services,
            memories=self._part(
                "memories",
                lambda: {key: self._held[SERVICES][key.namespace, key.name].value.memory for key in services},
            ),
            policies=self._part("policies", lambda: tuple(self._values(POLICIES))),
            zones=self._part("zones", lambda: tuple(self._values(ZONES))),
            profiles=self._part("profiles", lambda: tuple(self._values(PROFILES))),
            invalid=self._part("invalid", lambda: tuple(self._invalid())),
            leftovers=self._part("leftovers", lambda: tuple(self._leftovers(services, owners))),
        )

    def _part(self, name: str, build: Callable[[], P]) -> P:
        if name not in self._parts:
            self._parts[name] = build()
        kept: P = self._parts[name]
        return kept

    def _values(self, kind: str) -> Iterator[Any]:
        """Readable objects that are not being deleted, by name."""
        for _, held in sorted(self._held[kind].items()):
            if held.value is not None and not isinstance(held.value, Invalid) and not _is_deleting(kind, held.body):
                yield held.value

    def _invalid(self) -> Iterator[Invalid]:
        for kind in OURS:
            for _, held in sorted(self._held[kind].items()):
                if isinstance(held.value, Invalid):
                    yield held.value

    def _services(self) -> Iterator[Service]:
        for declared in self._values(SERVICES):
            service: Service = declared.service
            namespace = self._held[NAMESPACES].get(("", service.key.namespace))
            yield replace(service, namespace_labels=namespace.value) if namespace else service

    def _workloads(self, services: Mapping[ServiceKey, Service], owners: Owners) -> Iterator[Workload]:
        adopted = {(key.namespace, service.target): service for key, service in services.items() if service.target}
        for (namespace, name), held in sorted(self._held[DEPLOYMENTS].items()):
            found: parts.Deployment = held.value
            service = adopted.get((namespace, name))
            if service is not None:
                yield _workload(found, service, service.reference.name, owners, owned=False)
                continue
            owner = services.get(ServiceKey(namespace, found.service)) if found.service else None
            # without an owner it was orphaned with its InferenceService and comes back to the new one of that name
            if owner is not None and owner.target is None and found.owner in {"", owner.uid}:
                yield _workload(found, owner, found.variant, owners, owned=True)

    def _leftovers(self, services: Mapping[ServiceKey, Service], owners: Owners) -> Iterator[Autoscaler]:
        """A service that cannot be read claims what it did before, whatever that was: its namespace is left alone."""
        doubtful = {one.namespace for one in self._invalid() if one.kind == "InferenceService"}
        claimed = {name for service in services.values() for name in _claims(service)}
        for target, found in owners.items():
            if target.namespace not in doubtful and (target.kind != "Deployment" or target[2:] not in claimed):
                yield from (scaler for scaler in found if scaler.declared is not None and scaler.seen)

    def _selectors(self, workloads: tuple[Workload, ...]) -> Iterator[tuple[str, Mapping[str, str], ServiceKey, str]]:
        """By which labels the pods of adopted Deployments are known; their pods carry no label of ours."""
        for workload in workloads:
            found = self.deployment(workload.namespace, workload.name)
            if not workload.owned and found is not None and found.selector:
                yield workload.namespace, found.selector, workload.service, workload.variant

    def _pods(self, services: Mapping[ServiceKey, Service]) -> Iterator[Pod]:
        selectors: dict[str, list[tuple[Mapping[str, str], ServiceKey, str]]] = {}
        for namespace, selector, key, variant in self._adopted:
            selectors.setdefault(namespace, []).append((selector, key, variant))
        for (namespace, _), held in self._held[PODS].items():
            pod: Pod | None = held.value
            if pod is None:
                continue
            for selector, key, variant in selectors.get(namespace, ()):
                if selector.items() <= parts.labels_of(held.body).items():
                    pod = replace(pod, service=key, variant=variant)
            service = services.get(pod.service) if pod.service else None
            if service is not None and service.engine.port != pod.port:
                pod = replace(pod, port=service.engine.port)
            yield pod


def _claims(service: Service) -> Iterator[tuple[str, str]]:
    """Namespace and name of the Deployments that are a service's, whether they are there or not."""
    if service.target is not None:
        yield service.key.namespace, service.target
        return
    for variant in service.variants:
        yield service.key.namespace, deployment_name(service, variant.name)


def _workload(found: parts.Deployment, service: Service, variant: str, owners: Owners, *, owned: bool) -> Workload:
    return Workload(
        namespace=found.namespace,
        name=found.name,
        service=service.key,
        variant=variant,
        replicas=found.replicas,
        ready=found.ready,
        generation=found.generation,
        applied=found.spec_hash,
        owned=owned,
        tuning=found.tuning if owned else PLAIN,
        rolling=owned and found.rolling,
        scalers=scalers.owners_of(owners, found.namespace, found.name, service.key.name),
    )


def _declared(body: JSON) -> Declared:
    read = reading.inference_service(body)
    return Declared(mapping.service(read, {}), recalled(read.status))


def _readable(read: Callable[[JSON], Any]) -> Callable[[JSON], Any]:
    """An unreadable object becomes an Invalid and never stops the rest."""

    def attempt(body: JSON) -> Any:
        try:
            return read(body)
        except reading.InvalidObject as error:
            return error.invalid

    return attempt


_READERS: Mapping[str, Callable[[JSON], Any]] = {
    SERVICES: _readable(_declared),
    POLICIES: _readable(lambda body: mapping.policy(reading.energy_policy(body))),
    ZONES: _readable(lambda body: mapping.zone(reading.grid_zone(body))),
    PROFILES: _readable(lambda body: mapping.profile(reading.model_profile(body))),
    PODS: parts.read_pod,
    NODES: parts.read_node,
    DEPLOYMENTS: parts.read_deployment,
    NAMESPACES: lambda body: dict(parts.labels_of(body)),
    HPAS: scalers.read_hpa,
    SCALED_OBJECTS: scalers.read_scaled_object,
}


def _trimmed(kind: str, body: JSON) -> JSON:
    """Our own objects whole, of all others the identity and what adoption asks for."""
    metadata = body.get("metadata", {})
    if kind in OURS or (kind == DEPLOYMENTS and parts.labels_of(body).get(SERVICE)):
        return {**body, "metadata": {name: part for name, part in metadata.items() if name not in UNREAD}}
    spec = {name: part for name, part in body.get("spec", {}).items() if name in {"replicas", "selector"}}
    identity = {name: metadata[name] for name in IDENTITY if name in metadata}
    if kind == DEPLOYMENTS:
        ready = body.get("status", {}).get("readyReplicas")
        return {"metadata": identity, "spec": spec, "status": {"readyReplicas": ready}}
    if kind == PODS:
        return {"metadata": {**identity, "annotations": _annotations(metadata, ON_PODS)}}
    if kind == NODES:
        closed = bool(body.get("spec", {}).get("unschedulable"))
        marked = {**identity, "annotations": _annotations(metadata, ON_NODES)}
        return {"metadata": marked, "spec": {"unschedulable": closed}}
    # of an autoscaler the value that was read says the rest
    return {"metadata": identity}


def _annotations(metadata: JSON, names: Iterable[str]) -> JSON:
    """Those of these names."""
    present = metadata.get("annotations") or {}
    return {name: present[name] for name in names if name in present}


def _key(body: JSON) -> tuple[str, str]:
    metadata = body["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _uid(body: JSON) -> str:
    return str(body["metadata"].get("uid", ""))


def _is_deleting(kind: str, body: JSON) -> bool:
    """Whether the object is on its way out; a pod or node stays in the picture until it is gone."""
    return kind not in {PODS, NODES} and bool(body["metadata"].get("deletionTimestamp"))


def _reads_the_same(kind: str, known: Held, now: Held) -> bool:
    """Of autoscalers alone: their status changes every few seconds, their bounds hardly ever."""
    return (
        kind in SCALERS and known.value == now.value and _is_deleting(kind, known.body) is _is_deleting(kind, now.body)
    )


def _is_older(body: JSON, known: JSON) -> bool:
    """Whether an event tells of an earlier version than the one held, which a write of ours may have brought."""
    if _uid(body) != _uid(known):
        return False
    new, old = body["metadata"].get("resourceVersion", ""), known["metadata"].get("resourceVersion", "")
    return new.isdecimal() and old.isdecimal() and int(new) < int(old)
