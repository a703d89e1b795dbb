"""What is killed and started again while a watch runs."""

import signal
import time

import psutil
import psycopg

from app.tick import WATCH_LOCK
from benchmarks import postgres
from benchmarks.report import progress
from benchmarks.service import Service, until

WHO_TICKS = """
    SELECT activity.client_port FROM pg_locks AS lock JOIN pg_stat_activity AS activity USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.objid = %s AND lock.granted
"""


def kill_who_ticks(service: Service) -> None:
    """kill -9 of the API process that holds the lock of those who watch. `refit up` starts it again."""
    ticker = until(lambda: _who_ticks(service), "an API process that ticks", every=0.002)
    ticker.kill()
    progress(f"killed the process {ticker.pid}, which held the lock of those who watch")


def restart_postgres(service: Service) -> float:
    """Stops it at once, clients or not; `refit up` starts it again. Seconds for which nobody could connect."""
    [server] = [process for process in service.processes("postgres") if _is_server(process)]
    began = time.monotonic()
    server.send_signal(signal.SIGINT)
    server.wait(30)
    until(lambda: _connects(service), "Postgres to be back")
    return time.monotonic() - began


def _who_ticks(service: Service) -> psutil.Process | None:
    with postgres.connect(service.folder, autocommit=True) as connection:
        ports = {port for (port,) in connection.execute(WHO_TICKS, [WATCH_LOCK])}
    if not ports:
        return None
    return next((each for each in service.processes("app.main") if ports & _ports(each)), None)


def _ports(process: psutil.Process) -> set[int]:
    try:
        return {each.laddr.port for each in process.net_connections("tcp")}
    except psutil.Error:
        return set()


def _is_server(process: psutil.Process) -> bool:
    """The one that `refit up` started, whose children are the backends."""
    try:
        parent = process.parent()
        return parent is not None and "app.cli" in parent.cmdline()
    except psutil.NoSuchProcess:  # a backend whose client has left
        return False


def _connects(service: Service) -> bool:
    try:
        with postgres.connect(service.folder, autocommit=True):
            return True
    except psycopg.OperationalError:
        return False
