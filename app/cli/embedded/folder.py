"""The data folder: who holds it, and the ports and passwords that the next start finds again.

lock            held by the `refit up` that runs
servers.json    ports and passwords (0600)
pg/ broker/     the servers' own; theirs alone
logs/           one file a service
admin.key       the first key (0600)
store/          artifacts, snapshots, checkpoints
"""

import fcntl
import os
import random
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from app.cli.embedded import CannotStart, Taken
from app.cli.embedded.account import Account

LOOPBACK = "127.0.0.1"
# As many connections wait while no replica takes them, for example because the only one is being started again.
BACKLOG = 2_048
# Below those that Linux (32768) and macOS (49152) lend to outgoing connections: nobody takes ours by chance.
PORTS = range(20_000, 32_768)


class Servers(BaseModel):
    """What a client needs to know of the embedded servers. Port 0 is not chosen yet."""

    postgres_port: int = 0
    postgres_password: str = Field(default_factory=secrets.token_hex)
    broker_port: int = 0
    broker_password: str = Field(default_factory=secrets.token_hex)


@dataclass
class DataFolder:
    path: Path
    servers: Servers

    def log(self, service: str) -> Path:
        return self.path / "logs" / f"{service}.log"

    def port(self, server: Literal["postgres", "broker"]) -> int:
        """The server's port from last time, or another if somebody has taken that. Kept for next time."""
        name = f"{server}_port"
        known: int = getattr(self.servers, name)
        port = known if known and _is_free(known) else _free_port()
        if port != known:
            self.servers = self.servers.model_copy(update={name: port})
            _keep(self.path, self.servers)
        return port

    def private(self, name: str, account: Account | None) -> Path:
        """The folder `name`, which only the server's account may enter."""
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        if account:
            account.owns(folder)
        return folder


@contextmanager
def hold(path: Path) -> Iterator[DataFolder]:
    """Makes and locks the data folder. The kernel drops the lock with the process, so a lock is never stale.

    Raises Taken when another process holds it, CannotStart when it cannot be written or read.
    """
    path = path.expanduser().resolve()
    try:
        _make(path)
        lock = (path / "lock").open("a+")
    except OSError as error:
        raise CannotStart(
            f"The data folder {path} cannot be used: {error.strerror} ({error.filename}).",
            remedy="Name another with --data-dir.",
        ) from error
    with lock:
        _lock(path, lock.fileno())
        yield DataFolder(path, _known_servers(path))


def _make(path: Path) -> None:
    # Root's servers run as another account, which must pass to its own folders; the rest in here it cannot read.
    path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    (path / "logs").mkdir(mode=0o700, exist_ok=True)


def _lock(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode() or "just started"
        raise Taken(
            f"The data folder {path} is in use by another `refit up` (process {holder}).",
            remedy="Stop that one, or name another folder with --data-dir.",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)


def _known_servers(path: Path) -> Servers:
    file = path / "servers.json"
    if not file.exists() and not (path / "pg").exists():
        return _keep(path, Servers())
    try:
        return Servers.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        raise CannotStart(
            f"{file} does not hold the ports and passwords of the servers in this folder.",
            remedy="Restore it from a backup: without it they cannot be opened.",
        ) from None


def _keep(path: Path, servers: Servers) -> Servers:
    write_secret(path / "servers.json", servers.model_dump_json(indent=2))
    return servers


def write_secret(path: Path, content: str) -> None:
    """`path` has the old content or the new one, never a part, and only we may read it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, for port 0 on a port that the system chooses. Raises OSError when nobody can listen there."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def listen_once(host: str, port: int) -> int:
    """The port that can be listened on. Raises OSError as `listen`."""
    with listen(host, port) as probe:
        chosen: int = probe.getsockname()[1]
    return chosen


def _is_free(port: int) -> bool:
    try:
        listen_once(LOOPBACK, port)
    except OSError:
        return False
    return True


def _free_port() -> int:
    for port in random.sample(PORTS, 100):
        if _is_free(port):
            return port
    raise CannotStart(f"No free port on {LOOPBACK} between {PORTS.start} and {PORTS.stop - 1}.")
