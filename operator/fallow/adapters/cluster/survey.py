"""One look at a whole cluster, by lists alone: nodes, pods that ask for GPUs, who owns these, how many are to be kept.

Whatever may not be listed, or is not installed, is left out; a refusal is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.labels import SERVICE
from fallow.adapters.cluster.parts import ENGINE_PORT, labels_of, read_node, read_pod
from fallow.domain.errors import Refused, WriteError
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Node
from fallow.domain.windows import ExporterPod, HoldingPod, Scaled, Survey, WorkloadRef

JSON = Mapping[str, Any]

# what owns pods, or owns what owns them; of these only names and owners are asked for
CONTROLLERS = {
    "ReplicaSet": "/apis/apps/v1/replicasets",
    "Deployment": "/apis/apps/v1/deployments",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "Job": "/apis/batch/v1/jobs",
}
AUTOSCALERS = "/apis/autoscaling/v2/horizontalpodautoscalers"
SCALED_OBJECTS = "/apis/keda.sh/v1alpha1/scaledobjects"
SERVICES = "/apis/fallow.dev/v1alpha1/inferenceservices"
KSERVE_SERVICES = "/apis/serving.kserve.io/v1beta1/inferenceservices"
# labels that name what a person knows, above any owner: Fallow's, KServe's and Kubeflow's
NAMING_LABELS = {
    SERVICE: "InferenceService",
    "serving.kserve.io/inferenceservice": "InferenceService",
    "notebook-name": "Notebook",
}
# the bottom of a chain of owners is soon reached; a loop is not
DEEPEST = 8
_EXPORTER = "dcgm-exporter"
_METRICS_PORT = "prometheus.io/port"


@dataclass(slots=True)
class _Found:
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: list[JSON] = field(default_factory=list)
    exporters: dict[str, ExporterPod] = field(default_factory=dict)
    claims: int = 0
    # by (namespace, kind, name): the owner's kind and name
    owners: dict[tuple[str, str, str], tuple[str, str] | None] = field(default_factory=dict)
    scaled: dict[WorkloadRef, Scaled] = field(default_factory=dict)
    faults: list[Missing] = field(default_factory=list)


async def survey(api: KubernetesApi) -> Survey:
    """Never writes. Raises a WriteError where not even pods can be listed."""
    found = _Found()
    await _each(api, "/api/v1/pods", lambda body: _keep_pod(found, body))
    await asyncio.gather(
        _tried(api, found, "/api/v1/nodes", lambda body: _keep_node(found, body)),
        *(_tried(api, found, path, _owner_of(found, kind), names=True) for kind, path in CONTROLLERS.items()),
    )
    # these name their targets, which the owners above turn into what a person knows
    for path, keep in (
        (AUTOSCALERS, _keep_autoscaler),
        (SCALED_OBJECTS, _keep_scaled_object),
        (KSERVE_SERVICES, _keep_kserve),
        (SERVICES, _keep_service),
    ):
        await _tried(api, found, path, lambda body, keep=keep: keep(found, body))  # type: ignore[misc]
    if found.claims:
        text = f"{found.claims} pods have devices by resource claims (DRA), whose GPUs are not known"
        found.faults.append(Missing(Reason.NO_SERIES, text))
    pods = {pod.ref: pod for body in found.pods if (pod := _holding_pod(found, body)) is not None}
    return Survey(
        nodes=found.nodes,
        pods=pods,
        scaled=found.scaled,
        exporters=found.exporters,
        controllers={(namespace, name): _top(found, namespace, kind, name) for namespace, kind, name in found.owners},
        faults=tuple(found.faults),
    )


async def _each(api: KubernetesApi, path: str, keep: Callable[[JSON], None], *, names: bool = False) -> None:
    async for page in api.pages(path, metadata_only=names):
        for body in page:
            keep(body)


async def _tried(
    api: KubernetesApi, found: _Found, path: str, keep: Callable[[JSON], None], *, names: bool = False
) -> None:
    try:
        await _each(api, path, keep, names=names)
    except WriteError as error:
        reason = Reason.BAD_ANSWER if isinstance(error, Refused) else Reason.SOURCE_UNREACHABLE
        found.faults.append(Missing(reason, f"Kubernetes: {error}"))


def _keep_node(found: _Found, body: JSON) -> None:
    found.nodes[body["metadata"]["name"]] = read_node(body)


def _keep_pod(found: _Found, body: JSON) -> None:
    """Of all pods of a cluster only those with GPUs and the exporters are kept while the list is read."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    pod = read_pod(body)
    if pod is None:
        return
    if pod.gpus > 0:
        found.pods.append(body)
    elif spec.get("resourceClaims"):
        found.claims += 1
    elif _is_exporter(body) and spec.get("nodeName") and status.get("podIP"):
        found.exporters[spec["nodeName"]] = ExporterPod(pod.ref, pod.address)


def _is_exporter(body: JSON) -> bool:
    labels = labels_of(body)
    names = (labels.get("app.kubernetes.io/name", ""), labels.get("app", ""), body["metadata"]["name"])
    return any(_EXPORTER in name for name in names)


def _owner_of(found: _Found, kind: str) -> Callable[[JSON], None]:
    def keep(body: JSON) -> None:
        metadata = body["metadata"]
        found.owners[metadata.get("namespace", ""), kind, metadata["name"]] = _controller(metadata)

    return keep


def _controller(metadata: JSON) -> tuple[str, str] | None:
    owners: Iterable[JSON] = metadata.get("ownerReferences") or ()
    return next(((str(o["kind"]), str(o["name"])) for o in owners if o.get("controller")), None)


def _top(found: _Found, namespace: str, kind: str, name: str) -> WorkloadRef:
    """The last owner that is known; a Node owns the kubelet's own pods and is none."""
    for _ in range(DEEPEST):
        owner = found.owners.get((namespace, kind, name))
        if owner is None or owner[0] == "Node":
            break
        kind, name = owner
    return WorkloadRef(namespace, kind, name)


def _holding_pod(found: _Found, body: JSON) -> HoldingPod | None:
    pod = read_pod(body)
    if pod is None or not pod.scheduled:
        return None
    metadata, spec = body["metadata"], body.get("spec") or {}
    words = _words(spec)
    flags, is_engine = _flags(words), SERVICE in labels_of(body) or any("vllm" in word.lower() for word in words)
    return HoldingPod(
        ref=pod.ref,
        workload=_workload(found, pod.ref, metadata),
        node=pod.node,
        gpus=pod.gpus,
        started=pod.started if pod.started is not None else pod.created,
        address=pod.address,
        port=_port(metadata, flags, is_engine=is_engine),
        is_engine=is_engine,
        max_num_seqs=_whole(flags.get("--max-num-seqs")),
    )


def _workload(found: _Found, ref: PodRef, metadata: JSON) -> WorkloadRef:
    labels = metadata.get("labels") or {}
    for label, kind in NAMING_LABELS.items():
        if labels.get(label):
            return WorkloadRef(ref.namespace, kind, str(labels[label]))
    owner = _controller(metadata)
    if owner is None or owner[0] == "Node":
        return WorkloadRef(ref.namespace, "Pod", ref.name)
    return _top(found, ref.namespace, *owner)


def _words(spec: JSON) -> list[str]:
    """Image, command and arguments of the containers; a shell's one long argument comes apart."""
    words: list[str] = []
    for container in spec.get("containers") or ():
        words.append(str(container.get("image") or ""))
        for text in (*(container.get("command") or ()), *(container.get("args") or ())):
            words.extend(str(text).split())
    return words


def _flags(words: list[str]) -> dict[str, str]:
    """`--flag value` and `--flag=value`; of several values the first."""
    flags: dict[str, str] = {}
    for index, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name.startswith("--"):
            following = words[index + 1] if index + 1 < len(words) else ""
            flags.setdefault(name, value if sign else following)
    return flags


def _port(metadata: JSON, flags: Mapping[str, str], *, is_engine: bool) -> int | None:
    annotated = _whole((metadata.get("annotations") or {}).get(_METRICS_PORT))
    return annotated or ((_whole(flags.get("--port")) or ENGINE_PORT) if is_engine else None)


def _whole(text: Any) -> int | None:
    return int(text) if text is not None and str(text).isdigit() else None


def _keep_autoscaler(found: _Found, body: JSON) -> None:
    metadata, spec = body["metadata"], body.get("spec") or {}
    target = spec.get("scaleTargetRef") or {}
    minimum = spec.get("minReplicas")
    by = f"HorizontalPodAutoscaler {metadata['name']}"
    _declare(found, metadata, target, floor=1 if minimum is None else int(minimum), by=by)


def _keep_scaled_object(found: _Found, body: JSON) -> None:
    """KEDA makes an HPA with at least one replica; the ScaledObject says what is meant."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    target = {"kind": "Deployment", **(spec.get("scaleTargetRef") or {})}
    _declare(
        found, metadata, target, floor=int(spec.get("minReplicaCount") or 0), by=f"ScaledObject {metadata['name']}"
    )


def _declare(found: _Found, metadata: JSON, target: JSON, *, floor: int, by: str) -> None:
    workload = _top(found, metadata["namespace"], str(target.get("kind", "")), str(target.get("name", "")))
    found.scaled[workload] = Scaled(floor, f"{by} (minimum {floor})")


def _keep_kserve(found: _Found, body: JSON) -> None:
    """What KServe's own autoscaler is told; one that is made of it says the same."""
    metadata = body["metadata"]
    minimum = ((body.get("spec") or {}).get("predictor") or {}).get("minReplicas")
    workload = WorkloadRef(metadata["namespace"], "InferenceService", metadata["name"])
    if minimum is not None:
        found.scaled[workload] = Scaled(int(minimum), f"minReplicas {int(minimum)}")


def _keep_service(found: _Found, body: JSON) -> None:
    metadata, spec = body["metadata"], body.get("spec") or {}
    scaling = spec.get("scaling") or {}
    floor, capacity = int(scaling.get("minReplicas") or 0), scaling.get("targetConcurrency")
    scaled = Scaled(floor, f"scaling.minReplicas {floor}", None if capacity is None else float(capacity))
    found.scaled[WorkloadRef(metadata["namespace"], "InferenceService", metadata["name"])] = scaled
    target = (spec.get("targetRef") or {}).get("name")
    if target:
        found.scaled[_top(found, metadata["namespace"], "Deployment", str(target))] = scaled
