"""Pods and Nodes as Kubernetes JSON, read into the facts that the simulation needs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallow.domain.readings import PodRef
from fallow.domain.slices import COMPUTE_SLICES
from fallow.domain.workloads import UNBOOSTED, ServiceKey
from fallow.twin.behaviours import ENGINES, Behaviour
from fallow.twin.host import HostMeter
from fallow.twin.physics.constants import GPUS, Gpu
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.physics.parts import Profile, profile_from
from fallow.twin.pods import (
    GPU_RESOURCE,
    MIG_PREFIX,
    SHARED_RESOURCE,
    Division,
    EngineFacts,
    ExporterFacts,
    NodeFacts,
    PodFacts,
    PodPhase,
    gpu_of,
    precision_of,
)

JSON = Mapping[str, Any]

# As GPU feature discovery writes them; `count` is of physical GPUs, but of instances under MIG's single strategy.
COUNT_LABEL = "nvidia.com/gpu.count"
REPLICAS_LABEL = "nvidia.com/gpu.replicas"
MIG_STRATEGY = "nvidia.com/mig.strategy"
PRODUCT_LABEL = "nvidia.com/gpu.product"
MANAGED_BY = "app.kubernetes.io/managed-by"
SERVICE_LABEL = "fallow.dev/service"
VARIANT_LABEL = "fallow.dev/variant"
PRECISION_LABEL = "fallow.dev/precision"
# Annotations of the twin. On pods: the engine inside a pod of others, the model it is like, how many clients of the
# twin's own ask it, how long it loads when it starts again, what any other GPU pod does, or its watts. On nodes: how
# dcgm-exporter was started, host meters.
ENGINE = "twin.fallow.dev/engine"
SERVICE = "twin.fallow.dev/service"
MODEL_CLASS = "twin.fallow.dev/model-class"
WATTS = "twin.fallow.dev/watts"
ACTIVITY = "twin.fallow.dev/activity"
BEHAVIOUR = "twin.fallow.dev/behaviour"
CLIENTS = "twin.fallow.dev/clients"
LOAD_SECONDS = "twin.fallow.dev/load-seconds"
VIRTUAL_GPUS = "twin.fallow.dev/virtual-gpus"
RESOURCE_NAMES = "twin.fallow.dev/nvidia-resource-names"
KUBERNETES = "twin.fallow.dev/kubernetes"
HOST_METER = "twin.fallow.dev/host-meter"
ENDED = frozenset({"Succeeded", "Failed"})


def ref_of(body: JSON) -> PodRef:
    return PodRef(str(body["metadata"].get("namespace", "")), str(body["metadata"]["name"]))


def node_from(body: JSON) -> NodeFacts | str | None:
    """None for a node without GPUs; a text says why a GPU node cannot be simulated."""
    metadata, status = body["metadata"], body.get("status", {})
    capacity: JSON = status.get("capacity") or {}
    labels: JSON = metadata.get("labels") or {}
    product = str(labels.get(PRODUCT_LABEL, ""))
    divided = _division(capacity, labels, product)
    if divided is None or isinstance(divided, str):
        return divided
    count, division = divided
    gpu = gpu_of(product)
    if gpu is None:
        return f"the twin knows no watts of {product or 'a GPU without the label ' + PRODUCT_LABEL}; it knows " + (
            ", ".join(Gpu)
        )
    annotations: JSON = metadata.get("annotations") or {}
    meter = str(annotations.get(HOST_METER, HostMeter.RAPL))
    if meter not in {*HostMeter}:
        return f"{HOST_METER} is {meter!r}; write one of " + ", ".join(HostMeter)
    addresses = status.get("addresses") or ()
    address = next((str(entry["address"]) for entry in addresses if entry.get("type") == "InternalIP"), "")
    names = str(annotations.get(RESOURCE_NAMES, "")).split(",")
    exporter = ExporterFacts(
        virtual_gpus=annotations.get(VIRTUAL_GPUS) == "true",
        resource_names=frozenset(filter(None, names)),
        kubernetes=annotations.get(KUBERNETES) != "false",
    )
    name, uid = str(metadata["name"]), str(metadata.get("uid", ""))
    return NodeFacts(name, uid, address, gpu, count, division, exporter, HostMeter(meter))


def _division(capacity: JSON, labels: JSON, product: str) -> tuple[int, Division] | str | None:
    """The physical GPUs of a node and how they are handed out; None without any."""
    physical, replicas = _whole(labels.get(COUNT_LABEL)), max(_whole(labels.get(REPLICAS_LABEL)), 1)
    resource = SHARED_RESOURCE if _whole(capacity.get(SHARED_RESOURCE)) else GPU_RESOURCE
    offered = _whole(capacity.get(resource))
    instances = [
        profile
        for name, amount in capacity.items()
        if name.startswith(MIG_PREFIX) and (profile := profile_from(name.removeprefix(MIG_PREFIX))) is not None
        for _ in range(_whole(amount))
    ]
    if instances:
        dealt = _dealt(instances, physical or 1)
        if dealt is None:
            return f"{physical or 1} GPUs have no room for the MIG instances of its capacity; set {COUNT_LABEL}"
        return len(dealt), Division(dealt)
    if offered == 0:
        return None
    _, mig, name = product.partition("-MIG-")
    profile = profile_from(name) if mig and labels.get(MIG_STRATEGY) == "single" else None
    if profile is not None:
        gpu = gpu_of(product)
        each = COMPUTE_SLICES // profile.slices if gpu is None else profile.most_on(GPUS[gpu].memory)
        alike = _dealt([profile] * offered, -(-offered // each))
        return (len(alike), Division(alike, single=True)) if alike else None
    if replicas > 1:
        return max(offered // replicas, 1), Division(copies=replicas, resource=resource)
    return offered, Division(resource=resource)


def _dealt(instances: Sequence[Profile], gpus: int) -> tuple[tuple[Profile, ...], ...] | None:
    """The instances over the GPUs, largest first, each to the GPU with most slices left; None without room."""
    dealt: list[list[Profile]] = [[] for _ in range(gpus)]
    for profile in sorted(instances, reverse=True):
        fullest = min(dealt, key=lambda held: sum(one.slices for one in held))
        fullest.append(profile)
        if sum(one.slices for one in fullest) > COMPUTE_SLICES:
            return None
    return tuple(map(tuple, dealt))


@dataclass(frozen=True, slots=True)
class PodReader:
    """`prefix_hit_share` says which share of a service's prompts is found in the prefix cache."""

    prefix_hit_share: Callable[[ServiceKey | None], float]

    def read(self, body: JSON) -> PodFacts | None:
        """None for a pod that holds no GPU here: not scheduled, ended, or without GPUs."""
        metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
        containers: Sequence[JSON] = spec.get("containers") or ()
        holder = next((container for container in containers if _asked(container)), {})
        resource, _ = _asked(holder) or ("", 0)
        gpus = sum(asked[1] for container in containers if (asked := _asked(container)) and asked[0] == resource)
        if not spec.get("nodeName") or status.get("phase") in ENDED or gpus == 0:
            return None
        labels: JSON = metadata.get("labels") or {}
        annotations: JSON = metadata.get("annotations") or {}
        name = labels.get(SERVICE_LABEL) or annotations.get(SERVICE)
        ref = ref_of(body)
        service = ServiceKey(ref.namespace, str(name)) if name else None
        named = str(annotations.get(BEHAVIOUR, ""))
        behaviour = Behaviour(named) if named in {*Behaviour} else None
        is_engine = labels.get(MANAGED_BY) == "fallow" or annotations.get(ENGINE) == "vllm" or behaviour in ENGINES
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
            engine=self._engine(holder, labels, annotations, behaviour, service) if is_engine else None,
            watts=_amount(annotations.get(WATTS)),
            activity=min(max(_amount(annotations.get(ACTIVITY)) or 0.0, 0.0), 1.0),
            resource=resource,
            behaviour=None if is_engine else behaviour,
            load_seconds=_amount(annotations.get(LOAD_SECONDS)),
        )

    def _engine(
        self,
        container: JSON,
        labels: JSON,
        annotations: JSON,
        behaviour: Behaviour | None,
        service: ServiceKey | None,
    ) -> EngineFacts:
        flags = flags_of([*(container.get("command") or ()), *(container.get("args") or ())])
        model = flags.get("--model", "")
        environment = {entry.get("name"): entry.get("value") for entry in container.get("env") or ()}
        defaults = EngineLimits()
        return EngineFacts(
            model=model,
            served_name=flags.get("--served-model-name") or model,
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
            throttles=environment.get(UNBOOSTED) == "1",
            clients=_whole(annotations.get(CLIENTS)) or (ENGINES.get(behaviour, 0) if behaviour else 0),
            like=str(annotations.get(MODEL_CLASS, "")),
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


def _asked(container: JSON) -> tuple[str, int] | None:
    """The kind of GPU, copy or instance that a container asks for, and how many; of several kinds the first."""
    limits: JSON = (container.get("resources") or {}).get("limits") or {}
    for name, amount in limits.items():
        if (name in {GPU_RESOURCE, SHARED_RESOURCE} or name.startswith(MIG_PREFIX)) and _whole(amount):
            return name, _whole(amount)
    return None


def _whole(value: object) -> int:
    """0 for what is absent or no whole number: a quantity of an extended resource is a plain integer."""
    text = str(value) if value is not None else ""
    return int(text) if text.isdigit() else 0


def _amount(value: object) -> float | None:
    try:
        return None if value is None else float(str(value))
    except ValueError:
        return None
