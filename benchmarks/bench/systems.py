"""What is measured: Refit and the peers, each running, ready, and known to answer rightly."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import psutil

from benchmarks import api_process
from benchmarks.bench import bodies
from benchmarks.bench.bodies import Named
from benchmarks.bench.load import CORES, SERVER
from benchmarks.peers import Peer, Request, Rows
from benchmarks.peers.launch import serving
from benchmarks.peers.model import Version
from benchmarks.service import Service

REFIT = "Refit"


@dataclass(frozen=True)
class System:
    """`lists` makes the request that carries rows as JSON lists; `seconds()` it took from exec to the first 200.

    `is_paused_between` holds for what may be stopped while others are measured, so that it takes nothing from them.
    """

    name: str
    url: str
    lists: Callable[[Named], Request]
    scores: Callable[[bytes], list[float]]
    processes: Callable[[], list[psutil.Process]]
    seconds: Callable[[], float]
    is_paused_between: bool = True

    def check(self, request: Request, rows: Named, version: Version) -> None:
        """Raises RuntimeError where the scores are not those of the version that it serves."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.post(self.url + request.path, content=request.body, headers=request.all_headers)
        if answer.status_code != 200 or not version.answered(plain(rows), self.scores(answer.content)):
            raise RuntimeError(f"{self.name} answers {request.content_type} wrongly ({answer.status_code})")

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Runs for as long as the block lasts, where it is paused otherwise."""
        self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)

    def signal(self, number: signal.Signals) -> None:
        """To each of its processes, where it may be paused at all."""
        for process in self.processes() if self.is_paused_between else ():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def megabytes(self) -> float:
        """MiB in memory of all its processes; what they share is counted once."""
        return sum(api_process.memory(process.pid)["Pss"] for process in self.processes())


@contextmanager
def peer(kind: Peer, version: Version, rows: Named, processes: int) -> Iterator[System]:
    """Raises Unavailable where it cannot be had."""
    with serving(kind, version.folder, plain(rows), processes=processes) as running:
        system = System(
            kind.name,
            running.url,
            lambda rows: kind.request(plain(rows)),
            kind.scores,
            running.processes,
            lambda: running.seconds,
        )
        with _pinned(system, processes), _continued_at_the_end(system):
            yield system


@contextmanager
def refit(service: Service, processes: int) -> Iterator[System]:
    """The processes of its API; Postgres, the broker and the worker take no part in an answer.

    Its start is measured when it is asked for, by one replica more.
    """

    def api() -> list[psutil.Process]:
        return service.processes("app.main")

    system = System(
        REFIT,
        service.url,
        lambda rows: keyed(service, bodies.lists(rows)),
        lambda answer: list(orjson.loads(answer)["scores"]),
        api,
        lambda: api_process.start(api()[0].environ())[0],
        is_paused_between=False,
    )
    with _pinned(system, processes):
        yield system


def keyed(service: Service, request: Request) -> Request:
    """The same with the key that Refit asks for."""
    headers = {"Authorization": f"Bearer {service.key}", **request.headers}
    return Request(request.path, request.body, request.content_type, headers)


def plain(rows: Named) -> Rows:
    return [list(row.values()) for row in rows]


@contextmanager
def _continued_at_the_end(system: System) -> Iterator[None]:
    """A paused process would not hear that it has to stop."""
    system.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        system.signal(signal.SIGCONT)


@contextmanager
def _pinned(system: System, processes: int) -> Iterator[None]:
    """One process has the server's core, with all of its threads, and is free again when the block ends."""
    if SERVER is None or processes > 1:
        yield
        return
    _allow(system, {SERVER})
    try:
        yield
    finally:
        _allow(system, set(CORES))


def _allow(system: System, cores: set[int]) -> None:
    for process in system.processes():
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)
