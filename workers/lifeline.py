"""Ends an attempt's whole process group when its supervisor is gone, or may no longer believe in its lease.

The supervisor writes a deadline (CLOCK_MONOTONIC, one for the whole machine) into the attempt's standard input after
every renewal. End of file means that it died; a deadline that passes means that it sleeps. Either way another worker
may be given the job, so everything here must be gone before that: SIGKILL to the group, from inside.
"""

import os
import select
import signal
import sys
import threading
import time


def hold(deadline: float) -> None:
    """Watches from a thread, until the process ends. The process must lead a group of its own."""
    threading.Thread(target=_watch, args=(deadline,), name="lifeline", daemon=True).start()


def _watch(deadline: float) -> None:
    heard = b""
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], left)
        if not readable:
            continue
        said = os.read(sys.stdin.fileno(), 4096)
        if not said:
            break
        *lines, heard = (heard + said).split(b"\n")
        deadline = float(lines[-1]) if lines else deadline
    os.killpg(0, signal.SIGKILL)
