"""`refit up`: everything on one machine, from one command, until Ctrl-C."""

import asyncio
import errno
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from app.auth.keyring import KeyRing
from app.auth.roles import Role
from app.auth.service import create_key
from app.cli.client import KEY_FILE, configured
from app.cli.embedded import CannotStart, Taken, broker, postgres
from app.cli.embedded.children import AskedToStop, Children
from app.cli.embedded.folder import DataFolder, hold, listen, write_secret
from app.cli.embedded.services import address, api, end_left_behind, environment_of, worker
from app.cli.failures import Failure
from app.cli.migrate import upgrade
from app.cli.output import as_json, json_option, say, wants_json
from app.db import create_engine, create_sessions
from app.errors import RefitError, Unauthenticated
from app.settings import Settings, default_data_dir

OTHER_PORT = "Choose another with --port."


@click.command()
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Where everything is kept.")
@click.option("--host", help="What the API listens on; beyond this machine only with keys.  [127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes any free one.  [8080]")
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Processes of the API.")
@click.option("--queues", help="Which queues the worker serves, comma-separated.  [cpu]")
@click.option("--concurrency", type=click.IntRange(1), help="Jobs that it runs side by side.  [1]")
@json_option
def up(replicas: int, **options: Any) -> None:
    """Start Refit on this machine, with a Postgres and a broker of its own, until Ctrl-C.

    REFIT_DATABASE_URL and REFIT_BROKER_URL name others, and then none is started. The next `refit up` finds
    everything as it was. Ctrl-C stops in order, a second one quickly, a third at once. With --json, a line on
    standard output says when it is ready.
    """
    told = {name: value for name, value in options.items() if value is not None}
    settings = configured().model_copy(update=told)
    try:
        with hold(settings.data_dir) as folder, Children(folder) as children, suppress(AskedToStop):
            _run(folder, children, settings, replicas)
    except RefitError as error:
        raise Failure.of_problem(error.problem()) from None


def _run(folder: DataFolder, children: Children, settings: Settings, replicas: int) -> None:
    end_left_behind(folder)
    with _listen(settings) as listening:
        settings = settings.model_copy(update={"data_dir": folder.path, "port": listening.getsockname()[1]})
        _start(folder, children, settings, replicas, listening.fileno())
        children.watch()


def _start(folder: DataFolder, children: Children, settings: Settings, replicas: int, listening: int) -> None:
    """Each service after the one that it needs."""
    settings = settings.model_copy(update={"database_url": _database(folder, children, settings)})
    settings = settings.model_copy(update={"broker_url": _broker(folder, children, settings)})
    upgrade(settings.database)
    asyncio.run(_write_admin_key(settings))
    environment = environment_of(settings)
    children.start(worker(environment, settings))
    children.start(*api(environment, settings, replicas, listening))
    _announce(folder, children, settings)


def _listen(settings: Settings) -> socket.socket:
    """Taken before anything is started, and kept until the end."""
    try:
        return listen(settings.host, settings.port)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise Taken(f"Port {settings.port} is taken: somebody listens on {where}.", remedy=OTHER_PORT) from None
        raise CannotStart(f"Cannot listen on {where}: {error.strerror}.", remedy=OTHER_PORT) from None


def _database(folder: DataFolder, children: Children, settings: Settings) -> str:
    if settings.database_url:
        return settings.database
    children.start(postgres.service(folder))
    postgres.create_database(folder)
    return postgres.url(folder)


def _broker(folder: DataFolder, children: Children, settings: Settings) -> str:
    if settings.broker_url:
        return settings.broker_url
    children.start(broker.service(folder))
    return broker.url(folder)


async def _write_admin_key(settings: Settings) -> None:
    """Makes the first key, unless this database knows the one in the file."""
    engine = create_engine(settings)
    sessions = create_sessions(engine)
    file = settings.data_dir / KEY_FILE
    try:
        await KeyRing(sessions).principal_of(file.read_text().strip() if file.exists() else "")
    except Unauthenticated:
        async with sessions() as session, session.begin():
            key = await create_key(session, name="admin", roles=[Role.ADMIN], actor="refit up")
            write_secret(file, key)
    finally:
        await engine.dispose()


def _announce(folder: DataFolder, children: Children, settings: Settings) -> None:
    url, key_file = address(settings), folder.path / KEY_FILE
    say(f"Refit listens on {url}")
    say(f"  key   {key_file}")
    say(f"  logs  {folder.path / 'logs'}")
    say(f"  next  {_hint(settings)}refit models apply models.yaml")
    say("Ctrl-C stops everything.")
    if wants_json():
        ready = {"url": url, "data_dir": str(folder.path), "key_file": str(key_file), "pids": children.pids}
        click.echo(as_json(ready, indent=None))


def _hint(settings: Settings) -> str:
    """What another terminal must say to find a service that is not where `refit` looks by itself."""
    needed = {
        f"REFIT_URL={address(settings)} ": settings.port != Settings.model_fields["port"].default,
        f"REFIT_DATA_DIR={settings.data_dir} ": settings.data_dir != default_data_dir().resolve(),
    }
    return "".join(words for words, is_needed in needed.items() if is_needed)
