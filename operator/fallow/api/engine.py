"""How a vLLM container runs: image, resources, environment. For all variants of an InferenceService."""

from typing import Annotated

from pydantic import Field

from fallow.api.amounts import MemorySize, Quantity
from fallow.api.durations import PositiveDuration
from fallow.api.formats import DnsSubdomain, EnvName, Keyed, Line
from fallow.api.model import ApiModel, Rule

ENGINE_IMAGE = "vllm/vllm-openai:v0.32.0"


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
