"""From range queries over DCGM's series to GPUs slot by slot: energy by the counter, holders by share of time.

Whoever repeats a GPU's series (a second exporter, MIG instances, pods that take turns) repeats the whole board's
energy: one UUID has one counter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from fallow.adapters.metrics import dcgm
from fallow.adapters.metrics.gpu_shares import INSTANCE, PROFILE
from fallow.adapters.metrics.samples import Sample
from fallow.domain.readings import ActivitySource, PodRef
from fallow.domain.slices import compute_slices
from fallow.domain.units import Instant, Joules, Seconds, Watts, from_millijoules
from fallow.domain.windows import EnergyMethod, GpuSlot, GpuWindow, Tenure

# on the series of pods that use a GPU in turns, where the exporter names them all
_COPY = "vgpu"
# no GPU draws this much for a whole slot: a counter that claims it is broken
_HIGHEST_WATTS = 2000.0
# by how much of the slots with watts the counter must reach, to be the GPU's method
_ENOUGH = 0.5


class Signal(StrEnum):
    """What is asked of each GPU series, and the metric it is asked of."""

    ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    ENERGY_TIME = "time of DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    WATTS = "DCGM_FI_DEV_POWER_USAGE"
    PEAK = "highest DCGM_FI_DEV_POWER_USAGE"
    SAMPLES = "number of DCGM_FI_DEV_POWER_USAGE"
    ACTIVE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
    UTIL = "DCGM_FI_DEV_GPU_UTIL"
    SM = "DCGM_FI_PROF_SM_ACTIVE"
    TENSOR = "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"
    MEMORY = "DCGM_FI_PROF_DRAM_ACTIVE"


_RATIOS = (Signal.ACTIVE, Signal.SM, Signal.TENSOR, Signal.MEMORY)


@dataclass(frozen=True, slots=True)
class GpuSeries:
    """`values` by edge: at edge k is the newest counter before it, or the mean over the slot that ends there."""

    labels: Mapping[str, str]
    values: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class _Place:
    """A GPU, a MIG instance or a copy in turns, and a holder, as one exporter names them."""

    instance: str
    part: str
    slices: int
    holder: PodRef | None
    copy: str


@dataclass(slots=True)
class _Gpu:
    node: str
    model: str
    index: str
    signals: dict[Signal, dict[_Place, dict[int, float]]]

    def of(self, signal: Signal) -> Mapping[_Place, Mapping[int, float]]:
        return self.signals.get(signal, {})


def gpu_windows(
    signals: Mapping[Signal, Sequence[GpuSeries]],
    edges: Sequence[Instant],
    *,
    labels: dcgm.DcgmLabels,
    exporters: dcgm.Exporters,
) -> tuple[GpuWindow, ...]:
    found: dict[str, _Gpu] = {}
    for signal, series in signals.items():
        for one in series:
            _put(found, signal, one, labels, exporters)
    windows = ((uuid, gpu, _slots(gpu, edges)) for uuid, gpu in sorted(found.items()))
    return tuple(GpuWindow(uuid, gpu.node, gpu.model, gpu.index, slots) for uuid, gpu, slots in windows if slots)


def _put(
    found: dict[str, _Gpu], signal: Signal, series: GpuSeries, labels: dcgm.DcgmLabels, exporters: dcgm.Exporters
) -> None:
    """One reading of one sample tells what the labels mean."""
    sample = Sample(Signal.WATTS.value, series.labels, 0.0, Instant(0))
    for uuid, reading in dcgm.read_gpus([sample], labels=labels, exporters=exporters).items():
        gpu = found.setdefault(uuid, _Gpu(reading.node, reading.model_name, series.labels.get("gpu", ""), {}))
        gpu.node, gpu.model = gpu.node or reading.node, gpu.model or reading.model_name
        profile = series.labels.get(PROFILE, "")
        instance = series.labels.get(INSTANCE, "")
        place = _Place(
            instance=series.labels.get("instance", ""),
            part=f"{profile or 'MIG'} #{instance}" if instance else "",
            slices=compute_slices(profile) if instance else 1,
            holder=reading.holder or next((share.holder for share in reading.shares), None),
            copy=series.labels.get(_COPY, ""),
        )
        values = gpu.signals.setdefault(signal, {}).setdefault(place, {})
        for edge, value in series.values.items():
            # copies of one series (two jobs, an error code among the labels) hold the same value
            values[edge] = max(values.get(edge, 0.0), value)


def _slots(gpu: _Gpu, edges: Sequence[Instant]) -> dict[int, GpuSlot]:
    exporters = _exporters(gpu, len(edges))
    tenures = {edge - 1: _tenures(gpu, edge, exporters[edge]) for edge in range(1, len(edges)) if edge in exporters}
    watts = _highest(gpu.of(Signal.WATTS), exporters)
    peaks = _highest(gpu.of(Signal.PEAK), exporters)
    by_power = {
        edge - 1: GpuSlot(
            seconds=Seconds(edges[edge] - edges[edge - 1]),
            energy=Joules(watts[edge] * (edges[edge] - edges[edge - 1])),
            method=EnergyMethod.POWER,
            watts=Watts(watts[edge]),
            peak=Watts(peaks[edge]) if edge in peaks else None,
            tenures=tenures.get(edge - 1, ()),
        )
        for edge in watts
        if edge > 0 and watts[edge] < _HIGHEST_WATTS
    }
    counted = _counted(gpu, edges, exporters, by_power)
    for number, slot in counted.items():
        seen = by_power.get(number)
        counted[number] = replace(
            slot,
            watts=seen.watts if seen else None,
            peak=seen.peak if seen else None,
            tenures=tenures.get(number, ()),
        )
    return counted if counted and len(counted) >= _ENOUGH * len(by_power) else by_power


def _exporters(gpu: _Gpu, edges: int) -> dict[int, str]:
    """At each edge one exporter of those that show the GPU there: the one of before where it still does."""
    shown: defaultdict[int, set[str]] = defaultdict(set)
    for signal in (Signal.ENERGY, Signal.WATTS):
        for place, values in gpu.of(signal).items():
            for edge in values:
                shown[edge].add(place.instance)
    chosen: dict[int, str] = {}
    last = ""
    for edge in range(edges):
        if shown.get(edge):
            last = last if last in shown[edge] else min(shown[edge])
            chosen[edge] = last
    return chosen


def _highest(places: Mapping[_Place, Mapping[int, float]], exporters: Mapping[int, str]) -> dict[int, float]:
    found: dict[int, float] = {}
    for place, values in places.items():
        for edge, value in values.items():
            if value >= 0 and exporters.get(edge) == place.instance:
                found[edge] = max(found.get(edge, 0.0), value)
    return found


def _counted(
    gpu: _Gpu, edges: Sequence[Instant], exporters: Mapping[int, str], by_power: Mapping[int, GpuSlot]
) -> dict[int, GpuSlot]:
    """Energy by differences of the counter; a difference over several slots is spread evenly over them."""
    counter = _highest(gpu.of(Signal.ENERGY), exporters)
    times = _highest(gpu.of(Signal.ENERGY_TIME), exporters)
    known = [
        (edge, times[edge] if times else edges[edge], from_millijoules(counter[edge]).value)
        for edge in sorted(counter)
        if not times or edge in times
    ]
    slots: dict[int, GpuSlot] = {}
    for (first, began, before), (last, ended, after) in pairwise(known):
        seconds = ended - began
        if seconds <= 0:
            continue
        joules = after - before
        if not 0 <= joules <= _HIGHEST_WATTS * seconds:
            # the driver began anew, or the meter erred: power stands in where it was seen
            slots |= {number: by_power[number] for number in range(first, last) if number in by_power}
            continue
        part = 1 / (last - first)
        each = GpuSlot(Seconds(seconds * part), Joules(joules * part), EnergyMethod.COUNTER)
        slots |= dict.fromkeys(range(first, last), each)
    return slots


def _tenures(gpu: _Gpu, edge: int, exporter: str) -> tuple[Tenure, ...]:
    """Who held which part in the slot that ends here, each by its number of samples and its slices."""
    places = {
        place: gpu.of(Signal.SAMPLES).get(place, {}).get(edge, 1.0) * place.slices
        for signal in (Signal.WATTS, Signal.ENERGY)
        for place, values in gpu.of(signal).items()
        if edge in values and place.instance == exporter
    }
    if any(place.part for place in places):
        # the whole GPU beside its instances is no part of its own
        places = {place: weight for place, weight in places.items() if place.part}
    total = sum(places.values())
    if total <= 0:
        return ()
    return tuple(
        _tenure(gpu, place, edge, weight=weight / total, time=_time(place, places)) for place, weight in places.items()
    )


def _time(place: _Place, weights: Mapping[_Place, float]) -> float:
    """Holders of one part follow each other; copies in turns are there at the same time."""
    if place.copy:
        return weights[place] / max(weights.values())
    return weights[place] / sum(weight for other, weight in weights.items() if other.part == place.part)


def _tenure(gpu: _Gpu, place: _Place, edge: int, *, weight: float, time: float) -> Tenure:
    active, sm, tensor, memory = (_ratio(gpu, signal, place, edge) for signal in _RATIOS)
    util = _ratio(gpu, Signal.UTIL, place, edge, percent=True)
    activity, source = active, ActivitySource.ENGINE_ACTIVE
    if activity is None and util is not None:
        activity, source = util, ActivitySource.GPU_UTIL
    return Tenure(
        holder=place.holder,
        part=place.part,
        weight=weight,
        time=time,
        in_turns=bool(place.copy),
        activity=activity,
        activity_source=None if activity is None else source,
        sm=sm,
        tensor=tensor,
        memory=memory,
    )


def _ratio(gpu: _Gpu, signal: Signal, place: _Place, edge: int, *, percent: bool = False) -> float | None:
    value = gpu.of(signal).get(place, {}).get(edge)
    if value is None:
        return None
    ratio = value / 100 if percent else value
    return min(ratio, 1.0) if 0 <= ratio <= 1.01 else None
