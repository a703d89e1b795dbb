"""A service as a process: it cannot outlive us, says when it is ready, and ends without remains."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from app.cli.embedded import CannotStart
from app.cli.embedded.account import Account

LAUNCH = Path(__file__).with_name("launch.py")
START_SECONDS = 120.0  # Postgres may have a crash to recover from
TICK = 0.05

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Service:
    """How to run one program.

    `ready` asks the service itself. `stop` are the signals to try before SIGKILL, each for `patience` s.
    `orphaned` is the signal from the kernel when we die. `passed` are open descriptors to hand over.
    """

    name: str
    command: Sequence[str | Path]
    ready: Callable[[], bool]
    stop: tuple[Signals, ...] = (Signals.SIGTERM,)
    patience: float = 10.0
    orphaned: Signals = Signals.SIGKILL
    environment: Mapping[str, str] | None = None
    stdin: bytes = b""
    account: Account | None = None
    folder: Path | None = None
    passed: tuple[int, ...] = ()


def start(service: Service, log: Path) -> Process:
    """Starts the service in a session of its own, so that Ctrl-C reaches only us.

    Call it from the main thread: the kernel ties a child's life to the thread that made it.
    """
    who = (service.account.uid, service.account.gid) if service.account else ("-", "-")
    launch = (sys.executable, "-I", "-S", LAUNCH, os.getpid(), int(service.orphaned), *who, *service.command)
    with log.open("ab") as output, tempfile.TemporaryFile() as stdin:
        stdin.write(service.stdin)
        stdin.seek(0)
        if service.account:
            os.fchown(stdin.fileno(), service.account.uid, service.account.gid)
        return subprocess.Popen(
            [str(part) for part in launch],
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd=service.folder,
            env=service.environment,
            pass_fds=service.passed,
            start_new_session=True,
        )


def wait_ready(service: Service, process: Process, log: Path, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Returns once the service answers, or when we are told not to go on.

    Raises CannotStart with the end of its log when it ends, or stays silent for two minutes.
    """
    deadline = time.monotonic() + START_SECONDS
    while go_on() and not service.ready():
        if process.poll() is not None:
            raise CannotStart(f"{service.name} ended at once: {tail(log)}", remedy=f"See {log}.")
        if time.monotonic() > deadline:
            raise CannotStart(f"{service.name} does not get ready: {tail(log)}", remedy=f"See {log}.")
        time.sleep(TICK)


def tail(log: Path, lines: int = 3) -> str:
    """The end of a log, on one line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        return " | ".join(file.read().decode(errors="replace").splitlines()[-lines:])


def stop(service: Service, process: Process) -> None:
    """Asks with each of the service's signals in turn, then kills."""
    for signal_number in service.stop:
        if process.poll() is None:
            process.send_signal(signal_number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(service.patience)
    kill(process)


def kill(process: Process) -> None:
    """Ends the process and its whole group at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_orphans(log: Path, signal_number: Signals = Signals.SIGKILL, *, seconds: float = 10.0) -> None:
    """Ends what an earlier start of a service left behind: by the signal, and after `seconds` by SIGKILL.

    The signal is for the service itself; it ends what it has started. SIGKILL is for each of them.
    """
    deadline = time.monotonic() + seconds
    asked: set[int] = set()
    while left := _writers(log):
        if time.monotonic() > deadline:
            signal_number = Signals.SIGKILL
        for pid, parent in left.items():
            if signal_number == Signals.SIGKILL or (pid not in asked and parent not in left):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal_number)
        asked |= set(left)
        time.sleep(TICK)


def _writers(log: Path) -> dict[int, int]:
    """Whose standard output is this log, each with its parent: the service, and all that it started.

    Also a Postgres backend, which is in no group of its postmaster's and survives it while it computes.
    """
    if sys.platform == "linux":
        return _writers_in_proc(log)
    lsof = ["/usr/sbin/lsof", "-F", "pR", "-a", "-d", "1", log]
    listed = subprocess.run(lsof, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
    numbers = [int(line[1:]) for line in listed if line.startswith(("p", "R"))]
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def _writers_in_proc(log: Path) -> dict[int, int]:
    writers = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is somebody else's
            if str((process / "fd/1").readlink()).removesuffix(" (deleted)") == str(log):
                writers[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return writers
