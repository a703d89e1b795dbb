"""The embedded broker: Valkey, the BSD fork of Redis with its protocol. It forgets nothing at a stop."""

from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Final

import redis

from app.cli.embedded.account import server_account
from app.cli.embedded.binaries import broker_program
from app.cli.embedded.folder import LOOPBACK, DataFolder
from app.cli.embedded.processes import Service, end_orphans, start, stop, wait_ready

NAME: Final = "broker"
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


def url(folder: DataFolder) -> str:
    return f"redis://:{folder.servers.broker_password}@{LOOPBACK}:{folder.servers.broker_port}/0"


def service(folder: DataFolder) -> Service:
    """How to run the broker of this folder. Ends what an earlier start left behind.

    Raises CannotStart when it is not installed.
    """
    account = server_account()
    program = broker_program(folder.path, account)
    end_orphans(folder.log(NAME), Signals.SIGTERM)
    port, password = folder.port(NAME), folder.servers.broker_password
    return Service(
        name=NAME,
        # From standard input, so that the password does not show in the list of processes.
        command=(program, "-"),
        stdin=CONFIGURATION.format(host=LOOPBACK, port=port, password=password).encode(),
        ready=lambda: _answers(folder),
        stop=(Signals.SIGTERM, Signals.SIGINT),
        orphaned=Signals.SIGTERM,
        account=account,
        folder=folder.private("broker", account),
    )


@contextmanager
def running(folder: DataFolder) -> Iterator[str]:
    """A broker for as long as the block lasts; yields the URL."""
    this, log = service(folder), folder.log(NAME)
    process = start(this, log)
    try:
        wait_ready(this, process, log)
        yield url(folder)
    finally:
        stop(this, process)


def _answers(folder: DataFolder) -> bool:
    with redis.Redis.from_url(url(folder), socket_connect_timeout=1, socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
