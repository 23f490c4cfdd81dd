"""Pods, nodes and Deployments as Kubernetes JSON, read into the few facts that the domain asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fallow.adapters.cluster.gpus import asked_by, offered
from fallow.adapters.cluster.labels import (
    DO_NOT_DISRUPT,
    EMPTYING,
    GPU_PRODUCT,
    IDLE_CLOCKS,
    KEEP_NODE,
    KEPT,
    OVER,
    SAFE_TO_EVICT,
    SERVICE,
    SHIELD,
    SPEC_HASH,
    STEP_TOKENS,
    VARIANT,
)
from fallow.domain.readings import PodRef
from fallow.domain.snapshots import Node, Pod, Shield
from fallow.domain.tuning import PLAIN, Tuning
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey

JSON = Mapping[str, Any]

ENGINE_PORT = 8000
ENDED = frozenset({"Succeeded", "Failed"})


def instant(text: str | None) -> Instant | None:
    return None if not text else Instant(datetime.fromisoformat(text).timestamp())


def labels_of(body: JSON) -> Mapping[str, str]:
    return body.get("metadata", {}).get("labels") or {}


def concerns_us(body: JSON) -> bool:
    """Whether a pod holds GPUs or belongs to a service: all others are left out of the picture."""
    return SERVICE in labels_of(body) or asked_by(body.get("spec", {})).all > 0


def read_pod(body: JSON) -> Pod | None:
    """The pod, or None once it has ended: an ended pod holds no GPU."""
    metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    if status.get("phase") in ENDED:
        return None
    labels, held = metadata.get("labels") or {}, asked_by(spec)
    ready: JSON = next((part for part in status.get("conditions") or () if part.get("type") == "Ready"), {})
    is_ready = ready.get("status") == "True"
    service = labels.get(SERVICE)
    deletion = instant(metadata.get("deletionTimestamp"))
    return Pod(
        ref=PodRef(metadata["namespace"], metadata["name"]),
        uid=metadata.get("uid", ""),
        node=spec.get("nodeName") or "",
        address=status.get("podIP") or "",
        port=ENGINE_PORT,
        gpus=held.all,
        instances=held.instances,
        copies=held.copies,
        created=instant(metadata.get("creationTimestamp")) or Instant(0),
        ready=is_ready,
        deleting=deletion is not None,
        scheduled=bool(spec.get("nodeName")),
        service=ServiceKey(metadata["namespace"], service) if service else None,
        variant=labels.get(VARIANT) if service else None,
        started=_started(status),
        ready_since=instant(ready.get("lastTransitionTime")) if is_ready else None,
        # the API server sets deletionTimestamp to the end of the grace period
        deleting_since=None
        if deletion is None
        else Instant(deletion - float(metadata.get("deletionGracePeriodSeconds") or 0)),
        placed=instant(status.get("startTime")),
        shield=_shield(metadata.get("annotations") or {}),
        pinned=_pinned(metadata.get("annotations") or {}),
    )


def read_node(body: JSON) -> Node:
    status = body.get("status", {})
    labels = dict(labels_of(body))
    addresses = {part.get("type"): part.get("address", "") for part in status.get("addresses") or ()}
    ready: JSON = next((part for part in status.get("conditions") or () if part.get("type") == "Ready"), {})
    there = offered(labels, status.get("capacity") or {})
    annotations = body["metadata"].get("annotations") or {}
    _, kept, at = annotations.get(EMPTYING, "").rpartition(f"{KEPT} ")
    return Node(
        name=body["metadata"]["name"],
        address=addresses.get("InternalIP", ""),
        labels=labels,
        gpus=there.gpus,
        gpu_product=labels.get(GPU_PRODUCT, ""),
        ready=ready.get("status") == "True",
        in_turns=there.in_turns,
        instances=there.instances,
        cordoned=bool(body.get("spec", {}).get("unschedulable")),
        emptying=None if kept else _moment(at),
        kept_since=_moment(at) if kept else None,
        pinned="true" in {annotations.get(DO_NOT_DISRUPT), annotations.get(KEEP_NODE)},
    )


def _moment(text: str) -> Instant | None:
    """None too where somebody has written something else there."""
    try:
        return instant(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A Deployment as last seen. `owner` is the uid of its controller; `service` and `variant` come from our labels.

    `tuning` as our annotations in its template tell it; `rolling`: pods of an older template are still there.
    """

    namespace: str
    name: str
    owner: str
    service: str
    variant: str
    replicas: int
    ready: int
    generation: int
    spec_hash: str
    selector: Mapping[str, str]
    tuning: Tuning = PLAIN
    rolling: bool = False


def read_deployment(body: JSON) -> Deployment:
    metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    labels = metadata.get("labels") or {}
    replicas = spec.get("replicas")
    return Deployment(
        namespace=metadata["namespace"],
        name=metadata["name"],
        owner=controller_of(body),
        service=labels.get(SERVICE, ""),
        variant=labels.get(VARIANT, ""),
        replicas=1 if replicas is None else int(replicas),
        ready=int(status.get("readyReplicas") or 0),
        generation=int(metadata.get("generation") or 0),
        spec_hash=(metadata.get("annotations") or {}).get(SPEC_HASH, ""),
        selector=(spec.get("selector") or {}).get("matchLabels") or {},
        tuning=_tuning(spec.get("template", {}).get("metadata", {}).get("annotations") or {}),
        rolling=_rolls(metadata, status),
    )


def _tuning(annotations: Mapping[str, str]) -> Tuning:
    tokens = annotations.get(STEP_TOKENS, "")
    return Tuning(IDLE_CLOCKS in annotations, int(tokens) if tokens.isdecimal() else None)


def _rolls(metadata: JSON, status: JSON) -> bool:
    """Pods of an older template are there, and their replacement has not been given up."""
    progress: JSON = next((one for one in status.get("conditions") or () if one.get("type") == "Progressing"), {})
    if progress.get("status") == "False":
        return False
    unseen = int(status.get("observedGeneration") or 0) < int(metadata.get("generation") or 0)
    return unseen or int(status.get("updatedReplicas") or 0) < int(status.get("replicas") or 0)


def controller_of(body: JSON) -> str:
    """The uid of the object that controls this one, empty for none."""
    owners: Iterable[JSON] = body.get("metadata", {}).get("ownerReferences") or ()
    return next((str(owner.get("uid", "")) for owner in owners if owner.get("controller")), "")


def _started(status: JSON) -> Instant | None:
    """When the last of the running containers started."""
    running = [(part.get("state") or {}).get("running") or {} for part in status.get("containerStatuses") or ()]
    times = [started for part in running if (started := instant(part.get("startedAt"))) is not None]
    return max(times, default=None)


def _pinned(annotations: Mapping[str, str]) -> bool:
    """Whether somebody else than Fallow says so."""
    ours = annotations.get(SHIELD, "").split()
    kept = annotations.get(DO_NOT_DISRUPT, "false") != "false" and DO_NOT_DISRUPT not in ours
    return kept or (annotations.get(SAFE_TO_EVICT) == "false" and SAFE_TO_EVICT not in ours)


def _shield(annotations: Mapping[str, str]) -> Shield:
    mark = annotations.get(SHIELD)
    if mark is None:
        return Shield.NONE
    return Shield.OVER if mark == OVER else Shield.UP
