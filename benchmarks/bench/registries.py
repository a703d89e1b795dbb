"""Where a dashboard can read how things stand: in Refit, in MLflow's registry, in the memory of a plain application."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.cli.embedded.folder import LOOPBACK, listen_once
from app.cli.embedded.processes import Service, end_orphans, start, stop, wait_ready
from benchmarks.bench.load import SERVER, on
from benchmarks.bench.setting import Setting
from benchmarks.peers.environments import bin_of
from benchmarks.peers.launch import PROJECT, QUIET
from benchmarks.peers.model import MODEL_NAME
from benchmarks.peers.uvicorn import UVICORN

STATUS, SLOTS = "/training/status", "/model/slots"
STALE = '"of long ago"'
MLFLOW_API = "/api/2.0/mlflow"
ALIAS = "champion"


@dataclass(frozen=True)
class Read:
    """A GET as a system is asked it, again and again, and the right status; `how` tells those of one path apart."""

    system: str
    path: str
    how: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200

    def get(self) -> httpx.Response:
        """Raises RuntimeError where the answer is another one than is measured."""
        answer = httpx.get(self.url, headers=self.headers, trust_env=False, timeout=10)
        if answer.status_code != self.status:
            raise RuntimeError(f"{self.system} answered {self.path} ({self.how}) with {answer.status_code}")
        return answer


def of_refit(setting: Setting, path: str) -> list[Read]:
    """Asked with the ETag of now, with an older one, and without any, which reads Postgres."""
    key = ("Authorization", f"Bearer {setting.service.key}")
    url = f"{setting.service.url}{path}?model={MODEL_NAME}"
    afresh = Read("Refit", path, "200: no ETag, from Postgres", url, (key,))
    etag = afresh.get().headers["etag"]
    return [
        Read("Refit", path, "304: nothing new", url, (key, ("If-None-Match", etag)), 304),
        Read("Refit", path, "200: an older ETag", url, (key, ("If-None-Match", STALE))),
        afresh,
    ]


@contextmanager
def from_memory(setting: Setting, application: str, system: str) -> Iterator[list[Read]]:
    """The two bodies that Refit has just now, answered by an application of `memory.py`."""
    bodies = {}
    for path in (STATUS, SLOTS):
        bodies[path] = setting.scratch / f"{path.replace('/', '-')}.json"
        bodies[path].write_bytes(of_refit(setting, path)[-1].get().content)
    port = listen_once(LOOPBACK, 0)
    served = f"benchmarks.bench.memory:{application}"
    command = [sys.executable, *UVICORN, "--port", str(port), "--log-level", "warning", served]
    environment = {"STATUS": str(bodies[STATUS]), "SLOTS": str(bodies[SLOTS]), "PYTHONPATH": str(PROJECT)}
    url = f"http://{LOOPBACK}:{port}"
    with _running(command, environment, url + STATUS + "?model=any", setting.scratch / f"{application}.log"):
        yield [Read(system, path, "200: from memory", f"{url}{path}?model={MODEL_NAME}") for path in (STATUS, SLOTS)]


@contextmanager
def mlflow(setting: Setting) -> Iterator[Read]:
    """MLflow's tracking server on sqlite with one process, and in its registry a version that has an alias.

    Raises Unavailable, or CannotStart.
    """
    bin, port, folder = bin_of("mlflow"), listen_once(LOOPBACK, 0), setting.scratch
    command: list[str | Path] = [bin / "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", folder / "mlflow", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    url = f"http://{LOOPBACK}:{port}"
    with _running(command, QUIET, f"{url}/health", folder / "mlflow.log"):
        version = {"name": MODEL_NAME, "source": "s3://bucket/model"}
        _post(f"{url}{MLFLOW_API}/registered-models/create", {"name": MODEL_NAME})
        _post(f"{url}{MLFLOW_API}/model-versions/create", version)
        _post(f"{url}{MLFLOW_API}/registered-models/alias", {"name": MODEL_NAME, "alias": ALIAS, "version": "1"})
        path = f"{MLFLOW_API}/registered-models/alias"
        yield Read("MLflow server", path, "200: from sqlite", f"{url}{path}?name={MODEL_NAME}&alias={ALIAS}")


def _post(url: str, body: dict[str, str]) -> None:
    httpx.post(url, json=body, trust_env=False, timeout=30).raise_for_status()


@contextmanager
def _running(command: Sequence[str | Path], environment: dict[str, str], asked: str, log: Path) -> Iterator[None]:
    """The process, on the server's core, from its first 200 to that question to the block's end. Raises CannotStart."""
    command = [*on(SERVER), *command]
    service = Service(log.stem, command, lambda: _answers(asked), environment={**os.environ, **environment})
    process = start(service, log)
    try:
        wait_ready(service, process, log)
        yield
    finally:
        stop(service, process)
        end_orphans(log)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
