"""InferenceService: one model, its variants, objectives and limits. The spec; the status has its own file.

Fallow owns one vLLM Deployment per active variant, or adopts an existing Deployment through targetRef.
"""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.amounts import MemorySize, Quantity
from fallow.api.durations import PositiveDuration
from fallow.api.formats import (
    DnsLabel,
    DnsSubdomain,
    EnvName,
    Format,
    FreeObject,
    GpuProduct,
    Keyed,
    LabelValue,
    Line,
    MetricName,
    ModelName,
    ServedName,
    Text,
)
from fallow.api.inference_service_status import InferenceServiceStatus
from fallow.api.model import ApiModel, ChangeRule, Rule
from fallow.api.objects import AGE, ApiVersion, Column, Kind, ObjectMeta, Scale

# one place for the precisions that levers and profiles compare; any vLLM flag can still be passed in args
Precision = Literal[
    "FP32", "BF16", "FP16", "FP8", "MXFP8", "INT8", "FP6", "MXFP6", "INT4", "FP4", "NVFP4", "MXFP4", "INT2"
]
ENGINE_IMAGE = "vllm/vllm-openai:v0.32.0"


class Model(ApiModel):
    """The model that is served, whatever the variant."""

    name: ModelName = Field(
        description="Model to load: a Hugging Face repository or a path inside the container. "
        "Variants may name their own."
    )
    served_name: ServedName | None = Field(
        default=None,
        description="Name that clients send as model (vLLM --served-model-name). Absent: the model's name.",
    )


class TargetRef(ApiModel):
    """An existing Deployment that Fallow adopts instead of creating its own."""

    change_rules = (
        ChangeRule(
            "self.name == oldSelf.name",
            "targetRef.name cannot change; create another InferenceService for the other Deployment",
            ".name",
        ),
    )

    api_version: Literal["apps/v1"] = Field(default="apps/v1", description="API version of the adopted workload.")
    kind: Literal["Deployment"] = Field(default="Deployment", description="Kind of the adopted workload.")
    name: DnsSubdomain = Field(description="Name of the Deployment, in the namespace of this object.")
    port: int = Field(
        default=8000, ge=1, le=65535, description="Port on which the adopted pods serve vLLM's API and /metrics."
    )


class Gpus(ApiModel):
    """The GPUs that one replica holds."""

    count: int = Field(
        default=1,
        ge=1,
        le=64,
        description="GPUs per replica (nvidia.com/gpu); also passed as --tensor-parallel-size.",
    )
    products: list[GpuProduct] = Field(
        default=[],
        max_length=16,
        description="Values of the node label nvidia.com/gpu.product on which the variant may run. Empty: any.",
    )


class KeyRef(ApiModel):
    """A key of a Secret or ConfigMap in the same namespace."""

    name: DnsSubdomain = Field(description="Name of the Secret or ConfigMap.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Key in it.")
    optional: bool = Field(default=False, description="Start the container although the key is missing.")


class FieldRef(ApiModel):
    """A field of the pod."""

    field_path: Line = Field(description="Path of the field, such as status.podIP.")


class EnvSource(ApiModel):
    """Where an environment variable's value comes from."""

    rules = (
        Rule(
            "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].exists_one(given, given)",
            lambda s: [s.secret_key_ref, s.config_map_key_ref, s.field_ref].count(None) == 2,
            "valueFrom must have exactly one of secretKeyRef, configMapKeyRef and fieldRef",
        ),
    )

    secret_key_ref: KeyRef | None = Field(default=None, description="A key of a Secret. Absent: not from a Secret.")
    config_map_key_ref: KeyRef | None = Field(
        default=None, description="A key of a ConfigMap. Absent: not from a ConfigMap."
    )
    field_ref: FieldRef | None = Field(default=None, description="A field of the pod itself. Absent: not from the pod.")


class EnvVar(ApiModel):
    """An environment variable of the vLLM container."""

    rules = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            lambda e: e.value is None or e.value_from is None,
            "env must give either value or valueFrom for a variable, not both",
        ),
    )

    name: EnvName = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Value as it is. Absent: from valueFrom, or empty where that is absent too."
    )
    value_from: EnvSource | None = Field(
        default=None,
        description="Where the value comes from, such as a Secret with a Hugging Face token. Absent: from value.",
    )


Env = Annotated[list[EnvVar], Field(max_length=64), Keyed("name")]


class Variant(ApiModel):
    """One way to serve the model: precision, weights, GPUs, flags."""

    name: Annotated[DnsLabel, Field(max_length=20)] = Field(
        description="Short name, part of the Deployment's name, such as bf16 or fp8."
    )
    precision: Precision = Field(description="Numeric format of the weights; policies allow or forbid by it.")
    model: ModelName | None = Field(default=None, description="Weights of this variant. Absent: spec.model.name.")
    quality: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Quality relative to the reference variant, 0 to 1, from your own evaluation. "
        "A policy's qualityFloor compares with it.",
    )
    gpus: Gpus = Field(default=Gpus(), description="GPUs that one replica of this variant holds.")
    args: list[Text] = Field(
        default=[], max_length=64, description="Further flags for vLLM, such as --quantization and fp8."
    )
    env: Env = Field(default=[], description="Environment variables of this variant, after those of spec.engine.env.")
    max_concurrency: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Sequences that a replica runs at once (vLLM --max-num-seqs). Absent: vLLM's own default.",
    )


class Percentile(ApiModel):
    """A latency objective."""

    p95: PositiveDuration = Field(description="95 % of requests must be at least this quick, such as 2s or 80ms.")


class Objectives(ApiModel):
    """Latency promises that no energy saving may break."""

    ttft: Percentile | None = Field(default=None, description="Time to the first token. Absent: no promise.")
    itl: Percentile | None = Field(default=None, description="Time between two tokens. Absent: no promise.")
    attainment: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="Recorded, not acted on in this version. Share of time in which the objectives must hold, "
        "above 0 to 1.",
    )


class Wake(ApiModel):
    """A Prometheus metric of requests that wait outside, in a gateway or a queue."""

    metric: MetricName = Field(
        description="Metric whose value above zero wakes the service, such as gateway_requests_waiting."
    )
    selector: Annotated[dict[Annotated[str, Field(max_length=128)], LabelValue], Field(max_length=8)] = Field(
        default={}, description="Labels that pick this service's series of the metric."
    )


class Scaling(ApiModel):
    """How many replicas Fallow may run."""

    rules = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            lambda s: s.min_replicas <= s.max_replicas,
            "scaling.maxReplicas (default 1) must be at least scaling.minReplicas; "
            "raise maxReplicas or lower minReplicas",
            ".maxReplicas",
        ),
    )

    min_replicas: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="Fewest replicas. 0 lets an idle service rest without any replica, if a policy enforces it.",
    )
    max_replicas: int = Field(default=1, ge=1, le=1000, description="Most replicas, all variants together.")
    target_concurrency: float | None = Field(
        default=None,
        gt=0,
        le=65536,
        description="Running sequences per replica to aim for. Absent: from the ModelProfile and the objectives.",
    )
    wake: Wake | None = Field(
        default=None,
        description="Metric of waiting requests that wakes a resting service. Absent: woken by kubectl scale or "
        "the annotation fallow.dev/wake.",
    )


QuantityMap = Annotated[dict[Annotated[str, Field(max_length=253)], Quantity], Field(max_length=16)]


class Resources(ApiModel):
    """CPU and memory of the vLLM container; GPUs come from the variant."""

    rules = (
        Rule(
            "!('nvidia.com/gpu' in self.requests) && !('nvidia.com/gpu' in self.limits)",
            lambda r: "nvidia.com/gpu" not in {*r.requests, *r.limits},
            "engine.resources must not name nvidia.com/gpu; write the number in variants[].gpus.count",
        ),
    )

    requests: QuantityMap = Field(default={}, description="What a replica needs, such as cpu: 4 and memory: 16Gi.")
    limits: QuantityMap = Field(default={}, description="What a replica may use at most.")


class Engine(ApiModel):
    """How the vLLM container runs, for all variants."""

    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        default=ENGINE_IMAGE, description="Image of the vLLM server."
    )
    port: int = Field(default=8000, ge=1, le=65535, description="Port on which vLLM serves its API and /metrics.")
    resources: Resources = Field(
        default=Resources(), description="CPU and memory of a replica; GPUs come from the variant."
    )
    env: Env = Field(default=[], description="Environment variables of every variant.")
    sleep_mode: bool = Field(
        default=False,
        description="Start vLLM with --enable-sleep-mode, so that a replica can free GPU memory without being deleted.",
    )
    termination_grace: PositiveDuration = Field(
        default="60s", description="Time a replica gets to finish its requests before it is killed."
    )
    shared_memory: MemorySize = Field(default="2Gi", description="Size of /dev/shm; counts towards the memory limit.")


def _same_presence(name: str) -> str:
    return f"has(self.{name}) == has(oldSelf.{name})"


class InferenceServiceSpec(ApiModel):
    """What to serve, what to promise, and how far Fallow may go."""

    rules = (
        Rule(
            "!has(self.targetRef) || size(self.variants) == 1",
            lambda s: s.target_ref is None or len(s.variants) == 1,
            "variants must have exactly one entry, describing what the Deployment runs, when targetRef is given",
            ".variants",
        ),
        Rule(
            "!(has(self.targetRef) && has(self.engine))",
            lambda s: s.target_ref is None or s.engine is None,
            "engine must be absent when targetRef is given; the adopted Deployment keeps its own pod template",
            ".engine",
        ),
        Rule(
            "!(has(self.targetRef) && has(self.template))",
            lambda s: s.target_ref is None or s.template is None,
            "template must be absent when targetRef is given; the adopted Deployment keeps its own pod template",
            ".template",
        ),
        Rule(
            "!has(self.replicas) || self.replicas <= self.scaling.maxReplicas",
            lambda s: s.replicas is None or s.replicas <= s.scaling.max_replicas,
            "replicas must be at most scaling.maxReplicas (default 1); ask for fewer or raise maxReplicas",
            ".replicas",
        ),
        Rule(
            "self.variants.exists(v, v.quality > 0.0)",
            lambda s: any(v.quality > 0 for v in s.variants),
            "variants must have at least one entry with quality above 0",
            ".variants",
        ),
    )
    change_rules = (
        ChangeRule(
            _same_presence("targetRef"),
            "targetRef cannot be added or removed later; create another InferenceService",
        ),
    )

    model: Model = Field(description="The model that is served.")
    target_ref: TargetRef | None = Field(
        default=None,
        description="Adopt this Deployment instead of creating one per variant. Then there is exactly one variant, "
        "which describes what the Deployment runs; Fallow changes nothing but its replicas. "
        "Absent: Fallow creates its own.",
    )
    variants: Annotated[list[Variant], Field(min_length=1, max_length=16), Keyed("name")] = Field(
        description="Ways to serve the model. The first is the reference: it serves unless a policy asks for another."
    )
    objectives: Objectives = Field(default=Objectives(), description="Latency promises that no saving may break.")
    scaling: Scaling = Field(default=Scaling(), description="How many replicas Fallow may run.")
    engine: Engine | None = Field(
        default=None,
        description="How the vLLM container runs. Absent: the defaults of its fields. Not with targetRef.",
    )
    template: FreeObject | None = Field(
        default=None,
        description="Overlay for the pod template of the created Deployments (metadata and spec), laid over "
        "Fallow's own by strategic merge; the engine's container is named vllm. "
        "Absent: no overlay. Not with targetRef.",
    )
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="What /scale writes. Absent: Fallow decides. 0: stop the service. n: at least n, until the service "
        "has been idle for the policy's idle.after since it was asked; exactly n, once, where no enforced policy "
        "scales. Fallow removes the field when it rests the service, so that the next kubectl scale is a change. "
        "A HorizontalPodAutoscaler needs the field present.",
    )
    paused: bool = Field(default=False, description="Fallow goes on reporting on this service and changes nothing.")

    @property
    def running_engine(self) -> Engine:
        """The engine's settings; for an adopted Deployment only the port is Fallow's business."""
        if self.target_ref is not None:
            return Engine(port=self.target_ref.port)
        return self.engine or Engine()


_NAME = Format(
    r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$",
    "metadata.name must be 1 to 40 lower-case letters, digits and '-', starting with a letter, because the "
    "Deployments <name>-<variant> and the Service <name> are named after it",
)


class InferenceService(ApiModel):
    """A served language model that keeps its latency promises with the least energy, and reports its footprint."""

    rules = (
        Rule(
            _NAME.cel("self.metadata.name"),
            lambda o: _NAME.fits(o.metadata.name),
            _NAME.says,
        ),
    )

    api_version: ApiVersion = Field(description="Version of the schema: fallow.dev/v1alpha1.")
    kind: Literal["InferenceService"] = Field(description="Name of the kind: InferenceService.")
    metadata: ObjectMeta = Field(description="Standard Kubernetes metadata.")
    spec: InferenceServiceSpec = Field(description="What to serve, what to promise, and how far Fallow may go.")
    status: InferenceServiceStatus = Field(
        default=InferenceServiceStatus(), description="What runs, why, and what it costs. Written by Fallow."
    )


INFERENCE_SERVICE = Kind(
    model=InferenceService,
    plural="inferenceservices",
    singular="inferenceservice",
    short="fis",
    namespaced=True,
    scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether the service can answer."),
        Column("State", ".status.idle.state", "Active, Standby, Idle, Unknown or Stale."),
        Column("Variant", ".status.variant", "The variant that serves."),
        Column("Replicas", ".status.summary.replicas", "Ready replicas of those wanted."),
        Column("J/Token", ".status.summary.joulesPerToken", "GPU energy per generated token over the recent window."),
        Column("CO2e Today", ".status.summary.carbonToday", "Operational emissions since midnight UTC."),
        Column("Mode", ".status.mode", "Observe, Recommend or Enforce, by the policy that applies."),
        AGE,
        Column("Policy", ".status.policy", "The policy that applies.", wide=True),
        Column("Watts", ".status.summary.watts", "What its GPUs draw now.", wide=True),
        Column("Model", ".spec.model.name", "The model that is served.", wide=True),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why Ready is as it is.", wide=True),
    ),
)
