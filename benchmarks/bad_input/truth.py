"""What Postgres holds, as one digest a table: a request that was refused leaves all of them as they were."""

import hashlib
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import postgres

# Rows that replicas and workers renew by themselves.
HEARTBEATS = frozenset({"replica_slots", "workers", "model_types"})
# What is written of requests that were answered, and of events that have been told.
COUNTED = frozenset({"traffic", "traffic_layouts", "answer_blocks", "mirrored", "outbox"})


def truth(folder: Path) -> dict[str, str]:
    """{table: digest of its rows} of the service in `folder`."""
    with postgres.connect(folder) as connection:
        named = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {name: _digest(connection, name) for (name,) in sorted(named) if name not in HEARTBEATS | COUNTED}


def _digest(connection: psycopg.Connection[tuple[Any, ...]], table: str) -> str:
    query = sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(table))
    return hashlib.sha256("\n".join(row for (row,) in connection.execute(query)).encode()).hexdigest()
