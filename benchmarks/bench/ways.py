"""How each system comes to another version, by the command that its own documentation gives for it."""

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import orjson
import psutil

from benchmarks.bench.setting import Setting
from benchmarks.peers import Peer, Request, Rows, bentoml, mlflow, mlserver, ray
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.gunicorn import GUNICORN
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.launch import Running, prepared, serving, started
from benchmarks.peers.model import MODEL_NAME, Version, train
from benchmarks.peers.ports import free
from benchmarks.peers.uvicorn import BARE
from benchmarks.service import Service
from benchmarks.service import running as refit_running

LOAD_SECONDS = 60.0


@dataclass(frozen=True)
class Subject:
    """A system that answers by the first of `versions`.

    `change` gives the command that brings it to the second, and returns when the command has. It works once.
    """

    url: str
    request: Request
    scores: Callable[[bytes], list[float]]
    versions: Sequence[Version]
    change: Callable[[], object]


@dataclass(frozen=True)
class Way:
    """A system and its command. The short form has the quick ones; Refit's own must not fail a request."""

    system: str
    command: str
    running: Callable[[Setting, Rows], AbstractContextManager[Subject]]
    is_quick: bool = False
    is_ours: bool = False


@contextmanager
def one_replica(setting: Setting, rows: Rows) -> Iterator[Subject]:
    """Refit as the other sections have it, too, who find its slots as they were."""
    with _refit(setting.service, setting.versions, rows) as subject:
        yield subject
    setting.service.api.post("/model/rollback", {"model": MODEL_NAME, "reason": "measured", "hold": False})


@contextmanager
def three_replicas(setting: Setting, rows: Rows) -> Iterator[Subject]:
    """A Refit of its own."""
    with refit_running("--replicas", "3") as service:
        versions = train(service, setting.scratch / "versions-of-three")
        with _refit(service, versions, rows) as subject:
            yield subject


@contextmanager
def _refit(service: Service, versions: Sequence[Version], rows: Rows) -> Iterator[Subject]:
    body = orjson.dumps({"model": MODEL_NAME, "instances": rows})
    yield Subject(
        url=service.url,
        request=Request("/predict/batch", body, headers={"Authorization": f"Bearer {service.key}"}),
        scores=lambda answer: list(orjson.loads(answer)["scores"]),
        versions=versions,
        change=lambda: service.api.post("/model/reload", {"model": MODEL_NAME, "reason": "measured"}),
    )


@contextmanager
def in_place(peer: Peer, tell: Callable[[Running], object], setting: Setting, rows: Rows) -> Iterator[Subject]:
    """The files of the model are replaced, and then the peer that serves them is told so."""
    first, second = setting.versions
    served = setting.scratch / "-".join(("served", *peer.name.split()))
    _point(served, first)
    with serving(peer, served, rows) as running:

        def change() -> None:
            _point(served, second)
            tell(running)

        yield Subject(running.url, peer.request(rows), peer.scores, setting.versions, change)


def _point(served: Path, version: Version) -> None:
    """The folder is a link, so that all files are replaced at one moment."""
    new = served.with_suffix(".new")
    new.symlink_to(version.folder)
    new.replace(served)


def post(path: str, running: Running) -> None:
    httpx.post(running.url + path, timeout=LOAD_SECONDS, trust_env=False).raise_for_status()


def hang_up(running: Running) -> None:
    """SIGHUP to the process that started all others."""
    min(running.processes(), key=psutil.Process.create_time).send_signal(signal.SIGHUP)


@contextmanager
def restarted(peer: Peer, setting: Setting, rows: Rows) -> Iterator[Subject]:
    """Stopped, and started again on the same port with the new version, which was prepared before."""
    first, second = setting.versions
    with (
        prepared(peer, first.folder) as old,
        prepared(peer, second.folder, port=old.port) as new,
        ExitStack() as stack,
    ):
        running = stack.enter_context(started(old, rows))

        def change() -> None:
            stack.close()
            stack.enter_context(started(new, rows))

        yield Subject(running.url, peer.request(rows), peer.scores, setting.versions, change)


@contextmanager
def blue_green(peer: Peer, setting: Setting, rows: Rows) -> Iterator[Subject]:
    """The new version is started beside the old one, and gets the requests once it answers."""
    if shutil.which("haproxy") is None:
        raise Unavailable("needs haproxy: apt-get install haproxy")
    first, second = setting.versions
    blue, green = free(2)
    proxy = HAProxy(peer, blue, green, setting.scratch / "haproxy.sock")
    with (
        serving(peer, first.folder, rows, port=blue),
        serving(proxy, first.folder, rows) as running,
        ExitStack() as stack,
    ):

        def change() -> None:
            stack.enter_context(serving(peer, second.folder, rows, port=green))
            proxy.switch()

        yield Subject(running.url, peer.request(rows), peer.scores, setting.versions, change)


LOAD = f"/v2/repository/models/{mlserver.MODEL_NAME}/load"

WAYS = (
    Way("Refit, 1 replica", "reload", one_replica, is_quick=True, is_ours=True),
    Way("Refit, 3 replicas", "reload", three_replicas, is_ours=True),
    Way("bare uvicorn", "flip in the process", partial(in_place, BARE, partial(post, "/reload")), is_quick=True),
    Way("MLServer", "repository load", partial(in_place, mlserver.DEFAULT, partial(post, LOAD))),
    Way("MLServer, in-process", "repository load", partial(in_place, mlserver.IN_PROCESS, partial(post, LOAD))),
    Way("bare uvicorn behind HAProxy", "blue-green", partial(blue_green, BARE)),
    Way("gunicorn, uvicorn's worker", "SIGHUP", partial(in_place, GUNICORN, hang_up), is_quick=True),
    Way("Ray Serve", "redeploy", partial(in_place, ray.DEFAULT, hang_up)),
    Way("BentoML", "restart", partial(restarted, bentoml.BentoML())),
    Way("MLflow scoring server", "restart", partial(restarted, mlflow.MLflow())),
)
