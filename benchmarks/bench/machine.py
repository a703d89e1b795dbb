"""On what it was measured; without that, no figure can be compared."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def described() -> str:
    """One paragraph: processor, cores, system, Python, the libraries on the way of a prediction, date, load."""
    cores = len(os.sched_getaffinity(0))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "onnxruntime", "orjson"))
    load = os.getloadavg()[0]
    return (
        f"{cores} cores of {_processor()}, {_memory()} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {libraries}; {datetime.now(UTC):%d %B %Y}, "
        f"load {load:.1f} before it began."
    )


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
