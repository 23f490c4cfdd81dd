"""The variants of an InferenceService: precision, weights, GPUs and flags, one way to serve the model each."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.engine import Env
from fallow.api.formats import DnsLabel, GpuProduct, ModelName, Text
from fallow.api.model import ApiModel

# one place for the precisions that levers and profiles compare; any vLLM flag can still be passed in args
Precision = Literal[
    "FP32", "BF16", "FP16", "FP8", "MXFP8", "INT8", "FP6", "MXFP6", "INT4", "FP4", "NVFP4", "MXFP4", "INT2"
]


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
