"""Builds both images, weighs them, and runs a job through containers of them: trigger, gate, standby, reload, predict.

Nothing but buildah is needed: Postgres and the broker are the embedded ones. The arguments are options for
`buildah build`, such as `--build-arg=BASE_IMAGE=…` or a `--volume` with pip's configuration. Root inside of a container
needs BUILDAH_ISOLATION=chroot and STORAGE_DRIVER=vfs.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.cli.client import Api
from app.cli.embedded import broker, postgres
from app.cli.embedded.folder import LOOPBACK, DataFolder, hold, listen_once
from benchmarks.containers import Container, build, container, size_of
from benchmarks.data import breast_cancer, features
from benchmarks.report import Report, report
from benchmarks.service import PATIENCE_SECONDS, Service, until

ROOT = Path(__file__).parent.parent
API, WORKER = "refit-api", "refit-worker"
TORCH = "import torch; print(torch.__version__)"


def main() -> None:
    with report("images") as told:
        if shutil.which("buildah") is None:
            told.tell("buildah is missing, which builds and runs them: `apt-get install buildah`", holds=False)
            return
        build(API, "Dockerfile.api", ROOT, sys.argv[1:])
        build(WORKER, "Dockerfile.gpu-worker", ROOT, sys.argv[1:])
        with running() as (api, worker, service):
            weigh(told, api, worker)
            drive(told, api, worker, service)
        told.tell("both stopped in order")


def weigh(told: Report, api: Container, worker: Container) -> None:
    """The sizes, and which of the images holds torch."""
    told.tell(f"api {size_of(API)}")
    told.tell("without torch", holds="No module named 'torch'" in api.run("python3", "-c", TORCH).stderr)
    told.tell(f"worker {size_of(WORKER)} with torch {worker.told('python3', '-c', TORCH)}")


def drive(told: Report, api: Container, worker: Container, service: Service) -> None:
    """One job on 569 rows from a file, and its version into production."""
    data = breast_cancer(service.inputs / "tumours.csv")
    service.define("tumours", data | {"path": "/data/tumours.csv"}, prerequisites={"min_new_samples": 0})
    began = time.monotonic()
    job = service.train("tumours")
    told.tell(f"job {time.monotonic() - began:.1f} s, verdict {job['verdict']}", holds=job["verdict"] == "pass")
    service.api.post("/model/reload", {"reason": "trained in a container"})
    told.tell(f"version {service.slots('tumours')['active']} active {time.monotonic() - began:.1f} s after the trigger")
    answer = service.api.post("/predict/batch", {"instances": features(data)})
    told.tell(f"{len(answer['scores'])} rows predicted", holds=answer["version"] == job["version"])
    healthy = api.is_healthy() and worker.is_healthy()
    told.tell("both healthy by their own checks", holds=healthy)


@contextmanager
def running() -> Iterator[tuple[Container, Container, Service]]:
    """An API and a worker in containers, with the volumes of docker-compose.yml, and how to call them."""
    with servers() as (folder, environment):
        port = str(listen_once(LOOPBACK, 0))
        store, inputs = _writable(folder.path / "store"), _writable(folder.path / "inputs")
        # In a network of its own the API listens on all addresses; these containers are in this machine's.
        here = {"REFIT_HOST": LOOPBACK, "REFIT_PORT": port}
        with (
            container(API, environment | here, {"/var/lib/refit/store:ro": store, "/data:ro": inputs}) as api,
            container(WORKER, environment, {"/var/lib/refit/store": store, "/data:ro": inputs}) as worker,
        ):
            api.told("refit", "migrate")
            key = api.told("refit", "keys", "bootstrap")
            with (
                api.serving(folder.log("api")),
                worker.serving(folder.log("worker")),
                httpx.Client(base_url=f"http://{LOOPBACK}:{port}", headers={"X-API-Key": key}, trust_env=False) as http,
            ):
                until(api.is_healthy, "the API to be ready")
                until(worker.is_healthy, "the worker to hold its lease")
                yield api, worker, Service(str(http.base_url), key, folder.path, Api(http, patience=PATIENCE_SECONDS))


@contextmanager
def servers() -> Iterator[tuple[DataFolder, dict[str, str]]]:
    """A folder with a Postgres and a broker on loopback, and the settings that lead to them."""
    with (
        tempfile.TemporaryDirectory(prefix="refit-images-") as temporary,
        hold(Path(temporary)) as folder,
        postgres.running(folder) as database,
        broker.running(folder) as doorbell,
    ):
        yield folder, {"REFIT_DATABASE_URL": database, "REFIT_BROKER_URL": doorbell}


def _writable(folder: Path) -> Path:
    """For the user of the images, whom this machine does not know."""
    folder.mkdir()
    folder.chmod(0o777)
    return folder


if __name__ == "__main__":
    main()
