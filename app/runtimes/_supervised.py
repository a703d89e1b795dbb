"""A llama-server that is kept running: started, watched, started again where it dies, ended without waiting.

One thread a server starts it and reads what it says until it ends. The child dies with that thread, so with its parent,
also by kill -9.
"""

import logging
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import httpx
import orjson

from app.runtimes.chat import Down

SCRIPT = Path(__file__).with_name("_llama_server.py")
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds from a child's end to the next start, doubled each time
STEADY_SECONDS = 60.0  # who ran so long begins with the first wait again
# As llama.cpp logs an error: time, E, where, what.
FAULT = re.compile(r"^\S+ E +(?:srv +)?\S+: (?P<what>.+)$")

log = logging.getLogger(__name__)


class LlamaServer:
    """`config` is what _llama_server.py reads, without key and parent.

    `first` is done when it answers for the first time; its exception is ValueError, with llama.cpp's own words, where
    it never did.
    """

    def __init__(self, config: Mapping[str, Any], http: httpx.Client) -> None:
        self.key = secrets.token_urlsafe(24)
        self.http = http
        self.first: Future[None] = Future()
        self._config = config
        self._address: str | None = None
        self._state = "is being started"
        self._fault: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = True
        # Put into it is safe wherever the garbage collector may call `stop`, which no lock would be.
        self._wake: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._supervise, name="llama-server", daemon=True).start()

    @property
    def address(self) -> str:
        """Where it answers now. Raises Down."""
        address = self._address
        if address is None:
            raise Down(f"llama.cpp's server {self._state}")
        return address

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """Ends it for good, and waits for nothing: the thread does. Idempotent."""
        self._wanted, self._address, self._state = False, None, "was ended"
        self._wake.put(None)
        if self._process:
            self._process.kill()

    def _supervise(self) -> None:
        wait = FIRST_WAIT
        while self._wanted:
            ran, how = self._run()
            if not self.first.done():
                self.first.set_exception(ValueError(self._fault or f"the server ended at its start ({how})"))
                break
            wait = FIRST_WAIT if ran > STEADY_SECONDS else wait
            if self._wanted:
                self._state = f"ended ({how}) and is started again"
                log.warning("llama-server of %s %s in %.1f s", self._config["model"], self._state, wait)
            self._pause(wait)
            wait = min(wait * 2, LONGEST_WAIT)
        self.http.close()

    def _run(self) -> tuple[float, str]:
        """One life of the child: the seconds it answered, and how it ended. One that cannot be started, for want of
        memory or of descriptors, has none: this thread must outlive that, or nobody starts it again.
        """
        self._fault, since = None, None
        try:
            with self._start() as process:
                self._process = process
                if not self._wanted:
                    process.kill()
                since = self._attend(process)
            how = _ended(process.returncode)
        except OSError as error:
            how = f"not started: {error.strerror or error}"
        self._address = None
        return time.monotonic() - since if since else 0.0, how

    def _start(self) -> subprocess.Popen[bytes]:
        # Its own children, sockets and files are not its business: all but the three pipes are closed.
        return subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("REFIT_")},
        )

    def _attend(self, process: subprocess.Popen[bytes]) -> float | None:
        """Tells it what to serve and reads what it says, until it ends; since when it answered."""
        assert process.stdin
        assert process.stdout
        told = {**self._config, "key": self.key, "parent": os.getpid()}
        try:
            process.stdin.write(orjson.dumps(told) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:  # it has ended already, and what it said of that is read below
            pass
        since = None
        for line in process.stdout:
            said = line.decode(errors="replace").strip()
            if said.startswith(f"{self.key} ready "):
                since = time.monotonic()
                self._answers_at(said.split()[-1])
            elif said:
                self._heard(said)
        return since

    def _answers_at(self, address: str) -> None:
        if self._wanted:
            self._address = address
        if not self.first.done():
            self.first.set_result(None)

    def _heard(self, said: str) -> None:
        log.debug("llama-server[%s] %s", self.pid, said)
        # The first is the cause; what follows are those who pass it on.
        if self._fault is None and (found := FAULT.match(said)):
            self._fault = found["what"]

    def _pause(self, seconds: float) -> None:
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            return


def _ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
