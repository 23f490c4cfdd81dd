"""Pods and Nodes as Kubernetes JSON, read into the facts that the simulation needs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.physics.constants import Gpu, ModelClass
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.pods import EngineFacts, NodeFacts, PodFacts, PodPhase, gpu_of, model_class_of, precision_of

JSON = Mapping[str, Any]

GPU_RESOURCE = "nvidia.com/gpu"
PRODUCT_LABEL = "nvidia.com/gpu.product"
MANAGED_BY = "app.kubernetes.io/managed-by"
SERVICE_LABEL = "fallow.dev/service"
VARIANT_LABEL = "fallow.dev/variant"
PRECISION_LABEL = "fallow.dev/precision"
# Annotations of the twin: the engine inside a pod of others, the size of its model, the watts of any other GPU pod.
ENGINE = "twin.fallow.dev/engine"
SERVICE = "twin.fallow.dev/service"
MODEL_CLASS = "twin.fallow.dev/model-class"
WATTS = "twin.fallow.dev/watts"
ACTIVITY = "twin.fallow.dev/activity"
ENDED = frozenset({"Succeeded", "Failed"})


def ref_of(body: JSON) -> PodRef:
    return PodRef(str(body["metadata"].get("namespace", "")), str(body["metadata"]["name"]))


def node_from(body: JSON) -> NodeFacts | str | None:
    """None for a node without GPUs; a text says why a GPU node cannot be simulated."""
    metadata, status = body["metadata"], body.get("status", {})
    count = _whole((status.get("capacity") or {}).get(GPU_RESOURCE))
    if count == 0:
        return None
    product = str((metadata.get("labels") or {}).get(PRODUCT_LABEL, ""))
    gpu = gpu_of(product)
    if gpu is None:
        return f"the twin knows no watts of {product or 'a GPU without the label ' + PRODUCT_LABEL}; it knows " + (
            ", ".join(Gpu)
        )
    addresses = status.get("addresses") or ()
    address = next((str(entry["address"]) for entry in addresses if entry.get("type") == "InternalIP"), "")
    return NodeFacts(str(metadata["name"]), str(metadata.get("uid", "")), address, gpu, count)


@dataclass(frozen=True, slots=True)
class PodReader:
    """`prefix_hit_share` says which share of a service's prompts is found in the prefix cache."""

    prefix_hit_share: Callable[[ServiceKey | None], float]

    def read(self, body: JSON) -> PodFacts | None:
        """None for a pod that holds no GPU here: not scheduled, ended, or without GPUs."""
        metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
        containers: Sequence[JSON] = spec.get("containers") or ()
        gpus = sum(_gpus(container) for container in containers)
        if not spec.get("nodeName") or status.get("phase") in ENDED or gpus == 0:
            return None
        labels: JSON = metadata.get("labels") or {}
        annotations: JSON = metadata.get("annotations") or {}
        name = labels.get(SERVICE_LABEL) or annotations.get(SERVICE)
        ref = ref_of(body)
        service = ServiceKey(ref.namespace, str(name)) if name else None
        holder = next(container for container in containers if _gpus(container))
        is_engine = labels.get(MANAGED_BY) == "fallow" or annotations.get(ENGINE) == "vllm"
        return PodFacts(
            ref=ref,
            uid=str(metadata.get("uid", "")),
            node=str(spec["nodeName"]),
            address=str(status.get("podIP") or ""),
            phase=_phase(metadata, status),
            gpus=gpus,
            container=str(holder.get("name", "main")),
            service=service,
            variant=str(labels.get(VARIANT_LABEL, "")),
            engine=self._engine(holder, labels, annotations, service) if is_engine else None,
            watts=_amount(annotations.get(WATTS)),
            activity=min(max(_amount(annotations.get(ACTIVITY)) or 0.0, 0.0), 1.0),
        )

    def _engine(self, container: JSON, labels: JSON, annotations: JSON, service: ServiceKey | None) -> EngineFacts:
        flags = flags_of([*(container.get("command") or ()), *(container.get("args") or ())])
        model = flags.get("--model", "")
        environment = {entry.get("name"): entry.get("value") for entry in container.get("env") or ()}
        defaults = EngineLimits()
        wanted = str(annotations.get(MODEL_CLASS, "")).lower()
        return EngineFacts(
            model=model,
            served_name=flags.get("--served-model-name") or model,
            model_class=ModelClass(wanted) if wanted in {*ModelClass} else model_class_of(model),
            precision=precision_of(
                str(labels.get(PRECISION_LABEL, "")), flags.get("--quantization") or flags.get("-q", ""), model
            ),
            limits=EngineLimits(
                max_num_seqs=_whole(flags.get("--max-num-seqs")) or defaults.max_num_seqs,
                chunk_tokens=_whole(flags.get("--max-num-batched-tokens")) or defaults.chunk_tokens,
                max_model_len=_whole(flags.get("--max-model-len")) or defaults.max_model_len,
                prefix_hit_share=self.prefix_hit_share(service),
            ),
            sleep_mode="--enable-sleep-mode" in flags and environment.get("VLLM_SERVER_DEV_MODE") == "1",
        )


def flags_of(words: Sequence[Any]) -> dict[str, str]:
    """`--flag value`, `--flag=value`, and `vllm serve MODEL` as --model; of several values the first."""
    flags: dict[str, str] = {}
    texts = [str(word) for word in words]
    for index, word in enumerate(texts):
        before = texts[index - 1] if index else ""
        if word.startswith("-"):
            name, _, value = word.partition("=")
            flags[name] = value
        elif before.startswith("-") and "=" not in before:
            flags[before] = word
        elif before == "serve":
            flags.setdefault("--model", word)
    return flags


def _phase(metadata: JSON, status: JSON) -> PodPhase:
    if metadata.get("deletionTimestamp"):
        return PodPhase.DRAINING
    conditions = status.get("conditions") or ()
    if any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions):
        return PodPhase.READY
    return PodPhase.LOADING if status.get("phase") == "Running" else PodPhase.PULLING


def _gpus(container: JSON) -> int:
    return _whole(((container.get("resources") or {}).get("limits") or {}).get(GPU_RESOURCE))


def _whole(value: object) -> int:
    """0 for what is absent or no whole number: a quantity of an extended resource is a plain integer."""
    text = str(value) if value is not None else ""
    return int(text) if text.isdigit() else 0


def _amount(value: object) -> float | None:
    try:
        return None if value is None else float(str(value))
    except ValueError:
        return None
