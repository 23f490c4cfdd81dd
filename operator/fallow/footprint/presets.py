"""What Jegham et al. take for hosted models nobody can meter: power of nodes, its share per query, providers' sites.

Every number is from arXiv 2505.09598 and the authors' published script. The shares follow from U = G * D / (N * B):
G GPUs of N = 8 serve a model of the class, B = 8 queries run together, and the parts draw D of their rated power.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.domain.figures import Figure
from fallow.domain.units import GramsPerKWh, LitresPerKWh, Watts
from fallow.domain.zones import Ratio
from fallow.footprint.query import Site

SOURCE = "Jegham et al. 2025, arXiv 2505.09598"


@dataclass(frozen=True, slots=True)
class Machine:
    """A node of eight accelerators: rated power, and the share of it that one query takes, by class of model."""

    gpu_power: Watts
    host_power: Watts
    shares: dict[str, tuple[Ratio, Ratio]]


def _share(low: float, high: float, host: float) -> tuple[Ratio, Ratio]:
    return Ratio(low, (low + high) / 2, high), Ratio(host, host, host)


_HOPPER = Machine(
    Watts(5600),
    Watts(4600),
    {
        "large": _share(0.055, 0.075, 0.0625),
        "medium": _share(0.03, 0.045, 0.03125),
        "small": _share(0.017, 0.025, 0.016),
        "micro": _share(0.0075, 0.0125, 0.0087),
        "nano": _share(0.0055, 0.01, 0.0087),
    },
)
MACHINES = {
    "h100": _HOPPER,
    "h200": _HOPPER,
    "h800": _HOPPER,
    "a100": Machine(
        Watts(3200),
        Watts(3300),
        {"large": _share(0.125, 0.15, 0.0625), "medium": _share(0.0625, 0.07, 0.0312)},
    ),
    "tpu-v6e": Machine(Watts(1200), Watts(960), {"large": _share(0.1, 0.1125, 0.1)}),
}
CLASSES = tuple(_HOPPER.shares)


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a provider's models run, and on what unless somebody says otherwise."""

    site: Site
    machine: str


def _site(pue: float, wue_site: float, wue_source: float, grams: float) -> Site:
    return Site(
        Ratio(pue, pue, pue),
        Figure.exact(LitresPerKWh(wue_site)),
        Figure.exact(LitresPerKWh(wue_source)),
        Figure.exact(GramsPerKWh(grams)),
    )


_AZURE = Provider(_site(1.12, 0.30, 4.35, 340), "h100")
_AWS = Provider(_site(1.14, 0.18, 5.12, 300), "h100")
PROVIDERS = {
    "azure": _AZURE,
    "openai": _AZURE,
    "aws": _AWS,
    "anthropic": _AWS,
    "meta": _AWS,
    "deepseek": Provider(_site(1.27, 1.2, 6.016, 600), "h800"),
    "google": Provider(_site(1.09, 0.30, 1.1, 231), "tpu-v6e"),
    "xai": Provider(_site(1.5, 0.36, 3.142, 385), "h100"),
}
