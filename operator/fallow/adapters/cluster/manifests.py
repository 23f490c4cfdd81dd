"""What Fallow creates for a service: a Deployment per variant, one Service, one PodDisruptionBudget. Pure functions.

Server-side apply sends exactly these fields, so every other field stays with whoever set it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from fallow.adapters.cluster.labels import (
    GPU,
    GPU_PRODUCT,
    IDLE_CLOCKS,
    PRECISION,
    SERVICE,
    SPEC_HASH,
    STEP_TOKENS,
    VARIANT,
)
from fallow.adapters.cluster.strategic_merge import merge
from fallow.domain.tuning import PLAIN, Tuning
from fallow.domain.workloads import UNBOOSTED, Engine, Service, Variant

JSON = dict[str, Any]

MANAGER = "fallow"
CONTAINER = "vllm"
SERVICE_PORT = 80
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where NCCL and vLLM expect shared memory in the container
# The endpoint is taken out of the Service while the container still answers: kube-proxies and gateways need seconds.
LONGEST_PRE_STOP = 10
# Weights of tens of GB are pulled and compiled before the port opens: half an hour of patience, then a restart.
STARTUP_PERIOD, STARTUP_FAILURES = 10, 180


def deployment_name(service: Service, variant: str) -> str:
    return f"{service.key.name}-{variant}"


def deployment(service: Service, variant: Variant, replicas: int, tuning: Tuning = PLAIN) -> JSON:
    """The Deployment of one variant; the hash annotation covers all of it but the number of replicas."""
    labels = _labels(service, variant)
    body = _object("apps/v1", "Deployment", service, deployment_name(service, variant.name), labels)
    body["spec"] = {
        "selector": {"matchLabels": selector(service, variant.name)},
        # a new template is tried beside the old one, so that a wrong image never takes a serving replica away
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "progressDeadlineSeconds": STARTUP_PERIOD * STARTUP_FAILURES + 600,
        "revisionHistoryLimit": 3,
        "template": merge(_template(service, variant, labels, tuning), service.template),
    }
    # the selector must go on matching, whatever the overlay says
    body["spec"]["template"] = merge(
        body["spec"]["template"], {"metadata": {"labels": selector(service, variant.name)}}
    )
    signed = _signed(body)
    signed["spec"]["replicas"] = replicas
    return signed


def service_object(service: Service) -> JSON:
    """The one address of all variants: clients notice nothing of a switch."""
    body = _object("v1", "Service", service, service.key.name, _labels(service))
    body["spec"] = {
        "selector": selector(service),
        "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": service.engine.port, "protocol": "TCP"}],
    }
    return _signed(body)


def disruption_budget(service: Service) -> JSON:
    """One replica at a time may be evicted.

    With a single replica a drain goes ahead and the service starts again elsewhere: a budget that never allows it would
    keep a node, and its idle power, for ever. Unready pods never block a drain.
    """
    body = _object("policy/v1", "PodDisruptionBudget", service, service.key.name, _labels(service))
    body["spec"] = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(service)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return _signed(body)


def selector(service: Service, variant: str = "") -> dict[str, str]:
    """Labels that never change for the life of the object; Deployments cannot change their selector."""
    return {SERVICE: service.key.name} | ({VARIANT: variant} if variant else {})


def spec_hash(body: Mapping[str, Any]) -> str:
    annotations: Mapping[str, str] = body.get("metadata", {}).get("annotations") or {}
    return annotations.get(SPEC_HASH, "")


def _object(api_version: str, kind: str, service: Service, name: str, labels: Mapping[str, str]) -> JSON:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": service.key.namespace,
            "labels": dict(labels),
            "ownerReferences": [
                {
                    "apiVersion": "fallow.dev/v1alpha1",
                    "kind": "InferenceService",
                    "name": service.key.name,
                    "uid": service.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
    }


def _signed(body: JSON) -> JSON:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    metadata = body["metadata"] | {"annotations": {SPEC_HASH: hashlib.sha256(text.encode()).hexdigest()[:16]}}
    return body | {"metadata": metadata}


def _labels(service: Service, variant: Variant | None = None) -> dict[str, str]:
    labels = {
        "app.kubernetes.io/name": CONTAINER,
        "app.kubernetes.io/instance": service.key.name,
        "app.kubernetes.io/component": "inference",
        "app.kubernetes.io/part-of": "fallow",
        "app.kubernetes.io/managed-by": MANAGER,
        SERVICE: service.key.name,
    }
    if variant is not None:
        labels |= {VARIANT: variant.name, PRECISION: variant.precision}
    return labels


def _template(service: Service, variant: Variant, labels: Mapping[str, str], tuning: Tuning) -> JSON:
    engine = service.engine
    spec: JSON = {
        "terminationGracePeriodSeconds": int(engine.termination_grace),
        "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [_container(service, variant, tuning)],
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": engine.shared_memory}},
            {"name": "cache", "emptyDir": {}},
        ],
    }
    if variant.products:
        spec["affinity"] = {"nodeAffinity": _only_on(variant.products)}
    return {
        "metadata": {
            "labels": dict(labels),
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(engine.port),
                "prometheus.io/path": "/metrics",
                # the cache can be filled again; without this an autoscaler keeps the node for its sake
                "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "cache",
            }
            | _told(tuning),
        },
        "spec": spec,
    }


def _told(tuning: Tuning) -> dict[str, str]:
    """The annotations that Fallow reads its own choice back from."""
    told = {IDLE_CLOCKS: "fall"} if tuning.throttled else {}
    if tuning.step_tokens is not None:
        told[STEP_TOKENS] = str(tuning.step_tokens)
    return told


def _container(service: Service, variant: Variant, tuning: Tuning) -> JSON:
    """What the service declares wins over Fallow's own choice."""
    engine = service.engine
    env = [{"name": UNBOOSTED, "value": "1"}] if tuning.throttled else []
    pre_stop, _ = _stopping(engine)
    health = {"httpGet": {"path": "/health", "port": "http"}}
    container: JSON = {
        "name": CONTAINER,
        "image": engine.image,
        "args": engine_args(service, variant, tuning),
        "ports": [{"name": "http", "containerPort": engine.port, "protocol": "TCP"}],
        "resources": _resources(engine, variant),
        "startupProbe": {
            **health,
            "periodSeconds": STARTUP_PERIOD,
            "failureThreshold": STARTUP_FAILURES,
            "timeoutSeconds": 5,
        },
        "readinessProbe": {**health, "periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 5},
        "volumeMounts": [
            {"name": "shm", "mountPath": SHARED_MEMORY},
            {"name": "cache", "mountPath": "/root/.cache"},
        ],
    }
    declared = _by_name([*env, *engine.env, *variant.env])
    if declared:
        container["env"] = declared
    if pre_stop:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": pre_stop}}}
    return container


def engine_args(service: Service, variant: Variant, tuning: Tuning = PLAIN) -> list[str]:
    """Flags of vLLM. The variant's own come last, where they win over the ones before."""
    _, shutdown = _stopping(service.engine)
    args = ["--model", variant.model, "--served-model-name", service.served_name]
    args += ["--port", str(service.engine.port), "--tensor-parallel-size", str(variant.gpus)]
    most, tokens = variant.max_concurrency, tuning.step_tokens
    if most is not None:
        # vLLM refuses more requests at once than a step has tokens
        args += ["--max-num-seqs", str(most if tokens is None else min(most, tokens))]
    if tokens is not None:
        args += ["--max-num-batched-tokens", str(tokens)]
    if service.engine.sleep_mode:
        args.append("--enable-sleep-mode")
    # without it vLLM aborts the requests in flight at SIGTERM
    args += ["--shutdown-timeout", str(shutdown)]
    return [*args, *variant.args]


def _stopping(engine: Engine) -> tuple[int, int]:
    """Seconds of preStop and of vLLM's own shutdown; with a margin they fit into the grace period."""
    grace = int(engine.termination_grace)
    pre_stop = min(LONGEST_PRE_STOP, grace // 4)
    margin = max(1, grace // 12)
    return pre_stop, max(1, grace - pre_stop - margin)


def _resources(engine: Engine, variant: Variant) -> JSON:
    requests = dict(engine.resources.get("requests") or {})
    limits = dict(engine.resources.get("limits") or {}) | {GPU: str(variant.gpus)}
    quantities = {"limits": {name: str(amount) for name, amount in limits.items()}}
    if requests:
        quantities["requests"] = {name: str(amount) for name, amount in requests.items()}
    return quantities


def _only_on(products: Iterable[str]) -> JSON:
    wanted = {"key": GPU_PRODUCT, "operator": "In", "values": list(products)}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}}


def _by_name(env: Iterable[Mapping[str, Any]]) -> list[JSON]:
    """Later entries replace earlier ones of the same name, which server-side apply would refuse."""
    return [dict(entry) for entry in {entry["name"]: entry for entry in env}.values()]
