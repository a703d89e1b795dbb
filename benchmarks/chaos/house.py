"""Postgres, broker, replicas and workers as processes of ours, to be killed, frozen, cut off and started again."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from app import db
from app.auth.service import create_key
from app.cli.embedded import broker, postgres, processes
from app.cli.embedded.folder import LOOPBACK, PORTS, DataFolder, hold, listen_once
from app.cli.embedded.processes import Process, Service
from app.cli.migrate import upgrade
from app.settings import Settings
from benchmarks.chaos.history import Breach, History
from benchmarks.chaos.proxy import Proxy
from benchmarks.service import is_ready

REPLICAS = ("api-1", "api-2", "api-3")
WORKERS = ("worker-1", "worker-2")
# These reach Postgres through a proxy of their own, so that each can be cut off from it alone.
FAR = ("api-3", "worker-2")
LATECOMER = "api-4"

# Short, so that many leases run out in a few minutes; every promise is told in multiples of them.
JOB_LEASE_SECONDS, REPLICA_LEASE_SECONDS = 5.0, 3.0
PATIENCE_SECONDS = 60.0


@dataclass
class Program:
    """One process. `make` says how to run it, anew at each start: it ends what the last one left behind."""

    name: str
    log: Path
    make: Callable[[], Service]
    wanted: bool = False
    _process: Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def has_died(self) -> bool:
        """Whether it has ended although nobody ended it."""
        return self.wanted and self._process is not None and self._process.poll() is not None

    async def start(self) -> None:
        """Returns when it is ready. Raises TimeoutError where it does not get so, RuntimeError where it ends."""
        service = await asyncio.to_thread(self.make)
        # On the main thread, to whose life the kernel ties the child's.
        self._process, self.wanted = processes.start(service, self.log), True
        await eventually(lambda: self._answers(service), f"{self.name} to be ready")

    async def _answers(self, service: Service) -> bool:
        if self.has_died:
            raise RuntimeError(f"{self.name} ended at once: {processes.tail(self.log)}")
        return await asyncio.to_thread(service.ready)

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    async def stop(self, *signals: signal.Signals, patience: float = 10.0) -> None:
        """Sends each signal and waits so many seconds for the end, the last time SIGKILL."""
        self.wanted = False
        for number in (*signals, signal.SIGKILL):
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)
                await self._ended(patience)

    async def _ended(self, seconds: float) -> None:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, seconds)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@dataclass
class Replica(Program):
    url: str = ""


@dataclass
class House:
    """`location` is Postgres's libpq URL, past every proxy. `far`: who has a proxy before Postgres, and that proxy."""

    folder: DataFolder
    history: History
    location: str
    key: str
    postgres: Program
    broker: Program
    before_broker: Proxy
    far: Mapping[str, Proxy]
    replicas: list[Replica] = field(default_factory=list)
    workers: list[Program] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder.path / "store"

    @property
    def programs(self) -> list[Program]:
        return [self.postgres, self.broker, *self.workers, *self.replicas]

    async def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows straight from Postgres. Raises psycopg.OperationalError while it is away."""
        async with await psycopg.AsyncConnection.connect(self.location, autocommit=True) as connection:
            return await (await connection.execute(query, values)).fetchall()

    def replica(self, name: str) -> Replica:
        """Another replica, not started yet."""
        port = _free_port()
        environment = self._environment(name) | {"REFIT_PORT": str(port)}
        url = f"http://{LOOPBACK}:{port}"
        service = _python(name, "app.main", environment, lambda: is_ready(url))
        return Replica(name, self.folder.log(name), lambda: service, url=url)

    def worker(self, name: str, **environment: str) -> Program:
        service = _python(name, "workers.celery_app", self._environment(name) | environment, lambda: True)
        return Program(name, self.folder.log(name), lambda: service)

    async def mend(self) -> None:
        """What has died without being killed is a breach; it is started again so that the storm goes on."""
        for program in self.programs:
            if program.has_died:
                told = processes.tail(program.log)
                self.history.breaches.append(Breach("only what is killed dies", f"{program.name} died: {told}"))
                await program.start()

    def _environment(self, name: str) -> dict[str, str]:
        """Nothing of this machine's own Refit, and none of its names for Postgres."""
        port = self.far[name].port if name in self.far else self.folder.servers.postgres_port
        told = {
            "DATABASE_URL": _at_port(postgres.url(self.folder), port),
            "BROKER_URL": _at_port(broker.url(self.folder), self.before_broker.port),
            "DATA_DIR": self.folder.path,
            "STORE_DIR": self.store,
            "JOB_LEASE_SECONDS": JOB_LEASE_SECONDS,
            "REPLICA_LEASE_SECONDS": REPLICA_LEASE_SECONDS,
            "CANCEL_GRACE_SECONDS": 2,
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("REFIT_", "PG"))}
        ours = {f"REFIT_{key}": str(value) for key, value in told.items()}
        return inherited | {"OMP_NUM_THREADS": "1"} | ours


@asynccontextmanager
async def furnished(path: Path, history: History) -> AsyncIterator[House]:
    """A house in `path` whose replicas are ready. Everything is stopped when the block ends."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(hold(path))
        database = Program(postgres.NAME, folder.log(postgres.NAME), lambda: postgres.service(folder))
        messages = Program(broker.NAME, folder.log(broker.NAME), lambda: broker.service(folder))
        for server in (database, messages):
            stack.push_async_callback(server.stop, signal.SIGINT, signal.SIGQUIT)
            await server.start()
        postgres.create_database(folder)
        settings = Settings(database_url=postgres.url(folder), data_dir=path)
        await asyncio.to_thread(upgrade, settings.database)
        before_broker = await stack.enter_async_context(Proxy(folder.servers.broker_port))
        far = {name: await stack.enter_async_context(Proxy(folder.servers.postgres_port)) for name in FAR}
        location = postgres.url(folder).replace("+psycopg", "", 1)
        house = House(folder, history, location, await _key(settings), database, messages, before_broker, far)
        house.workers += [house.worker(name) for name in WORKERS]
        house.replicas += [house.replica(name) for name in REPLICAS]
        for program in (*house.workers, *house.replicas):
            stack.push_async_callback(program.stop, signal.SIGTERM)
        await asyncio.gather(*(program.start() for program in (*house.workers, *house.replicas)))
        await eventually(lambda: house.ask("SELECT 1 FROM model_types"), "a worker that announces what it trains")
        yield house


async def eventually(holds: Callable[[], Awaitable[Any]], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first truthy answer of `holds`, which may fail meanwhile because Postgres is away. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if answer := await holds():
                return answer
        except (psycopg.OperationalError, OSError):
            pass
        await asyncio.sleep(0.05)
    raise TimeoutError(f"waited {seconds:g} s for {what}")


async def _key(settings: Settings) -> str:
    engine = db.create_engine(settings)
    try:
        async with db.create_sessions(engine)() as session, session.begin():
            return await create_key(session, name="chaos", roles=["admin"], actor="chaos")
    finally:
        await engine.dispose()


def _python(name: str, module: str, environment: dict[str, str], ready: Callable[[], bool]) -> Service:
    return Service(name, (sys.executable, "-P", "-m", module), ready, environment=environment)


def _at_port(url: str, port: int) -> str:
    return make_url(url).set(port=port).render_as_string(hide_password=False)


def _free_port() -> int:
    """Below those that the kernel lends to outgoing connections: a replica that was killed finds it free again."""
    for port in random.sample(PORTS, 100):
        try:
            return listen_once(LOOPBACK, port)
        except OSError:
            continue
    raise RuntimeError("no free port")
