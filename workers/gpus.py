"""The GPUs of this machine: as `nvidia-smi` tells them, announced by a worker, so that callers know before they wait;
and as NVML tells them to an attempt that needs one, with who holds their memory.

CUDA_VISIBLE_DEVICES hides devices from the attempts, so it hides them here as well.
"""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
FIGURES = "name,memory.total,memory.free"


class Gpu(TypedDict):
    """Memory in MiB; null where the driver does not tell it."""

    name: str
    memory_total_mib: int | None
    memory_free_mib: int | None


@dataclass(frozen=True)
class Holder:
    """A process with memory on a GPU. `mib` is None where the driver does not tell it, as inside containers."""

    pid: int
    name: str
    mib: int | None


@dataclass(frozen=True)
class Device:
    """What NVML says of one GPU now, memory in MiB."""

    uuid: str
    name: str
    total_mib: int
    free_mib: int
    holders: tuple[Holder, ...]


def present() -> list[Gpu] | None:
    """None where there is no NVIDIA driver, no device that may be used, or no answer. Blocks."""
    command = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if command is None or visible in ("", "-1"):
        return None
    which = [f"--id={visible}"] if visible else []
    asked = [command, f"--query-gpu={FIGURES}", "--format=csv,noheader,nounits", *which]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS).stdout
        return [_gpu(line) for line in told.splitlines() if line.strip()] or None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("nvidia-smi does not tell the GPUs (%s)", error)
        return None


def _gpu(line: str) -> Gpu:
    """`NVIDIA H100 80GB HBM3, 81559, 80994`: a name may have commas, the figures come last.

    Raises ValueError for what is no such line.
    """
    name, total, free = line.rsplit(",", 2)
    return {"name": name.strip(), "memory_total_mib": _mib(total), "memory_free_mib": _mib(free)}


def _mib(told: str) -> int | None:
    """`[N/A]` and the like on devices without memory of their own."""
    return int(told) if told.strip().isdigit() else None


def look() -> list[Device] | None:
    """The devices that may be used, in NVML's order. None where there is no NVML, no driver or no such device.

    Blocks for some milliseconds; imports nothing of CUDA and takes no memory on the device.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        with _nvml(pynvml):
            return [_device(pynvml, handle) for handle in _visible(pynvml)] or None
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None
    except pynvml.NVMLError as error:
        log.warning("NVML does not tell the GPUs (%s)", error)
        return None


@contextmanager
def _nvml(pynvml: Any) -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _visible(pynvml: Any) -> list[Any]:
    """As CUDA reads its variable: numbers or beginnings of UUIDs, up to the first that names nothing.

    CUDA numbers devices as NVML does only under CUDA_DEVICE_ORDER=PCI_BUS_ID, or where all are of one kind.
    """
    every = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return every
    uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in every]
    found = []
    for name in (part.strip() for part in named.split(",")):
        if name.isdigit() and int(name) < len(every):
            found.append(every[int(name)])
        elif name.startswith("MIG-"):
            found.append(pynvml.nvmlDeviceGetHandleByUUID(name))
        elif name.startswith("GPU-") and (hits := [n for n, uuid in enumerate(uuids) if uuid.startswith(name)]):
            found.append(every[hits[0]])
        else:
            break
    return found


def _device(pynvml: Any, handle: Any) -> Device:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    running = [
        *pynvml.nvmlDeviceGetComputeRunningProcesses(handle),
        *pynvml.nvmlDeviceGetGraphicsRunningProcesses(handle),
    ]
    used = {process.pid: process.usedGpuMemory for process in running}
    holders = [Holder(pid, _called(pynvml, pid), size and size >> 20) for pid, size in used.items()]
    return Device(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        total_mib=memory.total >> 20,
        free_mib=memory.free >> 20,
        holders=tuple(sorted(holders, key=lambda holder: -(holder.mib or 0))),
    )


def _called(pynvml: Any, pid: int) -> str:
    try:
        return str(pynvml.nvmlSystemGetProcessName(pid))
    except pynvml.NVMLError:
        return "unknown"  # of another container, or it has ended meanwhile
