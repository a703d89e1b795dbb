"""A virtual environment for each peer, built on demand and kept outside the tree."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.report import progress

PEERS = Path(__file__).parent
# Ray and MLflow are hundreds of megabytes; a registry that does not answer must not hold up the rest.
INSTALL_SECONDS = 600.0


class Unavailable(Exception):
    """A peer that cannot be had or does not run here; the message says why, in one line."""


def bin_of(name: str | None) -> Path:
    """The folder with `python` and the commands of that peer's environment; None is the project's own.

    Built in the cache where its requirements have changed or it was never there. Raises Unavailable.
    """
    if name is None:
        return Path(sys.executable).parent
    requirements = PEERS / name / "requirements.txt"
    folder = cache() / f"{name}-{_digest(requirements)}"
    if not (folder / ".complete").exists():
        _build(folder, name, requirements)
    return folder / "bin"


def cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "refit-bench"


def _digest(requirements: Path) -> str:
    """Of the requirements and the Python that they were installed for."""
    content = requirements.read_bytes() + sys.version.encode()
    return hashlib.sha256(content).hexdigest()[:12]


def _build(folder: Path, name: str, requirements: Path) -> None:
    progress(f"installing {name} into {folder}")
    for older in folder.parent.glob(f"{name}-*"):
        shutil.rmtree(older)
    try:
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(folder / "bin" / "pip"), "install", "--quiet", "--requirement", str(requirements))
    except subprocess.SubprocessError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Unavailable(f"could not be installed: {_reason(error)}") from error
    (folder / ".complete").touch()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)


def _reason(error: subprocess.SubprocessError) -> str:
    """The last thing that pip said."""
    said = (getattr(error, "stderr", None) or str(error)).strip()
    return str(said).splitlines()[-1]
