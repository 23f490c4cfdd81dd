"""What is drawn now, as the meters say: by one service, by the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fallow.domain.figures import Missing
from fallow.domain.ledger import LineKind
from fallow.domain.readings import GpuReading
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Watts
from fallow.domain.workloads import ServiceKey
from fallow.footprint.attribution import holdings


@dataclass(frozen=True, slots=True)
class Draws:
    """Each is Missing where one of its GPUs is not read. A service that holds no GPU is not among `services`."""

    services: Mapping[ServiceKey, Watts | Missing]
    unallocated: Watts | Missing
    cluster: Watts | Missing


def draws(snapshot: Snapshot) -> Draws:
    """Who draws what, each GPU with its holder's line."""
    lines = holdings(snapshot, {})
    by_service: dict[ServiceKey, list[GpuReading]] = {}
    free: list[GpuReading] = []
    for uuid, reading in snapshot.readings.gpus.items():
        line = lines[uuid].line
        if line.service is not None:
            by_service.setdefault(line.service, []).append(reading)
        elif line.kind is LineKind.UNALLOCATED:
            free.append(reading)
    held = {
        key: sum(pod.gpus for pod in pods if pod.scheduled) for key, pods in snapshot.cluster.pods_by_service.items()
    }
    fault, everything = snapshot.readings.gpu_fault, list(snapshot.readings.gpus.values())
    expected = sum(node.gpus for node in snapshot.cluster.nodes.values() if node.ready)
    return Draws(
        services={
            key: _drawn(by_service.get(key, []), max(count, len(by_service.get(key, []))), fault)
            for key, count in held.items()
            if count or key in by_service
        },
        unallocated=_drawn(free, len(free), fault),
        cluster=_drawn(everything, max(expected, len(everything)), fault),
    )


def _drawn(gpus: list[GpuReading], expected: int, fault: Missing | None) -> Watts | Missing:
    powers = [reading.power for reading in gpus]
    known = [power.watts for power in powers if not isinstance(power, Missing)]
    if len(known) == expected:
        return sum(known, start=Watts(0))
    unread = next((power for power in powers if isinstance(power, Missing)), fault)
    reason = unread.reason if unread else Reason.NO_SERIES
    return Missing(reason, f"power of {len(known)} of {expected} GPUs is known")
