"""The GPUs of this machine as `nvidia-smi` tells them: announced by a worker, so that callers know before they wait.

CUDA_VISIBLE_DEVICES hides devices from the attempts, so it hides them here as well.
"""

import logging
import os
import shutil
import subprocess
from typing import TypedDict

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
FIGURES = "name,memory.total,memory.free"


class Gpu(TypedDict):
    """Memory in MiB; null where the driver does not tell it."""

    name: str
    memory_total_mib: int | None
    memory_free_mib: int | None


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
