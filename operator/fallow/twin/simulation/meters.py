"""What the meters of a simulated fleet count: whole GPUs, MIG instances, GPUs used in turns, slices in no instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from fallow.domain.clocks import LOWEST_CLOCK
from fallow.domain.readings import (
    Activity,
    ActivitySource,
    ClockRange,
    EnergyCounter,
    GpuReading,
    PodRef,
    Power,
    PowerLimit,
    Share,
    Sharing,
)
from fallow.domain.units import Hertz, Instant, Seconds, Watts, energy
from fallow.twin.simulation.fleet import Fleet
from fallow.twin.simulation.machines import Node

Bounds = tuple[PowerLimit | None, ClockRange | None]


def spare(node: Node, now: float, at: Instant) -> Iterator[GpuReading]:
    """The slices of each board that are in no instance: nobody can hold them, and they draw all the same."""
    kind = node.kind
    if not kind.spare:
        return
    model, watts = f"{kind.model_name.rpartition(' ')[0]} {kind.spare}g", Watts(kind.spare_watts)
    power, counter = Power(watts, at), EnergyCounter(energy(watts, Seconds(node.on_for(now))), at)
    none = Activity(0.0, ActivitySource.ENGINE_ACTIVE, at)
    for board in range(kind.boards):
        yield GpuReading(f"GPU-{node.name}-spare-{board}", node.name, model, power, counter, none, None)


@dataclass(frozen=True, slots=True)
class Meter:
    """What tells `joules` of its own: a GPU of a node or an instance, by its `number` there; `busy` share of its time,
    0..1; `shares` of those who use it in turns.
    """

    node: Node
    number: int
    joules: float
    bounds: Bounds
    busy: float
    holder: PodRef | None = None
    shares: tuple[Share, ...] = ()


def held(fleet: Fleet, busy: Mapping[int, float], now: float, at: Instant) -> Iterator[Meter]:
    """By one pod each."""
    for replica in fleet.all_pods():
        node = replica.node
        if node is None or node.kind.in_turns:
            continue
        each = fleet.joules(replica, now) / len(replica.gpus)
        bounds = bounds_of(fleet, node, replica.pool, at)
        for gpu in replica.gpus:
            yield Meter(node, gpu, node.closed[gpu] + each, bounds, busy.get(replica.number, 0.0), replica.ref)


def in_turns(fleet: Fleet, busy: Mapping[int, float], now: float, at: Instant) -> Iterator[Meter]:
    """GPUs of which pods hold copies: dcgm-exporter names them all with --kubernetes-virtual-gpus, and the node agent
    tells each one's share of the time.
    """
    for (node_number, number), pods in fleet.sharers.gpus.items():
        node = fleet.nodes[node_number]
        joules = node.closed[number] + sum(fleet.joules(pod, now) for pod in pods)
        worked = {pod.ref: busy.get(pod.number, 0.0) for pod in pods}
        meter = Meter(node, number, joules, (None, None), min(sum(worked.values()), 1.0))
        if len(pods) == 1:
            yield replace(meter, holder=pods[0].ref)
        elif pods:
            shares = (
                Share(str(ref), Sharing.TURNS, ref, 0, Activity(worked[ref], ActivitySource.PROCESS_SM, at))
                for ref in sorted(worked)
            )
            yield replace(meter, shares=tuple(shares))


def bounds_of(fleet: Fleet, node: Node, pool: int | None, at: Instant) -> Bounds:
    """What an agent may set of a GPU, alike for all of a replica, and of a node that nobody holds."""
    design, highest = node.kind.design, node.kind.clock
    limit, clock = None, None
    if design is not None:
        limited = design if pool is None else fleet.pools.limits.get(pool, design)
        limit = PowerLimit(Watts(limited), Watts(node.kind.lowest), Watts(design), at)
    if highest is not None:
        clock = _clocks(highest, 1.0 if pool is None else fleet.pools.clocks.get(pool, 1.0))
    return limit, clock


@lru_cache(maxsize=64)
def _clocks(highest: float, share: float) -> ClockRange:
    return ClockRange(Hertz(highest * share), Hertz(highest * LOWEST_CLOCK), Hertz(highest))
