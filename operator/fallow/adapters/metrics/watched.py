"""From readings taken one after another to a window: what is left to a cluster without a history of metrics.

A slot lies between two readings: energy and tokens are differences of counters, all else is as it was at its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from fallow.domain.figures import Missing
from fallow.domain.readings import EngineReading, GpuReading, PodRef, Readings, Sharing
from fallow.domain.units import Joules, Seconds, energy
from fallow.domain.windows import EnergyMethod, EngineSlot, GpuSlot, GpuWindow, Tenure, Window


def watched(readings: Sequence[Readings], source: str) -> Window:
    """Raises ValueError for fewer than two readings."""
    if len(readings) < 2:
        raise ValueError("a window needs two readings")
    gpus: dict[str, dict[int, GpuSlot]] = {}
    engines: dict[PodRef, dict[int, EngineSlot]] = {}
    last: dict[str, GpuReading] = {}
    for number, (before, after) in enumerate(pairwise(readings)):
        for uuid, reading in after.gpus.items():
            slot = _gpu_slot(before.gpus.get(uuid), reading)
            if slot is not None:
                gpus.setdefault(uuid, {})[number] = slot
                last[uuid] = reading
        for pod, engine in after.engines.items():
            known = before.engines.get(pod)
            if known is not None:
                engines.setdefault(pod, {})[number] = _engine_slot(known, engine)
    return Window(
        edges=tuple(reading.at for reading in readings),
        gpus=tuple(
            GpuWindow(uuid, last[uuid].node, last[uuid].model_name, "", _one_method(slots))
            for uuid, slots in sorted(gpus.items())
        ),
        engines=engines,
        source=source,
        faults=tuple(dict.fromkeys(fault for one in readings for fault in _faults(one))),
    )


def _gpu_slot(before: GpuReading | None, after: GpuReading) -> GpuSlot | None:
    if before is None:
        return None
    watts = None if isinstance(after.power, Missing) else after.power.watts
    method, seconds, used = EnergyMethod.COUNTER, Seconds(0), Joules(0)
    if not isinstance(before.counter, Missing) and not isinstance(after.counter, Missing):
        seconds = Seconds(after.counter.at - before.counter.at)
        used = after.counter.joules - before.counter.joules
    if seconds <= 0 or used.value < 0:
        if isinstance(before.power, Missing) or isinstance(after.power, Missing):
            return None
        seconds = Seconds(after.power.at - before.power.at)
        method, used = EnergyMethod.POWER, energy((before.power.watts + after.power.watts) * 0.5, seconds)
    if seconds <= 0:
        return None
    return GpuSlot(seconds, used, method, watts, watts, _tenures(after))


def _one_method(slots: dict[int, GpuSlot]) -> dict[int, GpuSlot]:
    """By the counter alone where it was there once; a slot that only power knows would double what it counts later."""
    counted = {number: slot for number, slot in slots.items() if slot.method is EnergyMethod.COUNTER}
    return counted or slots


def _tenures(reading: GpuReading) -> tuple[Tenure, ...]:
    if not reading.shares:
        return (_tenure(reading.holder, "", 1.0, reading),)
    copies = Counter(share.name for share in reading.shares)
    weights = [max(share.slices, 1) / copies[share.name] for share in reading.shares]
    return tuple(
        Tenure(
            holder=share.holder,
            part=f"{share.profile or 'MIG'} #{share.name}" if share.sharing is Sharing.MIG else "",
            weight=weight / sum(weights),
            activity=None if isinstance(share.activity, Missing) else share.activity.ratio,
            activity_source=None if isinstance(share.activity, Missing) else share.activity.source,
        )
        for share, weight in zip(reading.shares, weights, strict=True)
    )


def _tenure(holder: PodRef | None, part: str, weight: float, reading: GpuReading) -> Tenure:
    activity = reading.activity
    if isinstance(activity, Missing):
        return Tenure(holder, part, weight)
    return Tenure(holder, part, weight, activity.ratio, activity.source)


def _engine_slot(before: EngineReading, after: EngineReading) -> EngineSlot:
    running = (before.running + after.running) / 2
    return EngineSlot(
        requests=_rise(before.requests, after.requests),
        tokens=_rise(before.prompt_tokens, after.prompt_tokens)
        + _rise(before.generated_tokens, after.generated_tokens),
        running=running,
        waiting=(before.waiting + after.waiting) / 2,
        busy=((before.running > 0) + (after.running > 0)) / 2,
        kv_usage=after.kv_usage,
    )


def _rise(before: float, after: float) -> float:
    """A counter that fell began anew at zero."""
    return after - before if after >= before else after


def _faults(readings: Readings) -> Sequence[Missing]:
    return [fault for fault in (readings.gpu_fault, readings.engine_fault) if fault is not None]
