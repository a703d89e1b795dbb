"""Becomes another program that does not outlive its parent: `launch.py PARENT SIGNAL UID GID PROGRAM…`.

Run by path, before the program and in its place. A process can ask the kernel (Linux) to be signalled when
its parent dies, but only for itself, and only after it has changed its user: so it is done here, between fork
and exec, and not in a `preexec_fn`, which may deadlock where threads run. UID and GID are `-` to stay.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, signal: str, uid: str, gid: str, *program: str) -> None:
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal))
    # The parent may have died before the kernel was asked.
    if os.getppid() != int(parent):
        sys.exit("The process that started this one is gone.")
    try:
        os.execv(program[0], program)  # noqa: S606 - replacing ourselves is the point
    except OSError as error:
        sys.exit(f"{program[0]} cannot be run: {error.strerror}")


main(*sys.argv[1:])
