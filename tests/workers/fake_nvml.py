"""A fake of pynvml, because no GPU can be had here: its names, units and errors, and strict where the driver is.

Nothing answers before nvmlInit or after nvmlShutdown, and handles are its own. Memory is in bytes, as NVML has it.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

MIB = 1 << 20


@dataclass
class FakeDevice:
    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = "GPU-aaaa"
    total_mib: int = 81_559
    held: dict[int, int | None] = field(default_factory=dict)  # process → MiB; None: the driver does not tell it

    @property
    def free_mib(self) -> int:
        return self.total_mib - sum(size or 0 for size in self.held.values())


class FakeNvml:
    """To be put in the place of the module. `left_open` counts inits without a shutdown."""

    NVMLError = pynvml.NVMLError
    NVMLError_LibraryNotFound = pynvml.NVMLError_LibraryNotFound
    NVMLError_DriverNotLoaded = pynvml.NVMLError_DriverNotLoaded

    def __init__(self, *devices: FakeDevice, names: dict[int, str] | None = None) -> None:
        self.devices, self.names = list(devices), names or {}
        self.fails_with: Exception | None = None
        self.left_open = 0

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own names
        if self.fails_with is not None:
            raise self.fails_with
        self.left_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._require_open()
        self.left_open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._require_open()
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeDevice:  # noqa: N802
        self._require_open()
        if not 0 <= index < len(self.devices):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return self.devices[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeDevice:  # noqa: N802
        self._require_open()
        for device in self.devices:
            if device.uuid == uuid:
                return device
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUUID(self, handle: FakeDevice) -> str:  # noqa: N802
        return self._known(handle).uuid

    def nvmlDeviceGetName(self, handle: FakeDevice) -> str:  # noqa: N802
        return self._known(handle).name

    def nvmlDeviceGetMemoryInfo(self, handle: FakeDevice) -> Any:  # noqa: N802
        total, free = self._known(handle).total_mib * MIB, handle.free_mib * MIB
        return SimpleNamespace(total=total, free=free, used=total - free)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeDevice) -> list[Any]:  # noqa: N802
        held = self._known(handle).held.items()
        return [SimpleNamespace(pid=pid, usedGpuMemory=None if size is None else size * MIB) for pid, size in held]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: FakeDevice) -> list[Any]:  # noqa: N802
        self._known(handle)
        return []

    def nvmlSystemGetProcessName(self, pid: int) -> str:  # noqa: N802
        self._require_open()
        if pid not in self.names:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return self.names[pid]

    def _known(self, handle: FakeDevice) -> FakeDevice:
        self._require_open()
        assert any(handle is device for device in self.devices), "no handle of NVML's"
        return handle

    def _require_open(self) -> None:
        if self.left_open < 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
