"""What is drawn now, as the meters say: by one service, by the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fallow.domain.figures import Missing
from fallow.domain.ledger import LineKey, LineKind
from fallow.domain.readings import GpuReading, Power
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Watts
from fallow.domain.workloads import ServiceKey
from fallow.footprint.attribution import Holding, holdings
from fallow.footprint.baseline import levels
from fallow.footprint.hardware import hardware_of
from fallow.footprint.sharing import drawn_by

_Drawn = Watts | Missing


@dataclass(frozen=True, slots=True)
class Draws:
    """Each is Missing where one of its GPUs is not read. A service that holds no GPU is not among `services`.

    `unallocated` is by zone; a zone in which all GPUs are held is not among them.
    """

    services: Mapping[ServiceKey, Watts | Missing]
    unallocated: Mapping[str, Watts | Missing]
    cluster: Watts | Missing


def draws(snapshot: Snapshot) -> Draws:
    """Who draws what: each GPU with its holder's line, a shared one in the parts in which its energy is booked."""
    held = holdings(snapshot, {})
    by_line: dict[LineKey, list[_Drawn]] = {}
    for uuid, reading in snapshot.readings.gpus.items():
        holders = held[uuid]
        for holding, watts in zip(holders, _parts(reading, holders), strict=True):
            by_line.setdefault(holding.line, []).append(watts)
    by_service: dict[ServiceKey, list[_Drawn]] = {}
    for line, parts in by_line.items():
        if line.service is not None:
            by_service.setdefault(line.service, []).extend(parts)
    free = {line.zone: parts for line, parts in by_line.items() if line.kind is LineKind.UNALLOCATED}
    asked = {
        key: sum(pod.gpus for pod in pods if pod.scheduled) for key, pods in snapshot.cluster.pods_by_service.items()
    }
    fault, everything = snapshot.readings.gpu_fault, [gpu.power for gpu in snapshot.readings.gpus.values()]
    expected = sum(node.gpus for node in snapshot.cluster.nodes.values() if node.ready)
    return Draws(
        services={
            key: _drawn(by_service.get(key, []), max(count, len(by_service.get(key, []))), fault)
            for key, count in asked.items()
            if count or key in by_service
        },
        unallocated={zone: _drawn(parts, len(parts), fault) for zone, parts in free.items()},
        cluster=_drawn([_watts(power) for power in everything], max(expected, len(everything)), fault),
    )


def _parts(reading: GpuReading, held: Sequence[Holding]) -> Sequence[_Drawn]:
    watts = _watts(reading.power)
    if isinstance(watts, Missing) or len(held) == 1:
        return [watts] * len(held)
    return drawn_by(held, watts, levels(None, hardware_of(reading.model_name)))


def _watts(power: Power | Missing) -> _Drawn:
    return power if isinstance(power, Missing) else power.watts


def _drawn(parts: Sequence[_Drawn], expected: int, fault: Missing | None) -> Watts | Missing:
    known = [watts for watts in parts if not isinstance(watts, Missing)]
    if len(known) == expected:
        return Watts(sum(watts.value for watts in known))
    unread = next((watts for watts in parts if isinstance(watts, Missing)), fault)
    reason = unread.reason if unread else Reason.NO_SERIES
    return Missing(reason, f"power of {len(known)} of {expected} GPUs is known")
