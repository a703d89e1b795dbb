"""A small disk that can be filled: a tmpfs in a mount table of this process alone."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

CLONE_NEWNS = 0x00020000


@cache
def lacks_mounts() -> str | None:
    """None once this process has a mount table of its own, which vanishes with it; else why it cannot have one.

    To be asked before there are threads: only those made afterwards share the table.
    """
    if sys.platform != "linux":
        return "no tmpfs"
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        return f"no mounts ({os.strerror(ctypes.get_errno())})"
    made_private = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False)
    return None if made_private.returncode == 0 else "no mounts (they would be everybody's)"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """`folder`, new, is a disk of its own of `size` bytes while the block lasts, where this machine lets us."""
    folder.mkdir()
    mounted = lacks_mounts() is None
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(ballast: Path) -> None:
    """The file `ballast` takes all that is left on its disk."""
    with ballast.open("wb") as file:
        disk = os.fstatvfs(file.fileno())
        for size in (disk.f_bavail * disk.f_frsize, *[disk.f_frsize] * 64):
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
            except OSError:  # somebody else took the last of it meanwhile
                return
