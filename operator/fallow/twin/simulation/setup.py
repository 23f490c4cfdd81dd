"""What is simulated: nodes by kind, services with their variants, and what each of them needs to start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow.domain.slices import COMPUTE_SLICES
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.table import EngineTable

# Of the design power: 200 of 700 W on H100, 100 of 400 on A100, 100 of 350 on L40S (nvidia-smi -q -d POWER).
LOWEST_LIMIT = 0.29
# Hz: of H100 and H200; of what a simulated GPU may run at only shares of it count.
HIGHEST_CLOCK = 1.98e9


class SetupError(ValueError):
    """A fleet that cannot run its services; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class NodeKind:
    """`count` nodes alike: `product` as nvidia.com/gpu.product names their GPUs, `bare` W of each GPU without a pod.

    `design` W of a GPU, where the nodes have an agent that limits their power, and its highest SM `clock` in Hz, where
    one sets that; None where they have none.

    Under MIG's strategy `single` all this is of instances, which Kubernetes counts as GPUs: each has `slices` of the
    seven of a board, and there are `on_board` of them on each. Where GPUs are used in turns (time-slicing) Kubernetes
    counts the `copies` of each as GPUs.

    Raises SetupError where copies are of instances, or of GPUs whose power or clock somebody sets.
    """

    product: str
    model_name: str
    bare: float
    gpus: int
    count: int
    zone: str = ""
    design: float | None = None
    clock: float | None = None
    slices: int = COMPUTE_SLICES
    on_board: int = 1
    copies: int = 1

    def __post_init__(self) -> None:
        if not self.in_turns:
            return
        if self.divided:
            raise SetupError(f"{self.product}: instances are not used in turns here; write copies of 1, or whole GPUs")
        if self.design is not None or self.clock is not None:
            raise SetupError(
                f"{self.product}: power and clock of GPUs in turns are not set; write None for design, clock"
            )
        if self.gpus % self.copies:
            raise SetupError(f"{self.product}: {self.gpus} are not {self.copies} copies of each GPU; write a multiple")

    @property
    def in_turns(self) -> bool:
        return self.copies > 1

    @property
    def divided(self) -> bool:
        """By MIG."""
        return (self.slices, self.on_board) != (COMPUTE_SLICES, 1)

    @property
    def boards(self) -> int:
        return self.gpus // (self.on_board * self.copies)

    @property
    def meters(self) -> int:
        """What has joules of its own: instances, or boards however many copies of them there are."""
        return self.gpus // self.copies

    @property
    def share(self) -> float:
        """Of a board that each has."""
        return self.slices / COMPUTE_SLICES / self.copies

    @property
    def spare(self) -> int:
        """Slices of each board that are in no instance."""
        return COMPUTE_SLICES - self.slices * self.on_board

    @property
    def spare_watts(self) -> float:
        """Of those of one board: they draw what they would without a pod, on nobody's account."""
        return self.bare / self.slices * self.spare

    def beside(self, gpu: int) -> range:
        """What is on the board of one of its GPUs, by number."""
        on_board = self.on_board * self.copies
        first = gpu // on_board * on_board
        return range(first, first + on_board)

    @property
    def lowest(self) -> float:
        """W that a GPU can be limited to."""
        return LOWEST_LIMIT * (self.design or 0.0)


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Empty nodes are powered off after `after` seconds and take `boot` seconds to come back when a pod needs one.

    Cluster-autoscaler's default is 10 minutes (scale-down-unneeded-time); booting a GPU node takes minutes: assumed.
    """

    after: float = 600.0
    boot: float = 240.0


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds of a start: `pull` where the image is not on the node yet, `load` with its lognormal spread `sigma`.

    `compile_` is added where this variant never ran on the node before: later its graphs are in the node's cache.
    """

    pull: float = 30.0
    load: float = 45.0
    compile_: float = 10.0
    sigma: float = 0.3


@dataclass(frozen=True, slots=True)
class Sleep:
    """Engines sleep after `after` seconds without a request, at vLLM's `level`: 1 keeps the weights in the node's
    memory, 2 reads them anew when the next one comes.
    """

    after: float
    level: int = 1


@dataclass(frozen=True, slots=True)
class VariantSetup:
    """`tables` by product of the nodes that it may run on."""

    name: str
    gpus: int
    tables: Mapping[str, EngineTable]
    start: Start = field(default_factory=Start)


@dataclass(frozen=True, slots=True)
class ServiceSetup:
    """Objectives in seconds, infinite where there is none; `grace`: how long a pod may drain. The first variant is the
    reference. `start_replicas` are ready when the run begins. `sleep`: when its engines do, None for never.
    """

    key: ServiceKey
    variants: tuple[VariantSetup, ...]
    ttft: float
    itl: float
    minimum: int
    maximum: int
    start_replicas: int
    grace: float = 60.0
    sleep: Sleep | None = None


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """At `at` seconds; `node` by its number, None for the one with most pods. It is back after `back` seconds."""

    at: float
    node: int | None = None
    back: float | None = None


@dataclass(frozen=True, slots=True)
class Crash:
    """Engines of a service die and load again, those that have been ready for longest first."""

    at: float
    service: int
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class Hang:
    """Engines of a service answer nothing any more, those that have been ready for longest first: their requests fail,
    and they hold their GPUs. They go on after `back` seconds; None: not before their pods are removed.
    """

    at: float
    service: int
    replicas: int = 1
    back: float | None = None


@dataclass(frozen=True, slots=True)
class GpuFault:
    """A GPU of a service's oldest ready replica falls off the bus (XID 79): its pod fails, and the GPU can be used
    again after `back` seconds, when the node was reset; None: never.
    """

    at: float
    service: int
    back: float | None = None


Fault = NodeLoss | Crash | Hang | GpuFault


@dataclass(frozen=True, slots=True)
class Setup:
    """`spreads`: the scheduler puts a pod on the node with most free GPUs, instead of the one with fewest that fits."""

    nodes: tuple[NodeKind, ...]
    services: tuple[ServiceSetup, ...]
    power_off: PowerOff | None = None
    faults: tuple[Fault, ...] = ()
    spreads: bool = False

    def __post_init__(self) -> None:
        """Raises SetupError where a variant fits on no node, or wants several copies of GPUs in turns."""
        for service in self.services:
            for variant in service.variants:
                for kind in self.nodes:
                    if kind.in_turns and variant.gpus > 1 and kind.product in variant.tables:
                        raise SetupError(
                            f"{service.key}, variant {variant.name}: a replica uses one copy of a GPU in turns, not"
                            f" {variant.gpus}: write gpus.count: 1, or name products of whole GPUs in gpus.products"
                        )
                if not any(kind.product in variant.tables and kind.gpus >= variant.gpus for kind in self.nodes):
                    products = ", ".join(sorted(variant.tables)) or "any known product"
                    raise SetupError(
                        f"{service.key}, variant {variant.name}: no node has {variant.gpus} GPUs of {products};"
                        " add such nodes to the fleet or change spec.variants"
                    )
