"""The services of one `refit up`: started in order, started again when they crash, stopped in reverse.

One thread and one loop, because the kernel ties the life of a child to the thread that made it.
"""

import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain
from signal import Signals
from types import FrameType
from typing import Any

from app.cli.embedded import CannotStart
from app.cli.embedded.folder import DataFolder
from app.cli.embedded.processes import TICK, Process, Service, end_orphans, kill, start, tail, wait_ready
from app.cli.output import say

CRASHES, CRASH_SECONDS = 5, 60.0
FIRST_BACKOFF = 0.1
HEARD = (Signals.SIGINT, Signals.SIGTERM, Signals.SIGHUP)


class AskedToStop(Exception):
    """Ctrl-C, SIGTERM or SIGHUP came before everything was ready."""


@dataclass
class Child:
    service: Service
    process: Process
    crashes: list[float] = field(default_factory=list)
    start_again_at: float | None = None

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


class Children(AbstractContextManager["Children"]):
    """Supervises services until Ctrl-C, SIGTERM or SIGHUP asks it to stop. Leaving the block stops them all.

    The second signal makes each service stop quickly, the third kills.
    """

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.signals = 0
        self._groups: list[list[Child]] = []
        self._handlers: dict[Signals, Any] = {}

    def __enter__(self) -> "Children":
        self._handlers = {number: signal.signal(number, self._hear) for number in HEARD}
        return self

    def __exit__(self, *_: object) -> None:
        for group in reversed(self._groups):
            self._stop(group)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1
        if self.signals == 3:
            # Whatever we may be stuck in, one more ends us, and the kernel our children.
            for number in HEARD:
                signal.signal(number, signal.SIG_DFL)

    @property
    def pids(self) -> dict[str, int]:
        return {child.service.name: child.process.pid for child in chain.from_iterable(self._groups)}

    def start(self, *services: Service) -> None:
        """Starts services that do the same work, and returns when all are ready.

        Raises AskedToStop, or CannotStart with the end of the log of one that does not get ready.
        """
        group: list[Child] = []
        self._groups.append(group)
        group.extend(Child(service, self._run(service)) for service in services)
        for child in group:
            log = self.folder.log(child.service.name)
            wait_ready(child.service, child.process, log, go_on=lambda: not self.signals)
        if self.signals:
            raise AskedToStop

    def watch(self) -> None:
        """Keeps all running until asked to stop. Raises CannotStart when one crashes again and again."""
        while not self.signals:
            for child in chain.from_iterable(self._groups):
                self._look_after(child)
            time.sleep(TICK)

    def _run(self, service: Service) -> Process:
        log = self.folder.log(service.name)
        end_orphans(log)
        return start(service, log)

    def _look_after(self, child: Child) -> None:
        if child.alive:
            return
        now = time.monotonic()
        if child.start_again_at is None:
            child.start_again_at = now + self._backoff(child, now)
        elif now >= child.start_again_at:
            child.process, child.start_again_at = self._run(child.service), None

    def _backoff(self, child: Child, now: float) -> float:
        """Seconds until a crashed child is started again. Raises CannotStart when it crashed too often."""
        name, log = child.service.name, self.folder.log(child.service.name)
        child.crashes = [crash for crash in child.crashes if now - crash < CRASH_SECONDS] + [now]
        if len(child.crashes) >= CRASHES:
            raise CannotStart(f"{name} crashed {CRASHES} times in a minute: {tail(log)}", remedy=f"See {log}.")
        say(f"{name} ended with {child.process.returncode}; starting it again ({log})")
        return FIRST_BACKOFF * 2.0 ** (len(child.crashes) - 1)

    def _stop(self, group: Sequence[Child]) -> None:
        """Each signal gets the service's patience, unless another Ctrl-C asks for the next one."""
        for heard, number in enumerate(group[0].service.stop if group else (), start=1):
            for child in group:
                child.process.send_signal(number)
            deadline = time.monotonic() + group[0].service.patience
            while self.signals <= heard and any(child.alive for child in group) and time.monotonic() < deadline:
                time.sleep(TICK)
        for child in group:
            kill(child.process)
            end_orphans(self.folder.log(child.service.name))
