"""HorizontalPodAutoscalers and ScaledObjects as Kubernetes JSON: their bounds, whose replicas they set, what to write.

A ScaledObject makes an HPA, which is the ScaledObject's and no second owner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fallow.adapters.cluster.labels import DECLARED_MINIMUM, GROUP, SET_MINIMUM
from fallow.domain.autoscalers import Autoscaler, AutoscalerKind
from fallow.domain.errors import Conflict

JSON = Mapping[str, Any]

KEDA = "keda.sh"
# KEDA's own defaults, where a ScaledObject does not say
KEDA_MINIMUM, KEDA_MAXIMUM = 0, 100
# annotations of a ScaledObject that takes its HPA away for a while
PAUSED, PAUSED_AT = "autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-replicas"
MINIMUM = {AutoscalerKind.HPA: "minReplicas", AutoscalerKind.SCALED_OBJECT: "minReplicaCount"}
PATHS = {
    AutoscalerKind.HPA: "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/{}",
    AutoscalerKind.SCALED_OBJECT: "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects/{}",
}


class Target(NamedTuple):
    """What is scaled: its API group, kind, namespace and name."""

    group: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Scaler:
    """An autoscaler and its target; `made_by` is the ScaledObject that an HPA belongs to, empty for none."""

    autoscaler: Autoscaler
    target: Target
    made_by: str = ""


def read_hpa(body: JSON) -> Scaler:
    spec = body.get("spec") or {}
    minimum = spec.get("minReplicas")
    return _read(body, AutoscalerKind.HPA, 1 if minimum is None else int(minimum), int(spec.get("maxReplicas") or 1))


def read_scaled_object(body: JSON) -> Scaler:
    spec = body.get("spec") or {}
    maximum = spec.get("maxReplicaCount")
    minimum = int(spec.get("minReplicaCount") or KEDA_MINIMUM)
    return _read(body, AutoscalerKind.SCALED_OBJECT, minimum, KEDA_MAXIMUM if maximum is None else int(maximum))


def _read(body: JSON, kind: AutoscalerKind, minimum: int, maximum: int) -> Scaler:
    metadata = body["metadata"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": ""}
    target |= (body.get("spec") or {}).get("scaleTargetRef") or {}
    owner: JSON = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), {})
    by_keda = owner.get("kind") == AutoscalerKind.SCALED_OBJECT and _group(owner) == KEDA
    annotations = metadata.get("annotations") or {}
    declared, overruled = _declared(annotations, minimum)
    return Scaler(
        Autoscaler(
            kind=kind,
            namespace=metadata["namespace"],
            name=metadata["name"],
            minimum=minimum,
            maximum=maximum,
            declared=declared,
            overruled=overruled,
            maker=f"{owner['kind']} {owner['name']}" if owner and not by_keda else "",
            paused=annotations.get(PAUSED, "").lower() == "true" or PAUSED_AT in annotations,
        ),
        Target(_group(target), target["kind"], metadata["namespace"], target["name"]),
        made_by=str(owner["name"]) if by_keda else "",
    )


def _group(reference: JSON) -> str:
    """The API group of an object that is referred to, empty where it is not said."""
    group, slash, _ = str(reference.get("apiVersion") or "").partition("/")
    return group if slash else ""


def _declared(annotations: JSON, minimum: int) -> tuple[int | None, bool]:
    """What the owner declared where the minimum is Fallow's, and whether it was put back since.

    Any other number than Fallow's was written by the owner, whose new word it is.
    """
    declared, ours = annotations.get(DECLARED_MINIMUM, ""), annotations.get(SET_MINIMUM, "")
    if not (declared.isdecimal() and ours.isdecimal()):
        return None, False
    if minimum == int(ours):
        return int(declared), False
    return (int(declared), True) if minimum == int(declared) else (None, False)


def by_target(hpas: Iterable[Scaler], scaled_objects: Iterable[Scaler]) -> Mapping[Target, tuple[Autoscaler, ...]]:
    """The owners of each target's replicas. An HPA of KEDA's stands for its ScaledObject while that is not seen."""
    found: dict[Target, list[Autoscaler]] = defaultdict(list)
    known = set()
    for one in scaled_objects:
        known.add((one.autoscaler.namespace, one.autoscaler.name))
        found[one.target].append(one.autoscaler)
    for one in hpas:
        if not one.made_by:
            found[one.target].append(one.autoscaler)
        elif (one.autoscaler.namespace, one.made_by) not in known:
            found[one.target].append(_unseen(one))
    return {target: tuple(owners) for target, owners in found.items()}


def _unseen(one: Scaler) -> Autoscaler:
    hpa = one.autoscaler
    return Autoscaler(AutoscalerKind.SCALED_OBJECT, hpa.namespace, one.made_by, hpa.minimum, hpa.maximum, seen=False)


def owners_of(
    scalers: Mapping[Target, tuple[Autoscaler, ...]], namespace: str, deployment: str, service: str
) -> tuple[Autoscaler, ...]:
    """Of a Deployment of a service: one that sets the service's replicas through /scale is a second owner too."""
    owners = scalers.get(Target("apps", "Deployment", namespace, deployment), ())
    return owners + scalers.get(Target(GROUP, "InferenceService", namespace, service), ()) if owners else ()


def path_of(scaler: Autoscaler) -> str:
    return PATHS[scaler.kind].format(scaler.namespace, scaler.name)


def floor_patch(live: JSON, decided: Autoscaler, minimum: int) -> JSON | None:
    """The merge patch that gives a live autoscaler this minimum; None where it has it.

    Raises Conflict where it is not as it was when that was decided on. The version refuses a write across another.
    """
    read = read_hpa if decided.kind is AutoscalerKind.HPA else read_scaled_object
    now = read(live).autoscaler
    if (now.minimum, now.maximum, now.declared) != (decided.minimum, decided.maximum, decided.declared):
        raise Conflict(f"{decided} changed while it was being decided on; it is decided on anew next cycle")
    metadata = live["metadata"]
    annotations = metadata.get("annotations") or {}
    wanted: dict[str, str | None] = {DECLARED_MINIMUM: None, SET_MINIMUM: None}
    if minimum != now.owners:
        wanted = {DECLARED_MINIMUM: str(now.owners), SET_MINIMUM: str(minimum)}
    if minimum == now.minimum and all(annotations.get(name) == text for name, text in wanted.items()):
        return None
    return {
        "metadata": {"annotations": wanted, "resourceVersion": metadata.get("resourceVersion", "")},
        "spec": {MINIMUM[decided.kind]: minimum},
    }
