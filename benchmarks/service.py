"""A Refit of its own for each command: `refit up` in a temporary folder, and what the commands ask of it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from app.cli.client import Api, Json
from benchmarks.report import progress

REFIT_UP = (sys.executable, "-P", "-m", "app.cli", "up", "--port", "0", "--json")
# So long a call is tried again while nobody answers: some commands kill the API.
PATIENCE_SECONDS = 60.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Service:
    """A running service: `api` calls it with the admin key; `folder` holds its data, `inputs` the rows to train on."""

    url: str
    key: str
    folder: Path
    api: Api

    @property
    def inputs(self) -> Path:
        return self.folder / "inputs"

    def define(self, model: str, data: Json, **rest: Any) -> Json:
        """Makes a model of type classifier, or a new revision of its definition."""
        defined: Json = self.api.put(f"/models/{model}", {"type": "classifier", "data": data, **rest})
        return defined

    def trigger(self, model: str, **body: Any) -> int:
        job: int = self.api.post("/training/trigger", {"model": model, **body})["job_id"]
        return job

    def wait_for(self, job: int) -> Json:
        """The job once it has ended, however it did."""
        while True:
            told: Json = self.api.get("/training/status", job_id=job, wait=30)
            if told["is_terminal"]:
                return told

    def train(self, model: str, **body: Any) -> Json:
        """A completed job. Raises RuntimeError with the job's error where it ended otherwise."""
        job = self.wait_for(self.trigger(model, **body))
        if job["status"] != "completed":
            raise RuntimeError(f"job {job['job_id']} of {model} is {job['status']}: {job['error']}")
        return job

    def slots(self, model: str) -> Json:
        slots: Json = self.api.get("/model/slots", model=model)
        return slots

    def version(self, model: str, number: int) -> Json:
        version: Json = self.api.get(f"/model/versions/{model}/{number}")
        return version

    def events(self, job: int, kind: str) -> list[Json]:
        """What is recorded of a job, oldest first."""
        return self.api.pages("/events", 1_000, job_id=job, kind=kind)[::-1]

    def processes(self, module: str) -> list[psutil.Process]:
        """The processes of this service that run `python -m module`."""
        return [process for process in processes_of(self.folder) if module in _command(process)]


@contextmanager
def running(*options: str, settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """A service that is ready and knows its model types. It is stopped and its folder removed when the block ends.

    `settings` are variables of its environment, REFIT_… by name.
    """
    with tempfile.TemporaryDirectory(prefix="refit-") as temporary:
        folder = Path(temporary)
        with _started(folder, options, settings or {}) as ready:
            key = Path(ready["key_file"]).read_text().strip()
            # A client without the environment's proxies, and with room for one slow answer.
            http = httpx.Client(base_url=ready["url"], headers={"Authorization": f"Bearer {key}"}, trust_env=False)
            with http:
                service = Service(ready["url"], key, folder, Api(http, patience=PATIENCE_SECONDS))
                until(lambda: service.api.get("/training/types"), "a worker that announces its model types")
                yield service
        if left := processes_of(folder):
            raise RuntimeError(f"{len(left)} processes outlived the service: {[_command(p) for p in left]}")


@contextmanager
def _started(folder: Path, options: tuple[str, ...], settings: Mapping[str, str]) -> Iterator[Json]:
    """What `refit up` says when it is ready. Nothing of this machine's own Refit reaches it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REFIT_")}
    environment = inherited | dict(settings)
    command = (*REFIT_UP, "--data-dir", str(folder), *options)
    with (
        (folder / "up.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as up,
    ):
        try:
            assert up.stdout is not None
            line = up.stdout.readline()
            if '"url"' not in line:
                progress((folder / "up.log").read_text())
                raise RuntimeError("refit up did not start")
            yield json.loads(line)
        finally:
            up.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                up.wait(STOP_SECONDS)
            up.kill()  # nothing where it has ended; else the kernel takes its children along


def is_ready(url: str) -> bool:
    """Whether the API at `url` answers /health/ready with 200; asks once, so that it can be asked every few ms."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    with closing(HTTPConnection(parts.hostname, parts.port, timeout=2)) as connection:
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False


def until(holds: Callable[[], Any], what: str, seconds: float = 60.0, every: float = 0.05) -> Any:
    """The first truthy answer of `holds`. Raises TimeoutError saying what did not come."""
    deadline = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(every)
    return answer


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process of the service in `folder`, also one that has lost its parent."""
    return [process for process in psutil.process_iter() if _belongs(process, folder)]


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        told = process.environ().get("REFIT_DATA_DIR"), process.cwd()
        return str(folder) in told or told[1].startswith(f"{folder}/") or str(folder) in process.cmdline()
    except (psutil.Error, OSError):  # it has ended meanwhile, or is somebody else's
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
