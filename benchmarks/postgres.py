"""A connection to the Postgres of a service that `refit up` keeps."""

from pathlib import Path
from typing import Any

import psycopg

from app.cli.embedded.folder import LOOPBACK, Servers
from app.cli.embedded.postgres import DATABASE, USER


def connect(folder: Path, **options: Any) -> "psycopg.Connection[tuple[Any, ...]]":
    """`folder` is the service's. Raises psycopg.OperationalError where nobody answers within two seconds."""
    servers = Servers.model_validate_json((folder / "servers.json").read_bytes())
    return psycopg.connect(
        host=LOOPBACK,
        port=servers.postgres_port,
        password=servers.postgres_password,
        user=USER,
        dbname=DATABASE,
        connect_timeout=2,
        **options,
    )
