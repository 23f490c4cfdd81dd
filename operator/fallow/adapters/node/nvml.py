"""The node's GPUs through NVML (nvidia-ml-py): the one place that calls it, so that all else runs without a driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import pynvml

from fallow.domain.units import Hertz, Joules, Watts, from_millijoules

T = TypeVar("T")


class NvmlUnavailable(Exception):
    """NVML cannot be used here; the message says why."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process on a GPU. `sm` is its share of the GPU's time on the multiprocessors lately, 0..1."""

    pid: int
    sm: float


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU; what it does not report is None. `processes` are those that ran on it in the last second or so.

    `instances` are its MIG instances: number by UUID.
    """

    uuid: str
    index: int
    model: str
    power: Watts | None
    energy: Joules | None
    utilization: float | None
    processes: tuple[Process, ...] | None
    instances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LimitBounds:
    """A GPU's power limit: as it is, as the driver sets it, and between what it can be set."""

    now: Watts
    default: Watts
    lowest: Watts
    highest: Watts


@dataclass(frozen=True, slots=True)
class ClockBounds:
    """Two SM clocks of a GPU: the lowest and the highest that it may have."""

    lowest: Hertz
    highest: Hertz


class GpuMeter(Protocol):
    """What reads the GPUs of this node; raises NvmlUnavailable."""

    def devices(self) -> tuple[Device, ...]: ...


class Nvml:
    """Implements GpuMeter, limiter.PowerControl and clocks.ClockControl. `library`: pynvml, or a stand-in."""

    def __init__(self, library: Any = pynvml) -> None:
        self._library = library
        self._running = False

    def devices(self) -> tuple[Device, ...]:
        return self._asked(lambda: tuple(self._device(index) for index in range(self._library.nvmlDeviceGetCount())))

    def limits(self) -> Mapping[str, LimitBounds]:
        """By UUID, of the GPUs that tell them."""
        return self._asked(lambda: dict(self._limits()))

    def limit(self, uuid: str, watts: Watts) -> None:
        """Set a power limit; raises NvmlUnavailable also where that is not allowed."""
        nvml = self._library
        try:
            nvml.nvmlDeviceSetPowerManagementLimit(nvml.nvmlDeviceGetHandleByUUID(uuid), round(watts.value * 1e3))
        except nvml.NVMLError as error:
            raise NvmlUnavailable(
                f"NVML: the power limit of {uuid} cannot be set: {error}; it takes root and the capability SYS_ADMIN"
            ) from error

    def clocks(self) -> Mapping[str, ClockBounds]:
        """By UUID, of the GPUs that tell them."""
        return self._asked(lambda: dict(self._clocks()))

    def lock(self, uuid: str, to: ClockBounds | None) -> None:
        """Keep the SM clock between two of those that it may have; None: as the driver has it.

        Raises NvmlUnavailable also where that is not allowed. NVML does not tell which clocks are locked.
        """
        nvml = self._library
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            if to is None:
                nvml.nvmlDeviceResetGpuLockedClocks(handle)
            else:
                bounds = (round(to.lowest.megahertz), round(to.highest.megahertz))
                nvml.nvmlDeviceSetGpuLockedClocks(handle, *bounds)
        except nvml.NVMLError as error:
            raise NvmlUnavailable(
                f"NVML: the clock of {uuid} cannot be set: {error}; it takes root and the capability SYS_ADMIN"
            ) from error

    def _asked(self, question: Callable[[], T]) -> T:
        try:
            if not self._running:
                self._library.nvmlInit()
                self._running = True
            return question()
        except self._library.NVMLError as error:
            # a driver that was loaded anew needs a new start
            self._running = False
            raise NvmlUnavailable(
                f"NVML: {error}; the agent needs NVIDIA's driver: run it with runtimeClassName nvidia on GPU nodes"
            ) from error

    def _limits(self) -> Iterator[tuple[str, LimitBounds]]:
        nvml = self._library
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            bounds = self._maybe(partial(nvml.nvmlDeviceGetPowerManagementLimitConstraints, handle))
            now = self._maybe(partial(nvml.nvmlDeviceGetPowerManagementLimit, handle))
            default = self._maybe(partial(nvml.nvmlDeviceGetPowerManagementDefaultLimit, handle))
            if bounds is not None and now is not None and default is not None:
                found = (Watts(milliwatts / 1e3) for milliwatts in (now, default, *bounds))
                yield nvml.nvmlDeviceGetUUID(handle), LimitBounds(*found)

    def _clocks(self) -> Iterator[tuple[str, ClockBounds]]:
        nvml = self._library
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = self._maybe(partial(nvml.nvmlDeviceGetSupportedMemoryClocks, handle))
            if not memory:
                continue
            clocks = self._maybe(partial(nvml.nvmlDeviceGetSupportedGraphicsClocks, handle, max(memory)))
            if clocks:
                yield nvml.nvmlDeviceGetUUID(handle), ClockBounds(Hertz(min(clocks) * 1e6), Hertz(max(clocks) * 1e6))

    def close(self) -> None:
        if self._running:
            self._library.nvmlShutdown()
            self._running = False

    def _device(self, index: int) -> Device:
        nvml = self._library
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        milliwatts = self._maybe(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        millijoules = self._maybe(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        rates = self._maybe(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        return Device(
            uuid=nvml.nvmlDeviceGetUUID(handle),
            index=index,
            model=nvml.nvmlDeviceGetName(handle),
            power=None if milliwatts is None else Watts(milliwatts / 1e3),
            energy=None if millijoules is None else from_millijoules(millijoules),
            utilization=None if rates is None else rates.gpu / 100,
            processes=self._processes(handle),
            instances=dict(self._instances(handle)),
        )

    def _processes(self, handle: Any) -> tuple[Process, ...] | None:
        nvml = self._library
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(handle, 0)
        except nvml.NVMLError_NotFound:
            return ()  # no process ran lately
        except nvml.NVMLError_NotSupported:
            return None
        newest: dict[int, tuple[int, float]] = {}
        for sample in samples:
            newest[sample.pid] = max(newest.get(sample.pid, (0, 0.0)), (sample.timeStamp, sample.smUtil / 100))
        return tuple(Process(pid, share) for pid, (_, share) in sorted(newest.items()))

    def _instances(self, handle: Any) -> Iterator[tuple[str, int]]:
        nvml = self._library
        mode = self._maybe(lambda: nvml.nvmlDeviceGetMigMode(handle))
        if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            instance = self._maybe(partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number))
            if instance is not None:
                yield nvml.nvmlDeviceGetUUID(instance), nvml.nvmlDeviceGetGpuInstanceId(instance)

    def _maybe(self, call: Callable[[], T]) -> T | None:
        """None for what this GPU does not report; other errors go up."""
        try:
            return call()
        except (self._library.NVMLError_NotSupported, self._library.NVMLError_NotFound):
            return None
