"""A peer as processes of its own: started, asked until it answers, weighed, gone. Nothing of it outlives the block."""

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from app.cli.embedded.folder import LOOPBACK, listen_once
from benchmarks.peers import MODEL, Command, Peer, Request, Rows, Start
from benchmarks.peers.environments import Unavailable, bin_of

PROJECT = Path(__file__).parents[2]
# Every process of a peer has this variable, also one that made itself a daemon.
MARK = "PEER_MARK"
READY_SECONDS = 120.0
STOP_SECONDS = 10.0
# What a system takes when it is measured in its own right: one thread for one request.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# No peer may send reports of its use from here.
QUIET = {
    "DO_NOT_TRACK": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Running:
    """A peer that has answered. `seconds` is from its start to its first 200; `log` holds what it wrote."""

    peer: Peer
    url: str
    mark: str
    seconds: float
    log: Path

    def processes(self) -> list[psutil.Process]:
        return _marked(self.mark)

    def predict(self, rows: Rows) -> list[float]:
        """The scores of rows. Raises httpx.HTTPError."""
        return self.peer.scores(_post(self.url, self.peer.request(rows)))


@dataclass(frozen=True)
class Prepared:
    """A peer that needs only to be started: what runs before its server has run."""

    peer: Peer
    command: Command
    environment: Mapping[str, str]
    port: int
    log: Path


@contextmanager
def serving(peer: Peer, model: Path, rows: Rows, *, processes: int = 1, port: int = 0) -> Iterator[Running]:
    """The peer serving what is in the folder `model`, once it answers `rows`.

    Port 0 takes any free one. Raises Unavailable where it cannot be installed or does not answer.
    """
    with (
        prepared(peer, model, processes=processes, port=port) as ready,
        started(ready, rows) as running,
    ):
        yield running


@contextmanager
def prepared(peer: Peer, model: Path, *, processes: int = 1, port: int = 0) -> Iterator[Prepared]:
    """What takes its time before a peer can start, done outside of its start-up time. Raises Unavailable."""
    bin = bin_of(peer.environment)
    with TemporaryDirectory(prefix="peer-") as temporary:
        scratch, port = Path(temporary), port or listen_once(LOOPBACK, 0)
        command, log = peer.command(Start(bin, model, port, processes, scratch)), scratch / "peer.log"
        path = f"{bin}:{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(PROJECT), MODEL: str(model), MARK: uuid.uuid4().hex}
        environment = {**os.environ, **ONE_THREAD, **QUIET, **own, **command.environment}
        _prepare(command, environment, log)
        yield Prepared(peer, command, environment, port, log)


@contextmanager
def started(ready: Prepared, rows: Rows) -> Iterator[Running]:
    """From the start of its process until it is gone. Raises Unavailable where it does not answer `rows`."""
    peer, log, mark = ready.peer, ready.log, ready.environment[MARK]
    began = time.monotonic()
    try:
        process = _start(ready.command, ready.environment, log)
        url = f"http://{LOOPBACK}:{ready.port}"
        _wait(process, url, peer.request(rows), log)
        yield Running(peer, url, mark, time.monotonic() - began, log)
    finally:
        stop(mark)


def stop(mark: str) -> None:
    """SIGTERM to each process with that mark, then SIGKILL until none is left."""
    _signal(mark, psutil.Process.terminate)
    deadline = time.monotonic() + STOP_SECONDS
    while _marked(mark):
        if time.monotonic() > deadline:
            _signal(mark, psutil.Process.kill)
        time.sleep(0.05)


def _signal(mark: str, send: Callable[[psutil.Process], None]) -> None:
    for process in _marked(mark):
        with suppress(psutil.NoSuchProcess):
            send(process)


def _prepare(command: Command, environment: Mapping[str, str], log: Path) -> None:
    """Runs what comes before the server, outside of its start-up time. Raises Unavailable."""
    if not command.before:
        return
    with log.open("wb") as output:
        done = subprocess.run(
            command.before, env=environment, cwd=log.parent, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        raise Unavailable(f"could not be prepared: {_last_line(log)}")


def _start(command: Command, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(
            command.arguments,
            env=environment,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _wait(process: "subprocess.Popen[bytes]", url: str, request: Request, log: Path) -> None:
    """Until the first 200. Raises Unavailable with the last thing it wrote."""
    deadline = time.monotonic() + READY_SECONDS
    while not _answers(url, request):
        if process.poll() is not None:
            raise Unavailable(f"ended with {process.returncode}: {_last_line(log)}")
        if time.monotonic() > deadline:
            raise Unavailable(f"did not answer within {READY_SECONDS:g} s: {_last_line(log)}")
        time.sleep(0.02)


def _answers(url: str, request: Request) -> bool:
    try:
        _post(url, request)
    except httpx.HTTPError:
        return False
    return True


def _post(url: str, request: Request) -> bytes:
    with httpx.Client(trust_env=False, timeout=10) as client:
        answer = client.post(url + request.path, content=request.body, headers=request.all_headers)
        return answer.raise_for_status().content


def _marked(mark: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _has(process, mark)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # it has ended meanwhile, or is somebody else's
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
