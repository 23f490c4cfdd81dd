"""Objects as the API server sends them, each with a healthy default."""

from __future__ import annotations

from typing import Any

from tests.api.samples import merged

UID = "11111111-0000-4000-8000-000000000001"


def inference_service(
    name: str = "chat", *, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    plain = {
        "model": {"name": "meta-llama/Llama-3.1-8B-Instruct", "servedName": "chat"},
        "variants": [{"name": "bf16", "precision": "BF16"}, {"name": "fp8", "precision": "FP8"}],
        "scaling": {"minReplicas": 0, "maxReplicas": 4},
    }
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": _metadata(name, "llm", metadata, uid=UID),
        "spec": merged(plain, spec or {}),
        **({"status": status} if status else {}),
    }


def adopting(target: str = "legacy", **more: Any) -> dict[str, Any]:
    body = inference_service(spec={"targetRef": {"name": target}}, **more)
    body["spec"]["variants"] = body["spec"]["variants"][:1]
    return body


def energy_policy(name: str = "green", **spec: Any) -> dict[str, Any]:
    return _cluster_wide("EnergyPolicy", name, spec)


def grid_zone(name: str = "north", **spec: Any) -> dict[str, Any]:
    plain = {"default": True, "intensity": {"source": "Static", "static": {"gramsPerKWh": 300}}}
    return _cluster_wide("GridZone", name, plain | spec)


def model_profile(name: str = "bf16-h100", **spec: Any) -> dict[str, Any]:
    plain = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "precision": "BF16",
        "gpuProduct": "NVIDIA-H100-80GB-HBM3",
        "points": [{"concurrency": 32, "tokensPerSecond": 2000, "watts": 400}],
    }
    return _cluster_wide("ModelProfile", name, plain | spec)


def namespace(name: str = "llm", **labels: str) -> dict[str, Any]:
    return {"metadata": _metadata(name, "", {"labels": labels}, uid=f"ns-{name}")}


def node(name: str = "node-a", *, gpus: int = 8, ready: bool = True, **labels: str) -> dict[str, Any]:
    return {
        "metadata": _metadata(name, "", {"labels": labels}, uid=f"node-{name}"),
        "spec": {},
        "status": {
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "10.0.1.1"}],
            "capacity": {"cpu": "64"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {}),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def pod(
    name: str = "chat-bf16-x",
    *,
    labels: dict[str, str] | None = None,
    gpus: int = 1,
    ready: bool = True,
    phase: str = "Running",
    **metadata: Any,
) -> dict[str, Any]:
    chosen = {"fallow.dev/service": "chat", "fallow.dev/variant": "bf16"} if labels is None else labels
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    return {
        "metadata": _metadata(name, "llm", {"labels": chosen} | metadata, uid=f"pod-{name}"),
        "spec": {"nodeName": "node-a", "containers": [{"name": "vllm", "resources": {"limits": limits}}]},
        "status": {
            "phase": phase,
            "podIP": "10.0.0.7",
            "startTime": "2026-11-22T10:00:30Z",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastTransitionTime": "2026-11-22T10:05:00Z",
                }
            ],
            "containerStatuses": [{"name": "vllm", "state": {"running": {"startedAt": "2026-11-22T10:01:00Z"}}}],
        },
    }


def deployment(
    name: str = "chat-bf16",
    *,
    replicas: int = 1,
    ready: int = 1,
    owner: str = UID,
    labels: dict[str, str] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    chosen = {"fallow.dev/service": "chat", "fallow.dev/variant": "bf16"} if labels is None else labels
    owners = [{"uid": owner, "controller": True, "kind": "InferenceService", "name": "chat"}] if owner else []
    return {
        "metadata": _metadata(name, "llm", {"labels": chosen, "ownerReferences": owners} | metadata, uid=f"d-{name}"),
        "spec": {"replicas": replicas, "selector": {"matchLabels": chosen}},
        "status": {"readyReplicas": ready},
    }


def hpa(
    target: str = "legacy", *, minimum: int | None = 1, maximum: int = 10, kind: str = "Deployment", **metadata: Any
) -> dict[str, Any]:
    name = metadata.pop("name", f"{target}-load")
    group = "apps/v1" if kind == "Deployment" else "fallow.dev/v1alpha1"
    spec = {"scaleTargetRef": {"apiVersion": group, "kind": kind, "name": target}, "maxReplicas": maximum}
    return {
        "metadata": _metadata(name, "llm", metadata, uid=f"hpa-{name}"),
        "spec": spec if minimum is None else {**spec, "minReplicas": minimum},
    }


def scaled_object(target: str = "legacy", *, name: str = "queue", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": _metadata(name, "llm", {}, uid=f"so-{name}"),
        "spec": {"scaleTargetRef": {"name": target}, **spec},
    }


def owner(kind: str, name: str, api_version: str) -> dict[str, Any]:
    return {
        "ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": name, "uid": name, "controller": True}]
    }


def _cluster_wide(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": kind,
        "metadata": _metadata(name, "", {}, uid=f"{kind}-{name}"),
        "spec": spec,
    }


def _metadata(name: str, namespace_name: str, more: dict[str, Any], *, uid: str) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": name,
        "uid": uid,
        "generation": 1,
        "resourceVersion": "100",
        "creationTimestamp": "2026-11-22T10:00:00Z",
    }
    return plain | ({"namespace": namespace_name} if namespace_name else {}) | more
