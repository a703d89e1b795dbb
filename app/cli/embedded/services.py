"""Refit's own services, the worker and the replicas of the API, which read their settings as everywhere."""

import os
import shutil
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from signal import Signals

from app.cli.embedded.folder import DataFolder
from app.cli.embedded.processes import Service, end_orphans
from app.settings import Settings

# -P: the folder that we were called from may hold an `app` of its own.
PYTHON = (sys.executable, "-P", "-m")


def worker(environment: dict[str, str], settings: Settings) -> Service:
    """Asked to stop, it gives its attempts their grace to save a checkpoint, and back to the queue."""
    return Service(
        name="worker",
        command=(*PYTHON, "workers.celery_app"),
        ready=lambda: True,  # jobs wait for it in Postgres
        stop=(Signals.SIGTERM, Signals.SIGQUIT),
        patience=settings.cancel_grace_seconds + 10,
        environment=environment,
    )


def api(environment: dict[str, str], settings: Settings, replicas: int, listening: int) -> list[Service]:
    """The replicas share one listening socket, which outlives each of them: no connection is refused meanwhile."""
    own = {"REFIT_LISTEN_FD": str(listening)} | (_counting_together(settings) if replicas > 1 else {})
    return [
        Service(
            name=f"api-{number}" if replicas > 1 else "api",
            command=(*PYTHON, "app.main"),
            ready=lambda: _is_ready(settings),
            stop=(Signals.SIGTERM, Signals.SIGINT),
            patience=settings.drain_seconds + settings.drain_answers_seconds + 10,
            environment=environment | own,
            passed=(listening,),
        )
        for number in range(1, replicas + 1)
    ]


def _counting_together(settings: Settings) -> dict[str, str]:
    """An empty folder for what they count: the last start's counters were of other processes."""
    counted = settings.data_dir / "metrics"
    shutil.rmtree(counted, ignore_errors=True)
    counted.mkdir()
    return {"PROMETHEUS_MULTIPROC_DIR": str(counted)}


def end_left_behind(folder: DataFolder) -> None:
    """Workers and replicas of a `refit up` that was killed, where the kernel did not end them (macOS)."""
    for log in (folder.path / "logs").glob("*.log"):
        if log.stem.startswith(("api", "worker")):
            end_orphans(log)


def environment_of(settings: Settings) -> dict[str, str]:
    """Ours, with what `refit up` was told or found out."""
    told = {
        "REFIT_DATABASE_URL": settings.database_url,
        "REFIT_BROKER_URL": settings.broker_url,
        "REFIT_DATA_DIR": settings.data_dir,
        "REFIT_STORE_DIR": settings.store,
        "REFIT_HOST": settings.host,
        "REFIT_PORT": settings.port,
        "REFIT_QUEUES": settings.queues,
        "REFIT_CONCURRENCY": settings.concurrency,
    }
    # One thread for linear algebra a process: several processes share these cores.
    return {"OMP_NUM_THREADS": "1"} | os.environ | {name: str(value) for name, value in told.items()}


def address(settings: Settings) -> str:
    """Where the service is reached from this machine."""
    host = _host(settings)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _host(settings: Settings) -> str:
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read here, not bound
    return anywhere.get(settings.host, settings.host)


def _is_ready(settings: Settings) -> bool:
    with closing(HTTPConnection(_host(settings), settings.port, timeout=2)) as connection:
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
