"""What one query costs, from the time it takes and the power of the computers: the bounds formula of Jegham et al.

Nothing is metered here, so every input has bounds; lows go with lows and highs with highs (arXiv 2505.09598).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from fallow.domain.figures import Figure
from fallow.domain.units import Grams, GramsPerKWh, Joules, Litres, LitresPerKWh, Quantity, Seconds, Watts, energy
from fallow.domain.zones import Ratio
from fallow.footprint.impacts import carbon, facility_energy, water_used

Q = TypeVar("Q", bound=Quantity)

MEAN = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """A duration with bounds, s."""

    low: Seconds
    best: Seconds
    high: Seconds


@dataclass(frozen=True, slots=True)
class Node:
    """The computers that answer: rated power of GPUs and of the rest, and the share of each that one query takes."""

    gpu_power: Figure[Watts]
    gpu_utilization: Ratio
    host_power: Figure[Watts]
    host_utilization: Ratio


@dataclass(frozen=True, slots=True)
class Site:
    """Where the computers stand: facility overhead, water on site and at the power plants, carbon of the grid."""

    pue: Ratio
    wue_site: Figure[LitresPerKWh]
    wue_source: Figure[LitresPerKWh]
    intensity: Figure[GramsPerKWh]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Energy at the facility, water consumed on site and at the source, operational carbon."""

    energy: Figure[Joules]
    water: Figure[Litres]
    carbon: Figure[Grams]


def waiting(ttft: Span, tokens: Ratio, tokens_per_second: Ratio) -> Span:
    """Q1: T = time to first token + tokens / rate; the highest rate gives the shortest time."""
    return Span(
        Seconds(ttft.low + tokens.low / tokens_per_second.high),
        Seconds(ttft.best + tokens.best / tokens_per_second.best),
        Seconds(ttft.high + tokens.high / tokens_per_second.low),
    )


def drawn(node: Node) -> Figure[Watts]:
    """Q2: P = P_gpu * U_gpu + P_host * U_host, the part of the node's power that one query takes."""
    gpus = node.gpu_power.spread(node.gpu_utilization.low, node.gpu_utilization.best, node.gpu_utilization.high)
    host = node.host_power.spread(node.host_utilization.low, node.host_utilization.best, node.host_utilization.high)
    return gpus + host


def computers_energy(node: Node, latency: Span) -> Figure[Joules]:
    """Q2: E_it = T * P, before the facility's overhead."""
    power = drawn(node)
    return Figure(energy(power.low, latency.low), energy(power.best, latency.best), energy(power.high, latency.high))


def footprint(computers: Figure[Joules], site: Site) -> Footprint:
    """Q3: E = E_it * PUE, water = E / PUE * WUE_site + E * WUE_source, carbon = E * intensity; E / PUE is E_it."""
    facility = facility_energy(computers, site.pue)
    return Footprint(
        energy=facility,
        water=water_used(computers, site.wue_site) + water_used(facility, site.wue_source),
        carbon=carbon(facility, site.intensity),
    )


def between(figure: Figure[Q], weight: float = MEAN) -> Figure[Q]:
    """The same bounds with the best value `weight` of the way from low to high; 0.5 is their mean."""
    best = figure.low + (figure.high - figure.low) * weight
    return Figure(figure.low, min(best, figure.high), figure.high)  # the sum may round up past the bound
