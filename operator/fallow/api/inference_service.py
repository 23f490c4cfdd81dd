"""InferenceService: one model, its variants, objectives and limits. The spec; the status has its own file.

Fallow owns one vLLM Deployment per active variant, or adopts an existing Deployment through targetRef.
"""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.durations import PositiveDuration
from fallow.api.engine import Engine
from fallow.api.formats import (
    DnsSubdomain,
    Format,
    FreeObject,
    Keyed,
    LabelValue,
    MetricName,
    ModelName,
    ServedName,
)
from fallow.api.inference_service_status import InferenceServiceStatus
from fallow.api.model import ApiModel, ChangeRule, Rule
from fallow.api.objects import AGE, ApiVersion, Column, Kind, ObjectMeta, Scale
from fallow.api.overhead import Overhead
from fallow.api.variants import Variant
from fallow.api.windows import Window


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


class Percentile(ApiModel):
    """A latency objective."""

    p95: PositiveDuration = Field(description="95 % of requests must be at least this quick, such as 2s or 80ms.")


class Objectives(ApiModel):
    """Latency promises that no energy saving may break."""

    ttft: Percentile | None = Field(default=None, description="Time to the first token. Absent: no promise.")
    itl: Percentile | None = Field(
        default=None, description="Time between two tokens, mean of a request. Absent: no promise."
    )
    attainment: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="Share of requests that must meet the objectives, above 0 to 1. Of those that may be late 0.4 to "
        "0.8 are aimed at: the more replicas it would take to have fewer, the more.",
    )


class Wake(ApiModel):
    """A Prometheus metric of requests that wait outside, in a gateway or a queue."""

    metric: MetricName = Field(
        description="Metric whose value above zero wakes the service, such as gateway_requests_waiting."
    )
    selector: Annotated[dict[Annotated[str, Field(max_length=128)], LabelValue], Field(max_length=8)] = Field(
        default={}, description="Labels that pick this service's series of the metric."
    )


class Schedule(ApiModel):
    """At least so many replicas in a weekly window, ready when it opens."""

    window: Window = Field(
        description="Days, hours and time zone, such as Mon-Fri 08:00-18:00 Europe/Berlin. One that ends before it "
        "begins ends on the next day; 00:00-00:00 is a whole day."
    )
    min_replicas: int = Field(
        ge=1,
        le=1000,
        description="Fewest replicas while the window is open. They are started so early that they are ready when "
        "it opens.",
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
        Rule(
            "self.schedules.all(s, s.minReplicas <= self.maxReplicas)",
            lambda s: all(one.min_replicas <= s.max_replicas for one in s.schedules),
            "scaling.maxReplicas (default 1) must be at least minReplicas of every schedule; "
            "raise maxReplicas or lower the schedule's minReplicas",
            ".schedules",
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
    schedules: Annotated[list[Schedule], Field(max_length=16)] = Field(
        default=[],
        description="When there are to be more replicas than scaling.minReplicas, whatever the load: opening hours.",
    )


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
    overhead: Overhead | None = Field(
        default=None,
        description="Training and tuning of the model. Shown per token beside the footprint and never in it. "
        "Absent: not shown.",
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
    priority: int = Field(
        default=0,
        ge=-1000000,
        le=1000000,
        description="Of services under one power cap those of higher priority keep their power, and their replicas, "
        "longer. Where GPUs are short they get theirs first.",
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
