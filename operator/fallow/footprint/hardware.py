"""What is known of a GPU by its name: power at rest, design power, and what its manufacture emitted.

Names are those of GPU feature discovery (NVIDIA-H100-80GB-HBM3) or of DCGM (NVIDIA H100 80GB HBM3). Under MIG's
strategy `single` a node's label names its instances (NVIDIA-H100-80GB-HBM3-MIG-3g.40gb), each of which is all that a
replica has. DCGM names the board, whose power it repeats for each: what is booked of a board goes by that name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

from fallow.domain.figures import Figure
from fallow.domain.slices import COMPUTE_SLICES, MEMORY_SLICES, compute_slices, memory_slices
from fallow.domain.units import Grams, Watts

# 14 H100 in service draw 127..155 W with a context where the bench gave 121.6 W (arXiv 2605.23918): up to 28 % more
IDLE_TOLERANCE = 1.3


@dataclass(frozen=True, slots=True)
class Hardware:
    """`bare`: no process. `context`: a loaded engine without work. `assumed` names the fields that nobody measured.

    `flops`: dense, in 16 bits, and `bandwidth`, B/s, by the data sheet; `units` that compute in fewer bits. `memory`:
    GB by which MIG names its parts, None where there are none.
    """

    name: str
    design: Watts
    bare: Watts
    context: Watts
    embodied: Figure[Grams]
    source: str
    assumed: tuple[str, ...] = ()
    flops: float | None = None
    bandwidth: float | None = None
    units: frozenset[str] = frozenset()
    memory: float | None = None


def _kilograms(low: float, best: float, high: float) -> Figure[Grams]:
    return Figure(Grams(low * 1e3), Grams(best * 1e3), Grams(high * 1e3))


_TURING = frozenset({"INT8"})
_HOPPER = _TURING | {"FP8"}
_BLACKWELL = _HOPPER | {"FP4"}

_PARKING = "idle: arXiv 2605.23918 (gpu-parking-tax)"
_H100_MADE = "embodied: NVIDIA HGX H100 PCF / 8, geometric mean, BoaviztAPI factors"
_A100_MADE = "embodied: 0.55 x best, BoaviztAPI, Boavizta factors by memory"

# the most specific words first: the first row whose words are all in the name is taken
TABLE: tuple[tuple[frozenset[str], Hardware], ...] = (
    (
        frozenset({"H100", "PCIE"}),
        Hardware(
            "H100 PCIe",
            Watts(350),
            Watts(59),
            Watts(85),
            _kilograms(164, 312, 592),
            f"idle: arXiv 2604.09048; {_H100_MADE}",
            ("context",),
            flops=756e12,
            bandwidth=2040e9,
            units=_HOPPER,
            memory=80,
        ),
    ),
    (
        frozenset({"H100", "NVL"}),
        Hardware(
            "H100 NVL",
            Watts(400),
            Watts(59),
            Watts(85),
            _kilograms(164, 312, 592),
            f"idle: arXiv 2604.09048; {_H100_MADE}",
            ("context",),
            flops=835e12,
            bandwidth=3940e9,
            units=_HOPPER,
            memory=94,
        ),
    ),
    (
        frozenset({"H100"}),
        Hardware(
            "H100 SXM",
            Watts(700),
            Watts(71.8),
            Watts(121.6),
            _kilograms(164, 307, 575),
            f"{_PARKING}; {_H100_MADE}",
            flops=989e12,
            bandwidth=3352e9,
            units=_HOPPER,
            memory=80,
        ),
    ),
    (
        frozenset({"H200"}),
        Hardware(
            "H200 SXM",
            Watts(700),
            Watts(71.8),
            Watts(121.6),
            _kilograms(164, 418, 1067),
            "idle: as H100 SXM, the same die; embodied: H100 PCF, Boavizta factors by memory",
            ("bare", "context"),
            flops=989e12,
            bandwidth=4800e9,
            units=_HOPPER,
            memory=141,
        ),
    ),
    (
        frozenset({"A100", "PCIE"}),
        Hardware(
            "A100 PCIe",
            Watts(300),
            Watts(53.7),
            Watts(79.9),
            _kilograms(150, 287, 549),
            f"{_PARKING}; {_A100_MADE}",
            flops=312e12,
            bandwidth=1935e9,
            units=_TURING,
            memory=80,
        ),
    ),
    (
        frozenset({"A100", "40GB"}),
        Hardware(
            "A100 SXM 40 GB",
            Watts(400),
            Watts(62.1),
            Watts(87),
            _kilograms(150, 273, 318),
            "idle: as A100 SXM 80 GB; embodied: BoaviztAPI, high Chien 2023",
            ("bare", "context"),
            flops=312e12,
            bandwidth=1555e9,
            units=_TURING,
            memory=40,
        ),
    ),
    (
        frozenset({"A100"}),
        Hardware(
            "A100 SXM 80 GB",
            Watts(400),
            Watts(62.1),
            Watts(87),
            _kilograms(150, 286, 547),
            f"idle: single devices, powertrace-sim and inference-energy; {_A100_MADE}",
            flops=312e12,
            bandwidth=2039e9,
            units=_TURING,
            memory=80,
        ),
    ),
    (
        frozenset({"L40S"}),
        Hardware(
            "L40S",
            Watts(350),
            Watts(35.6),
            Watts(102.4),
            _kilograms(100, 167, 279),
            f"{_PARKING}; embodied: Boavizta factors",
            flops=362e12,
            bandwidth=864e9,
            units=_HOPPER,
        ),
    ),
    (
        frozenset({"L4"}),
        Hardware(
            "L4",
            Watts(72),
            Watts(17),
            Watts(30),
            _kilograms(60, 83, 114),
            "idle: arXiv 2604.09048; embodied: EcoDiag generic GPU, BoaviztAPI",
            ("context",),
            flops=121e12,
            bandwidth=300e9,
            units=_HOPPER,
        ),
    ),
    (
        frozenset({"T4"}),
        Hardware(
            "T4",
            Watts(70),
            Watts(12),
            Watts(21),
            _kilograms(60, 88, 129),
            "idle: arXiv 2604.09048; embodied: EcoDiag generic GPU, P100 of BoaviztAPI as ceiling",
            ("context",),
            flops=65e12,
            bandwidth=320e9,
            units=_TURING,
        ),
    ),
    (
        frozenset({"V100"}),
        Hardware(
            "V100",
            Watts(300),
            Watts(40),
            Watts(55),
            _kilograms(100, 114, 129),
            "embodied: P100 of BoaviztAPI as ceiling",
            ("bare", "context"),
            flops=125e12,
            bandwidth=898e9,
        ),
    ),
    (
        frozenset({"B200"}),
        Hardware(
            "B200",
            Watts(1000),
            Watts(103),
            Watts(174),
            _kilograms(285, 659, 1524),
            "idle: H100's share of the design power; embodied: NVIDIA claims per EFLOP, Boavizta factors by memory",
            ("bare", "context"),
            flops=2250e12,
            bandwidth=8000e9,
            units=_BLACKWELL,
            memory=180,
        ),
    ),
)

# An unknown GPU must not be taken for idle while it works, so its idle powers are low; its manufacture spans the table.
UNKNOWN = Hardware(
    "unknown GPU",
    Watts(1000),
    Watts(20),
    Watts(60),
    _kilograms(60, 302, 1524),
    "idle: low on purpose; embodied: lowest and highest row of the table and their geometric mean",
    ("design", "bare", "context", "embodied"),
)


# how the name of an instance ends, as in a node's label or from NVML
_INSTANCE = re.compile(r"[ -]MIG[ -]((?:\dc\.)?\dg(?:\.(\d+)gb)?)", re.IGNORECASE)


@cache
def hardware_of(name: str) -> Hardware:
    """The row of a product label or DCGM model name; `UNKNOWN` where none fits. Of a MIG instance its part of that."""
    board, found = board_of(name), _INSTANCE.search(name)
    return board if found is None or board.memory is None else _part(board, found[1], found[2])


@cache
def board_of(name: str) -> Hardware:
    """As above; of a MIG instance the whole GPU that it is on."""
    words = frozenset(re.split(r"[^A-Z0-9]+", whole_name(name).upper()))
    return next((hardware for needed, hardware in TABLE if needed <= words), UNKNOWN)


def whole_name(name: str) -> str:
    """A product or model name without the MIG profile at its end."""
    return _INSTANCE.split(name)[0]


def share_of(name: str) -> float:
    """Of a GPU's compute slices that what is named has: 1 but for a MIG instance."""
    found = _INSTANCE.search(name)
    return 1.0 if found is None else compute_slices(found[1]) / COMPUTE_SLICES


def _part(board: Hardware, profile: str, gigabytes: str | None) -> Hardware:
    """By compute slices, whatever the board draws: assumed, as nobody measured an instance by itself."""
    share, bandwidth = compute_slices(profile) / COMPUTE_SLICES, None
    if gigabytes is not None and board.memory is not None and board.bandwidth is not None:
        bandwidth = board.bandwidth * memory_slices(float(gigabytes) / board.memory) / MEMORY_SLICES
    return replace(
        board,
        name=f"{board.name} {profile}",
        design=board.design * share,
        bare=board.bare * share,
        context=board.context * share,
        embodied=board.embodied * share,
        assumed=("design", "bare", "context", "embodied"),
        flops=None if board.flops is None else board.flops * share,
        bandwidth=bandwidth,
        memory=None,
    )


@cache
def idle_ceiling(name: str) -> Watts:
    """Above this draw a loaded GPU is working: context watts times the spread seen between devices."""
    return hardware_of(name).context * IDLE_TOLERANCE
