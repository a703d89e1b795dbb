"""Rollback while other things are broken, and while others want something too."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import psutil

from app.cli.client import Json
from benchmarks.client import Connection
from benchmarks.report import Report, p99
from benchmarks.service import Service, until
from benchmarks.swaps.changes import Change, Fleet, reload, rollback
from benchmarks.swaps.versions import MODEL

BROKER, WORKER = "valkey-server", "workers.celery_app"
LONGEST_P99_SECONDS = 1.0
LONG = {"optuna_trials": 200, "cv_folds": 5, "families": ["hist_gradient_boosting"]}


async def roll_back_in_every_situation(service: Service, fleet: Fleet, told: Report, size: int, judged: bool) -> None:
    few, many = max(3, size // 100), max(3, size // 20)
    broken: dict[str, Callable[[Service], AbstractContextManager[None]]] = {
        "with the broker stopped": lambda service: stopped(service, BROKER),
        "with the worker stopped": lambda service: stopped(service, WORKER),
        "with the store away": store_away,
        "during a training": training,
        "with everything else stopped": all_else_stopped,
    }
    for name, situation in broken.items():
        with situation(service):
            made = await rollbacks(fleet, many if situation is all_else_stopped else few)
        tell(told, name, made, judged)
    await twice_at_once(fleet, told, few)
    await by_two_operators(service, fleet, told, few)
    await with_a_reload_at_once(fleet, told, few)


def tell(told: Report, name: str, made: Sequence[Change], judged: bool) -> None:
    whole = [change for change in made if change.is_whole and change.answer["changed"]]
    slowest = p99([change.seconds for change in made])
    told.tell(
        f"rollback {name}: {len(whole)} of {len(made)}, p99 {slowest * 1_000:.0f} ms",
        len(whole) == len(made) and (not judged or slowest <= LONGEST_P99_SECONDS),
    )


async def rollbacks(fleet: Fleet, count: int) -> list[Change]:
    """The rollbacks; before each, a reload makes something to go back from."""
    made = []
    for number in range(count):
        operator = fleet.operators[number % len(fleet.operators)]
        await reload(operator)
        made.append(await rollback(operator))
    return made


async def twice_at_once(fleet: Fleet, told: Report, count: int) -> None:
    """Two replicas are asked to roll back at the same moment: both answer 200, one of them changed something."""
    good = 0
    for _ in range(count):
        await reload(fleet.operators[0])
        both = await asyncio.gather(*(rollback(operator) for operator in fleet.operators[:2]))
        good += all(change.is_whole for change in both) and sum(change.answer["changed"] for change in both) == 1
    told.tell(f"rollback twice at once: {good} of {count} with two 200 and one change", good == count)


async def by_two_operators(service: Service, fleet: Fleet, told: Report, count: int) -> None:
    """Each has a key and what it read of the slots; one read them before the last change."""
    made = service.api.post("/keys", {"name": "the other operator", "roles": ["operator"]})
    other = ("Authorization", f"Bearer {made['key']}")
    good = 0
    async with Connection(service.url, [other, ("Content-Type", "application/json")]) as connection:
        for _ in range(count):
            stale = await _etag(connection)
            await reload(fleet.operators[0])
            fresh = await _etag(connection)
            one, two = await asyncio.gather(
                rollback(fleet.operators[0], (("If-Match", fresh),)), rollback(connection, (("If-Match", stale),))
            )
            good += one.is_whole and one.answer["changed"] and two.status == 412
    told.tell(f"rollback by two operators: {good} of {count} with 200 and, for the stale one, 412", good == count)


async def with_a_reload_at_once(fleet: Fleet, told: Report, count: int) -> None:
    """Whoever is first: the rollback answers 200, and the reload swaps again or is refused. Nothing in between."""
    good = 0
    for _ in range(count):
        before = await reload(fleet.operators[0])
        back, again = await asyncio.gather(rollback(fleet.operators[0]), reload(fleet.operators[1]))
        swapped = again.status == 200
        refused = again.status == 409 and again.answer["code"] == "standby_is_previous"
        last = again if swapped else back
        good += (
            back.status == 200
            and (swapped or refused)
            and last.answer["generation"] == before.answer["generation"] + 1 + swapped
        )
        if swapped:
            await rollback(fleet.operators[0])
    told.tell(f"rollback and reload at once: {good} of {count} in one order or the other", good == count)


@contextmanager
def stopped(service: Service, *modules: str) -> Iterator[None]:
    """SIGSTOP: they hold their connections and answer nothing."""
    processes = [process for module in modules for process in service.processes(module)]
    if len(processes) < len(modules):
        raise RuntimeError(f"of {', '.join(modules)} only {len(processes)} run")
    try:
        for process in processes:
            process.suspend()
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def store_away(service: Service) -> Iterator[None]:
    """No artifact can be read; the rollback's target is warm in standby."""
    store = service.folder / "store"
    away = store.rename(service.folder / "store.away")
    try:
        yield
    finally:
        away.rename(store)


@contextmanager
def training(service: Service) -> Iterator[None]:
    """A job of the same model runs, and is cancelled in the end."""
    job = service.trigger(MODEL, params=LONG, force=True, reason="something to run meanwhile")
    until(lambda: _status(service, job)["status"] == "running", f"job {job} to run")
    try:
        yield
    finally:
        running = not _status(service, job)["is_terminal"]
        service.api.post(f"/training/jobs/{job}/cancel", {})
        service.wait_for(job)
    if not running:
        raise RuntimeError(f"job {job} ended before the rollbacks did")


@contextmanager
def all_else_stopped(service: Service) -> Iterator[None]:
    """What a rollback needs is Postgres and the replicas."""
    with ExitStack() as stack:
        stack.enter_context(store_away(service))
        stack.enter_context(stopped(service, BROKER, WORKER))
        yield


def _status(service: Service, job: int) -> Json:
    told: Json = service.api.get("/training/status", job_id=job)
    return told


async def _etag(connection: Connection) -> str:
    told = await connection.request("GET", f"/model/slots?model={MODEL}")
    return told.headers["etag"]
