"""What the twin must know of a pod and a node to simulate them; where these facts come from is not its business."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.physics.constants import Gpu, ModelClass, Precision
from fallow.twin.physics.engine import EngineLimits


class PodPhase(StrEnum):
    """PULLING holds its GPUs without a context; LOADING draws loading watts and has no open port yet."""

    PULLING = "pulling"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """How the vLLM in a pod was started."""

    model: str
    served_name: str
    model_class: ModelClass
    precision: Precision
    limits: EngineLimits = field(default_factory=EngineLimits)
    sleep_mode: bool = True
    block_tokens: int = 16


@dataclass(frozen=True, slots=True)
class PodFacts:
    """`engine` is None for a GPU pod that is no vLLM; `watts` per GPU is then what it draws (None: context watts)."""

    ref: PodRef
    uid: str
    node: str
    address: str
    phase: PodPhase
    gpus: int
    container: str = "main"
    service: ServiceKey | None = None
    variant: str = ""
    engine: EngineFacts | None = None
    watts: float | None = None
    activity: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeFacts:
    name: str
    uid: str
    address: str
    gpu: Gpu
    gpus: int


def gpu_of(product: str) -> Gpu | None:
    """From the label nvidia.com/gpu.product; None for a GPU whose watts the twin does not know."""
    words = product.upper().split("-")
    if "PCIE" in words or "NVL" in words:  # other power limits and bandwidth than the SXM boards of the constants
        return None
    return next((gpu for gpu in Gpu if gpu.value in words), None)


def model_class_of(model: str) -> ModelClass:
    """A guess from the name: 70b and its like are the large class, everything else the small one."""
    lower = model.lower()
    return ModelClass.B70 if any(size in lower for size in ("70b", "72b", "65b")) else ModelClass.B8


def precision_of(declared: str, quantization: str, model: str) -> Precision:
    """From the label, else from --quantization, else from the model's name; BF16 when none says otherwise."""
    known = {precision.value: precision for precision in Precision}
    if declared.upper() in known:
        return known[declared.upper()]
    text = f"{quantization} {model}".lower()
    if "fp8" in text:
        return Precision.FP8
    if any(word in text for word in ("awq", "gptq", "int4", "w4a16")):
        return Precision.INT4
    if any(word in text for word in ("int8", "w8a8")):
        return Precision.INT8
    return Precision.BF16
