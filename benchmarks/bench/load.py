"""wrk: one client that sends the same request over so many kept connections, as fast as they are answered."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from benchmarks.peers import Request

SCRIPT = Path(__file__).with_name("load.lua")
CORES = sorted(os.sched_getaffinity(0))
# One process is measured with a core of its own, the client on another; two processes share all cores with the client.
SERVER, CLIENT = (CORES[0], CORES[1]) if len(CORES) > 1 else (None, None)


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw. Latencies in milliseconds; `wrong` counts answers that were no 2xx, and lost ones."""

    rate: float
    p50: float
    p99: float
    wrong: int


def check_wrk() -> None:
    """Raises RuntimeError with what to install."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk sends the load, and it is not installed: apt-get install wrk")


def on(core: int | None) -> list[str]:
    """The beginning of a command that runs on that core alone; empty for None."""
    return [] if core is None else [shutil.which("taskset") or "taskset", "--cpu-list", str(core)]


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """This thread runs on that core alone while the block does; anywhere for None."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(url: str, request: Request, connections: int, seconds: int, *, apart: bool = True) -> Load:
    """Sends for so many seconds. `apart`: on the client's core, away from a server that is pinned to its own."""
    with _sending(url, request, connections, seconds, apart=apart) as sender:
        said, complaint = sender.communicate()
    if sender.returncode:
        raise RuntimeError(f"wrk ended with {sender.returncode}: {complaint or said}")
    told = json.loads(said.splitlines()[-1])
    return Load(told["requests"] / told["seconds"], told["p50"], told["p99"], told["lost"] + told["refused"])


@contextmanager
def beside(url: str, request: Request, connections: int) -> Iterator[None]:
    """Sends for as long as the block lasts."""
    with _sending(url, request, connections, 3600) as sender:
        try:
            yield
        finally:
            sender.terminate()


@contextmanager
def _sending(
    url: str, request: Request, connections: int, seconds: int, *, apart: bool = True
) -> "Iterator[subprocess.Popen[str]]":
    load = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "10s"]
    headers = [f"{name}: {value}" for name, value in request.all_headers.items()]
    with NamedTemporaryFile(prefix="body-") as body:
        body.write(request.body)
        body.flush()
        command = ["wrk", *load, "--script", str(SCRIPT), url + request.path, "--", body.name, *headers]
        with subprocess.Popen(
            [*on(CLIENT if apart else None), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as sender:
            try:
                yield sender
            finally:
                sender.kill()  # nothing where it has ended
