"""A whole `refit up` in a folder of its own, gone when the block ends, also when the demo is killed."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals

from app.cli.client import Api, client
from app.cli.embedded import CannotStart
from app.cli.embedded.processes import Service, start, stop, wait_ready
from app.cli.failures import Exit, Failure

STOP_SECONDS = 30.0


@contextmanager
def running(folder: Path) -> Iterator[Api]:
    """The service on a free port, called with its admin key. Raises Failure with the end of its log."""
    log = folder / "up.log"
    service = _up(folder / "data", log)
    process = start(service, log)
    try:
        wait_ready(service, process, log)
        ready = json.loads(_announced(log))
        with client(ready["url"], Path(ready["key_file"]).read_text().strip()) as http:
            yield Api(http)
    except CannotStart as error:
        raise Failure(error.message, Exit.ERROR, remedy=error.remedy) from None
    finally:
        stop(service, process)


def _up(data_dir: Path, log: Path) -> Service:
    # Settings of this shell belong to another service.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFIT_")}
    return Service(
        name="refit up",
        command=(sys.executable, "-P", "-m", "app.cli", "up", "--json", "--port", "0", "--data-dir", data_dir),
        ready=lambda: bool(_announced(log)),
        stop=(Signals.SIGTERM, Signals.SIGTERM),
        patience=STOP_SECONDS,
        orphaned=Signals.SIGTERM,
        environment=environment,
    )


def _announced(log: Path) -> str:
    """The line of JSON that `refit up` writes once everything is ready; empty before."""
    lines = log.read_text().splitlines(keepends=True)
    return next((line for line in lines if line.startswith('{"url"') and line.endswith("\n")), "")
