# ruff: noqa: N802, N815 - the names are pynvml's
"""Stands in for pynvml: the same functions and errors over a few described GPUs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pynvml


class Sample(NamedTuple):
    pid: int
    timeStamp: int
    smUtil: int


class Rates(NamedTuple):
    gpu: int


@dataclass
class Gpu:
    uuid: str
    milliwatts: int | None = 300_000
    millijoules: int | None = 5_000_000
    percent: int | None = 40
    samples: list[Sample] | None = field(default_factory=list)
    instances: dict[str, int] = field(default_factory=dict)
    limit: int | None = 700_000
    bounds: tuple[int, int] = (200_000, 700_000)
    clocks: tuple[int, ...] | None = (1980, 1965, 360, 345)
    locked: tuple[int, int] | None = None


@dataclass
class Driver:
    """`NVMLError` and its kinds are pynvml's own."""

    gpus: list[Gpu]
    loaded: bool = True
    root: bool = True
    NVMLError: Any = pynvml.NVMLError
    NVMLError_NotSupported: Any = pynvml.NVMLError_NotSupported
    NVMLError_NotFound: Any = pynvml.NVMLError_NotFound
    NVML_DEVICE_MIG_ENABLE: int = pynvml.NVML_DEVICE_MIG_ENABLE

    def nvmlInit(self) -> None:
        if not self.loaded:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    def nvmlShutdown(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        self.nvmlInit()
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, handle: Gpu | str) -> str:
        return handle if isinstance(handle, str) else handle.uuid

    def nvmlDeviceGetName(self, _: Gpu) -> str:
        return "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetPowerUsage(self, handle: Gpu) -> Any:
        return _known(handle.milliwatts)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Gpu) -> Any:
        return _known(handle.millijoules)

    def nvmlDeviceGetUtilizationRates(self, handle: Gpu) -> Rates:
        return Rates(_known(handle.percent))

    def nvmlDeviceGetProcessUtilization(self, handle: Gpu, _: int) -> Any:
        if handle.samples == []:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return _known(handle.samples)

    def nvmlDeviceGetMigMode(self, handle: Gpu) -> list[int]:
        return [int(bool(handle.instances))] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, _: Gpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Gpu, number: int) -> str:
        found = list(handle.instances)[number : number + 1]
        if not found:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found[0]

    def nvmlDeviceGetGpuInstanceId(self, instance: str) -> int:
        return next(gpu.instances[instance] for gpu in self.gpus if instance in gpu.instances)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:
        return next(gpu for gpu in self.gpus if gpu.uuid == uuid)

    def nvmlDeviceGetPowerManagementLimit(self, handle: Gpu) -> Any:
        return _known(handle.limit)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: Gpu) -> int:
        return handle.bounds[1]

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: Gpu) -> list[int]:
        return list(handle.bounds)

    def nvmlDeviceSetPowerManagementLimit(self, handle: Gpu, milliwatts: int) -> None:
        self._needs_root()
        if not handle.bounds[0] <= milliwatts <= handle.bounds[1]:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        handle.limit = milliwatts

    def nvmlDeviceGetSupportedMemoryClocks(self, handle: Gpu) -> list[int]:
        return [] if handle.clocks is None else [2619, 1593]

    def nvmlDeviceGetSupportedGraphicsClocks(self, handle: Gpu, memory: int) -> list[int]:
        assert memory == 2619
        return list(handle.clocks or ())

    def nvmlDeviceSetGpuLockedClocks(self, handle: Gpu, lowest: int, highest: int) -> None:
        self._needs_root()
        handle.locked = (lowest, highest)

    def nvmlDeviceResetGpuLockedClocks(self, handle: Gpu) -> None:
        self._needs_root()
        handle.locked = None

    def _needs_root(self) -> None:
        if not self.root:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)


def _known(value: Any) -> Any:
    if value is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value
