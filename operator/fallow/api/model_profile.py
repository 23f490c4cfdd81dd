"""ModelProfile: how one model variant behaves on one GPU type: throughput, latency and watts against concurrency."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.conditions import Conditions, Time
from fallow.api.formats import GpuProduct, Keyed, ModelName, Text, Word
from fallow.api.model import ApiModel, Rule, StatusModel
from fallow.api.objects import AGE, ApiVersion, Column, Kind, ObjectMeta
from fallow.api.variants import Precision

Source = Literal["Declared", "Shipped", "Learned"]


def _consistent(point: "Point") -> bool:
    if point.joules_per_token is None:
        return True
    return abs(point.joules_per_token * point.tokens_per_second - point.watts) <= 0.05 * point.watts


class Point(ApiModel):
    """Steady state of one replica at one concurrency."""

    rules = (
        Rule(
            "!has(self.joulesPerToken) || "
            "(self.joulesPerToken * self.tokensPerSecond - self.watts <= 0.05 * self.watts "
            "&& self.watts - self.joulesPerToken * self.tokensPerSecond <= 0.05 * self.watts)",
            _consistent,
            "joulesPerToken must be watts / tokensPerSecond within 5 %; correct it or leave it out",
            ".joulesPerToken",
        ),
    )

    concurrency: int = Field(ge=1, le=65536, description="Sequences that run at once on the replica.")
    tokens_per_second: float = Field(gt=0, le=10000000, description="Generated tokens per second of the replica.")
    watts: float = Field(gt=0, le=1000000, description="Power of all GPUs of the replica together, watts.")
    itl_millis: float | None = Field(
        default=None, gt=0, le=600000, description="Time between two tokens, median, milliseconds. Absent: not known."
    )
    ttft_millis: float | None = Field(
        default=None, gt=0, le=3600000, description="Time to the first token, median, milliseconds. Absent: not known."
    )
    joules_per_token: float | None = Field(
        default=None,
        gt=0,
        le=100000,
        description="GPU energy per generated token, joules. Absent: watts / tokensPerSecond.",
    )
    source: Source | None = Field(
        default=None, description="Declared, Shipped or Learned. Absent: the profile's source."
    )
    basis: Literal["Measured", "Derived"] = Field(
        default="Measured", description="Measured on this hardware, or Derived from other measurements."
    )
    reference: Text = Field(default="", description="Where the numbers come from; for derived ones, how.")


Points = Annotated[list[Point], Field(max_length=64), Keyed("concurrency")]


class Load(ApiModel):
    """What starting a replica takes, from the start of the container to the first answer."""

    seconds: float = Field(gt=0, le=86400, description="Time until the replica is ready, seconds.")
    joules: float | None = Field(
        default=None, ge=0, le=100000000, description="Energy at the GPUs in that time, joules. Absent: not known."
    )


class ModelProfileSpec(ApiModel):
    """One model variant on one GPU type."""

    rules = (
        Rule(
            "!(has(self.idleWatts) && has(self.contextWatts)) || self.idleWatts <= self.contextWatts",
            lambda s: s.idle_watts is None or s.context_watts is None or s.idle_watts <= s.context_watts,
            "contextWatts (loaded, no requests) must be at least idleWatts (empty GPU)",
            ".contextWatts",
        ),
        Rule(
            "!has(self.maxConcurrency) || self.points.all(p, p.concurrency <= self.maxConcurrency)",
            lambda s: s.max_concurrency is None or all(point.concurrency <= s.max_concurrency for point in s.points),
            "maxConcurrency must be at least the concurrency of every point",
            ".maxConcurrency",
        ),
        Rule(
            "self.source == 'Learned' || size(self.points) > 0",
            lambda s: s.source == "Learned" or bool(s.points),
            "points must have at least one entry, unless source is Learned",
            ".points",
        ),
    )

    model: ModelName = Field(description="Model as written in the InferenceService's variant, such as org/name.")
    precision: Precision = Field(description="Numeric format of the weights.")
    gpu_product: GpuProduct = Field(
        description="Value of the node label nvidia.com/gpu.product, such as NVIDIA-H100-80GB-HBM3."
    )
    gpu_count: int = Field(default=1, ge=1, le=64, description="GPUs of a replica.")
    engine_version: Word = Field(default="", description="Engine that was measured, such as vLLM 0.11.1.")
    source: Source = Field(
        default="Declared",
        description="Declared by you, Shipped with Fallow, or Learned by watching. Learned points price energy and "
        "never size replicas; without points the profile waits for what is learned here.",
    )
    points: Points = Field(default=[], description="Behaviour by concurrency, one entry per concurrency.")
    load: Load | None = Field(
        default=None,
        description="What starting a replica takes: idle.wakeWithin, opening hours and the cost of replacing engines "
        "go by it until something was measured here. Absent: not known.",
    )
    idle_watts: float | None = Field(
        default=None,
        ge=0,
        le=100000,
        description="Power of the replica's GPUs while they are empty, watts. Absent: not known.",
    )
    context_watts: float | None = Field(
        default=None,
        ge=0,
        le=100000,
        description="Power of the replica's GPUs with the model loaded and no requests, watts. Absent: not known.",
    )
    prefill_tokens_per_second: float | None = Field(
        default=None,
        gt=0,
        le=100000000,
        description="Prompt tokens that a replica computes per second when it does nothing else. With it a service is "
        "also sized by the rate, lengths and bursts of its requests. Absent: not known.",
    )
    max_concurrency: int | None = Field(
        default=None, ge=1, le=65536, description="Most sequences that a replica runs at once. Absent: not known."
    )
    kv_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1000000000,
        description="Recorded, not acted on in this version. Tokens that fit the KV cache of a replica. "
        "Absent: not known.",
    )


class LearnedPoint(StatusModel):
    """What was measured here while replicas ran at one concurrency, idle moments within the minutes included."""

    concurrency: int = Field(ge=1, description="Sequences that ran at once, mean of the bin.")
    tokens_per_second: float = Field(gt=0, description="Generated tokens per second of a replica.")
    watts: float = Field(gt=0, description="Power of all GPUs of a replica, watts.")
    itl_millis: float | None = Field(default=None, description="Time between two tokens, median, milliseconds.")
    joules_per_token: float = Field(gt=0, description="GPU energy per generated token, joules.")
    low_joules_per_token: float | None = Field(
        default=None, ge=0, description="Lower end of the 95 % interval of joulesPerToken. Absent: not known."
    )
    high_joules_per_token: float | None = Field(
        default=None, ge=0, description="Upper end of the 95 % interval of joulesPerToken. Absent: not known."
    )
    samples: int = Field(ge=1, description="Minutes of replicas behind the point.")
    last_seen: Time = Field(description="When the replica last ran at this concurrency.")


class LearnedLoad(StatusModel):
    """What starting a replica took here, from the start of the container to ready: the mean of the last starts."""

    seconds: float = Field(gt=0, description="Time until the replica was ready, seconds.")
    joules: float | None = Field(
        default=None, ge=0, description="Energy at its GPUs until then, joules. Absent: not known."
    )


class ProfileSummary(StatusModel):
    """Figures as short texts, for the columns of kubectl get."""

    best: Word = Field(default="", description="Lowest joules per token and its concurrency, such as 0.070 at 512.")


class ModelProfileStatus(StatusModel):
    """What was learned, and what the profile comes to."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation of the spec that Fallow last acted on."
    )
    conditions: Conditions = Field(
        default=[],
        description="Ready: the profile can be used for decisions. PointsAgree: what was learned contradicts no "
        "declared point; where it does, the bin and both values are named.",
    )
    points: Annotated[list[LearnedPoint], Field(max_length=64), Keyed("concurrency")] = Field(
        default=[],
        description="Behaviour of all services that run this, as seen in this cluster, one entry per concurrency with "
        "at least 20 minutes. Shown; the operator reads its own books.",
    )
    context_watts: float | None = Field(
        default=None,
        ge=0,
        description="Draw of a replica with the model loaded and no requests, as measured, watts. Absent: not known.",
    )
    load: LearnedLoad | None = Field(default=None, description="What starting a replica took. Absent: not known.")
    point_count: int = Field(default=0, ge=0, description="Points in use, declared and learned together.")
    best_joules_per_token: float | None = Field(
        default=None, gt=0, description="Lowest GPU energy per generated token of all points, joules."
    )
    summary: ProfileSummary | None = Field(default=None, description="Figures as short texts, for kubectl get.")


class ModelProfile(ApiModel):
    """How one model variant behaves on one GPU type: throughput, latency and watts against concurrency."""

    api_version: ApiVersion = Field(description="Version of the schema: fallow.dev/v1alpha1.")
    kind: Literal["ModelProfile"] = Field(description="Name of the kind: ModelProfile.")
    metadata: ObjectMeta = Field(description="Standard Kubernetes metadata.")
    spec: ModelProfileSpec = Field(description="One model variant on one GPU type.")
    status: ModelProfileStatus = Field(default=ModelProfileStatus(), description="What was learned. Written by Fallow.")


MODEL_PROFILE = Kind(
    model=ModelProfile,
    plural="modelprofiles",
    singular="modelprofile",
    short="mprof",
    namespaced=False,
    columns=(
        Column("Model", ".spec.model", "The model."),
        Column("Precision", ".spec.precision", "Numeric format of the weights."),
        Column("GPU", ".spec.gpuProduct", "The GPU type."),
        Column("Count", ".spec.gpuCount", "GPUs of a replica.", "integer"),
        Column("Source", ".spec.source", "Declared, Shipped or Learned."),
        Column("Points", ".status.pointCount", "Points in use.", "integer"),
        Column("J/Token", ".status.summary.best", "Lowest joules per token and its concurrency."),
        AGE,
        Column("Engine", ".spec.engineVersion", "Engine that was measured.", wide=True),
    ),
)
