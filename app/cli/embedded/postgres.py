"""The embedded Postgres: TCP on loopback, with a password, and no socket, which a long path would break."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from signal import Signals
from typing import Final

import psycopg
from psycopg import sql

from app.cli.embedded import CannotStart
from app.cli.embedded.account import Account, server_account
from app.cli.embedded.binaries import POSTGRES_MAJOR, postgres_programs
from app.cli.embedded.folder import LOOPBACK, DataFolder
from app.cli.embedded.processes import Service, end_orphans, start, stop, tail, wait_ready

NAME: Final = "postgres"
USER = DATABASE = "refit"
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",  # a pool of ten for every replica and worker
    "timezone": "UTC",
    "log_timezone": "UTC",
}
INITDB = (
    *("--username", USER, "--pwfile=/dev/stdin", "--auth=scram-sha-256", "--encoding=UTF8"),
    # Built in, so that the order of text does not change when the system's libc does.
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)
# Only for data that nobody will miss.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def url(folder: DataFolder, database: str = DATABASE) -> str:
    servers = folder.servers
    return f"postgresql+psycopg://{USER}:{servers.postgres_password}@{LOOPBACK}:{servers.postgres_port}/{database}"


def service(folder: DataFolder, *, durable: bool = True) -> Service:
    """How to run the Postgres of this folder, whose cluster is made on the first call.

    Ends what an earlier start left behind. Raises CannotStart when the cluster is another major version's,
    when Postgres is not installed, and when it cannot run as the user that we are.
    """
    account = server_account()
    programs = postgres_programs(folder.path, account)
    end_orphans(folder.log(NAME), Signals.SIGINT)
    cluster = _cluster(folder, programs, account)
    where, passed = _way_to(cluster, account)
    settings = SETTINGS | ({} if durable else NOT_DURABLE) | {"port": str(folder.port(NAME))}
    options = [f"--{key}={value}" for key, value in settings.items()]
    return Service(
        name=NAME,
        command=[programs / "postgres", "-D", where, *options],
        ready=lambda: _answers(folder),
        stop=(Signals.SIGINT, Signals.SIGQUIT),  # SIGTERM would wait for every idle client
        orphaned=Signals.SIGINT,
        environment=_environment(),
        account=account,
        folder=Path("/"),
        passed=passed,
    )


def create_database(folder: DataFolder, database: str = DATABASE) -> None:
    """Creates the database unless it exists."""
    with closing(_connect(folder)) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))


@contextmanager
def running(folder: DataFolder, *, durable: bool = True) -> Iterator[str]:
    """A Postgres with its database for as long as the block lasts; yields the URL."""
    this, log = service(folder, durable=durable), folder.log(NAME)
    process = start(this, log)
    try:
        wait_ready(this, process, log)
        create_database(folder)
        yield url(folder)
    finally:
        stop(this, process)


def _connect(folder: DataFolder) -> "psycopg.Connection[tuple[object, ...]]":
    location = url(folder, "postgres").replace("+psycopg", "", 1)
    return psycopg.connect(location, autocommit=True, connect_timeout=2)


def _answers(folder: DataFolder) -> bool:
    try:
        _connect(folder).close()
    except psycopg.OperationalError:
        return False
    return True


def _cluster(folder: DataFolder, programs: Path, account: Account | None) -> Path:
    cluster = folder.path / "pg"
    if not cluster.exists():
        # A killed initdb looks finished from outside: only a rename says that it was.
        begun = folder.path / "pg.init"
        shutil.rmtree(begun, ignore_errors=True)
        _initdb(folder, folder.private("pg.init", account), programs, account)
        begun.rename(cluster)
    major = (cluster / "PG_VERSION").read_text().strip()
    if major != str(POSTGRES_MAJOR):
        raise CannotStart(
            f"{cluster} was made by Postgres {major}, and the installed one is {POSTGRES_MAJOR}.",
            remedy="Move the data with pg_dump of the Refit that made it, or name another --data-dir.",
        )
    _forget_a_reused_pid(cluster / "postmaster.pid")
    return cluster


def _initdb(folder: DataFolder, target: Path, programs: Path, account: Account | None) -> None:
    where, passed = _way_to(target, account)
    initdb = Service(
        name="initdb",
        command=[programs / "initdb", "-D", where, *INITDB],
        ready=lambda: True,
        stdin=folder.servers.postgres_password.encode(),
        environment=_environment(),
        account=account,
        folder=Path("/"),
        passed=passed,
    )
    log = folder.log("initdb")
    if start(initdb, log).wait():
        raise CannotStart(f"initdb failed in {folder.path}: {tail(log)}", remedy=f"See {log}.")


def _way_to(cluster: Path, account: Account | None) -> tuple[str, tuple[int, ...]]:
    """A path on which the account gets to the cluster, and the descriptors that it needs for that.

    Where a folder on the way is closed to it (root's --data-dir under /root), we open the cluster and hand it
    over: the kernel follows /proc/self/fd/N without asking the folders above.
    """
    if account is None or account.reaches(cluster):
        return str(cluster), ()
    descriptor = os.open(cluster, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{descriptor}", (descriptor,)


def _environment() -> dict[str, str]:
    """Ours, without the PGDATA, PGPORT, … that are meant for somebody else's Postgres."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _forget_a_reused_pid(pid_file: Path) -> None:
    """Nobody runs this cluster any more (see `end_orphans`), but its old pid may be somebody else's by now.

    Postgres would take that for a server. It sees through a pid that nobody has, and then still looks for
    backends that use the cluster's shared memory.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return
    pid_file.unlink()
