"""A full disk under its own name: before a large file is begun, and where the space ends in the middle of one."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.pipeline import PipelineError

MIB = 1 << 20
# Tokenizer, configuration and what the file system itself takes.
BESIDE = 16 * MIB
# No space, over quota, and over the largest file that is allowed: each is mended by whoever owns the disk.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def room(folder: Path, size: int, what: str) -> Iterator[None]:
    """`folder`, new and empty, for about `size` bytes of `what`; it is removed where it is not written whole.

    Raises PipelineError `disk_full`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if free(folder) < size + BESIDE:
        folder.rmdir()
        raise _full(folder, size, what, "is needed")
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if is_full(error):
            raise _full(folder, size, what, "was not enough before it was whole") from error
        raise


def free(folder: Path) -> int:
    """Bytes that this user may still write."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def is_full(error: BaseException) -> bool:
    """safetensors and subprocesses tell it in words only."""
    return getattr(error, "errno", None) in FULL or says_full(str(error))


def says_full(text: str) -> bool:
    return any(os.strerror(number) in text for number in FULL)


def _full(folder: Path, size: int, what: str, how: str) -> PipelineError:
    needed, there = _mib(size + BESIDE), free(folder.parent) // MIB
    return PipelineError(
        "disk_full",
        f"For {what} {needed} MiB {how} in {folder.parent}; {there} MiB are free.",
        f"Free {max(1, needed - there)} MiB or more in REFIT_STORE_DIR, then resume the job: it goes on at this stage.",
    )


def _mib(size: int) -> int:
    return -(-size // MIB)
