"""What the twin must know of a pod and a node to simulate them; where these facts come from is not its business."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fallow.domain.readings import PodRef
from fallow.domain.workloads import ServiceKey
from fallow.twin.behaviours import Behaviour
from fallow.twin.calibration.tasks import Precision
from fallow.twin.host import HostMeter
from fallow.twin.physics.constants import Gpu
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.physics.parts import Profile

GPU_RESOURCE = "nvidia.com/gpu"
SHARED_RESOURCE = "nvidia.com/gpu.shared"
MIG_PREFIX = "nvidia.com/mig-"


class PodPhase(StrEnum):
    """PULLING holds its GPUs without a context; LOADING draws loading watts and has no open port yet."""

    PULLING = "pulling"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """How the vLLM in a pod was started; `clients` of the twin's own ask it one request after another.

    `like` names the model whose law it has, where that is not `model`. `throttles`: the clocks of its GPUs fall while
    it has nothing to do.
    """

    model: str
    served_name: str
    precision: Precision
    limits: EngineLimits = field(default_factory=EngineLimits)
    sleep_mode: bool = True
    throttles: bool = False
    block_tokens: int = 16
    clients: int = 0
    like: str = ""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """`engine` is None for a GPU pod that is no vLLM: it behaves, or draws `watts` per GPU (None: context watts).

    `gpus` is how many places it asks for of the kind that `resource` names; `load_seconds`: when its container starts
    again, None: by the size of its model.
    """

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
    resource: str = GPU_RESOURCE
    behaviour: Behaviour | None = None
    load_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Division:
    """How the GPUs of a node are handed out: whole, as `copies` used in turns, or as MIG instances, by GPU.

    `resource` is what whole GPUs and copies are asked for by, and instances too where `single` (MIG's strategy).
    """

    instances: tuple[tuple[Profile, ...], ...] = ()
    copies: int = 1
    resource: str = GPU_RESOURCE
    single: bool = False

    def instances_of(self, index: int) -> tuple[Profile, ...]:
        return self.instances[index] if self.instances else ()

    def resource_of(self, profile: Profile) -> str:
        return self.resource if self.single else f"{MIG_PREFIX}{profile.name}"


@dataclass(frozen=True, slots=True)
class ExporterFacts:
    """How dcgm-exporter was started: --kubernetes-virtual-gpus, and NVIDIA_RESOURCE_NAMES besides its own.

    Without --kubernetes it names no pods.
    """

    virtual_gpus: bool = False
    resource_names: frozenset[str] = frozenset()
    kubernetes: bool = True

    def sees(self, resource: str) -> bool:
        own = resource == GPU_RESOURCE or resource.startswith(MIG_PREFIX)
        return self.kubernetes and (own or resource in self.resource_names)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """`gpus` are physical ones."""

    name: str
    uid: str
    address: str
    gpu: Gpu
    gpus: int
    division: Division = field(default_factory=Division)
    exporter: ExporterFacts = field(default_factory=ExporterFacts)
    host_meter: HostMeter = HostMeter.RAPL

    @property
    def offers(self) -> int:
        """GPUs, copies or instances that pods can ask for."""
        instances = sum(map(len, self.division.instances))
        return instances or self.gpus * self.division.copies

    @property
    def hardware(self) -> tuple[object, ...]:
        """With another one it is another node under an old name."""
        return self.uid, self.gpu, self.gpus, self.division


def gpu_of(product: str) -> Gpu | None:
    """From the label nvidia.com/gpu.product; None for a GPU whose watts the twin does not know."""
    words = product.upper().split("-")
    if "PCIE" in words or "NVL" in words:  # other power limits and bandwidth than the SXM boards of the constants
        return None
    return next((gpu for gpu in Gpu if gpu.value in words), None)


def precision_of(declared: str, quantization: str, model: str) -> Precision:
    """From the label, else from --quantization, else from the model's name; BF16 when none says otherwise."""
    known = {precision.value: precision for precision in Precision}
    if declared.upper() in known:
        return known[declared.upper()]
    text = f"{quantization} {model}".lower()
    if "fp8" in text:
        return Precision.FP8
    if "fp4" in text:
        return Precision.MXFP4
    if any(word in text for word in ("awq", "gptq", "int4", "w4a16")):
        return Precision.INT4
    if any(word in text for word in ("int8", "w8a8")):
        return Precision.INT8
    return Precision.BF16
