"""What attempts took from the other programs on this machine, and that those get it back, whoever is killed.

    shared/gpu/<host>/<id>.lock    held (flock) by an attempt that trains here: it lives as long as its lock is held
    shared/gpu/<host>/<id>.json    what it took: models of an Ollama, and the commands that give back the rest

Who leaves while another still trains leaves its record to that one, so that nobody's memory is taken from under them.
A record whose lock nobody holds was left by a process that was killed: the next attempt gives back first, and every
worker looks for such records at its start and from then on (`dispatch.py`). Not covered: a host that comes back under
another name, as a container that was made anew; and what needs giving back while every worker of the host is down.
"""

import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import httpx
import orjson

from app.registry.artifacts import write_durably
from workers import neighbours
from workers.neighbours import CommandFailed, Loaded, Say

TRIES = 5


class Taken(TypedDict):
    """`start` in their order, then `models` back into the Ollama at `url`."""

    start: list[list[str]]
    url: str | None
    models: list[Loaded]
    tries: int


class Borrower:
    """An attempt that trains here now."""

    def __init__(self, record: Path) -> None:
        self._record = record

    def takes(self, start: list[list[str]], url: str | None, models: list[Loaded]) -> None:
        """To be said before it is done. Returns once it is on the disk."""
        _write(self._record, {"start": start, "url": url, "models": models, "tries": 0})


@contextmanager
def borrowing(shared: Path, say: Say) -> Iterator[Borrower]:
    """Gives back first what a killed attempt left, and in the end what this one took, unless another trains here."""
    folder = _folder(shared)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f"{uuid.uuid4().hex}.lock"
    with _alone(folder):
        _give_back_unless_needed(folder, say)
        held = _hold(lock)
    try:
        yield Borrower(lock.with_suffix(".json"))
    finally:
        with _alone(folder):
            os.close(held)
            _give_back_unless_needed(folder, say)


def give_back_what_was_left(shared: Path, say: Say) -> None:
    """Blocks while commands run and models load; never raises for what they answer."""
    folder = _folder(shared)
    if folder.exists() and any(folder.glob("*.lock")):
        with _alone(folder):
            _give_back_unless_needed(folder, say)


def _folder(shared: Path) -> Path:
    return shared / "gpu" / socket.gethostname()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process of the host at a time; the kernel opens it again for one that was killed."""
    held = _hold(folder / ".mutex")
    try:
        yield
    finally:
        os.close(held)


def _hold(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _give_back_unless_needed(folder: Path, say: Say) -> None:
    locks = sorted(folder.glob("*.lock"), key=lambda path: path.stat().st_mtime)
    if any(_is_held(lock) for lock in locks):
        return
    for lock in locks:
        record = lock.with_suffix(".json")
        rest = _give_back(orjson.loads(record.read_bytes()), say) if record.exists() else None
        if rest is not None and rest["tries"] < TRIES:
            _write(record, rest)
            continue
        if rest is not None:
            say(f"gave up giving back after {TRIES} tries; to be done by hand: {orjson.dumps(rest).decode()}")
        record.unlink(missing_ok=True)
        lock.unlink()


def _give_back(taken: Taken, say: Say) -> Taken | None:
    """What could not be given back, to be tried again; None: nothing is left of it."""
    start = [command for command in taken["start"] if not _started(command, say)]
    models = [model for model in taken["models"] if not _loaded(taken["url"] or "", model, say)]
    rest: Taken = {"start": start, "url": taken["url"], "models": models, "tries": taken["tries"] + 1}
    return rest if start or models else None


def _started(command: list[str], say: Say) -> bool:
    try:
        neighbours.command(command, say)
    except CommandFailed as error:
        say(f"could not give back: {error}")
        return False
    return True


def _loaded(url: str, model: Loaded, say: Say) -> bool:
    """A model that Ollama refuses is not asked for again: a request for it loads it by itself."""
    try:
        neighbours.load(url, model)
    except httpx.HTTPStatusError as error:
        say(f"{model['model']} could not be loaded again (HTTP {error.response.status_code}): its next request will")
    except httpx.HTTPError as error:
        say(f"{model['model']} could not be loaded again yet: {type(error).__name__}")
        return False
    else:
        say(f"{model['model']} is loaded again")
    return True


def _write(record: Path, taken: Taken) -> None:
    write_durably(record, orjson.dumps(taken))
