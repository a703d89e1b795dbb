"""Postgres: the engine, the columns every table shares, LISTEN and NOTIFY.

A transaction is visible: `async with session.begin()` stands in the router or in the worker's entry, nowhere else.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

import psycopg
from sqlalchemy import BigInteger, DateTime, Identity, MetaData, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, mapped_column

from app.settings import Settings

# Constraint names are fixed here so that migrations and the database agree on them.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads this class attribute
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
    }


Serial = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())]

# A server that accepts and never answers is noticed within fifteen seconds, instead of never.
# One that was stopped in the middle of a transaction keeps its locks no longer than a replica's lease: neither a swap
# nor a heartbeat waits for a process that will never go on.
IDLE_MILLISECONDS = 3_000
CONNECTION: dict[str, Any] = {
    "application_name": "refit",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
    "options": f"-c idle_in_transaction_session_timeout={IDLE_MILLISECONDS} -c timezone=UTC",
}

NOTIFY = text("SELECT pg_notify(:channel, :payload)")

# The database's own clock; now() would be stale after waiting for a lock (PROTOCOL).
clock = func.clock_timestamp


def seconds(value: float) -> Any:
    """An SQL interval of `value` seconds."""
    return func.make_interval(0, 0, 0, 0, 0, 0, value)


def create_engine(settings: Settings, **connection: Any) -> AsyncEngine:
    """`connection` are arguments of psycopg's that are to differ from CONNECTION."""
    return create_async_engine(
        settings.database,
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=True,
        # What fails is logged with its statement: its values may be secrets, or rows about people.
        hide_parameters=True,
        connect_args=CONNECTION | connection,
    )


def create_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)


async def notify(session: AsyncSession, channel: str, payload: str) -> None:
    """Tells listeners once this transaction commits. NOTIFY only shortens a wait: every listener polls as well."""
    await session.execute(NOTIFY, {"channel": channel, "payload": payload})


async def listen(settings: Settings, *channels: str) -> AsyncIterator[tuple[str, str]]:
    """Yields (channel, payload) for ever, on a direct connection of its own (poolers break LISTEN).

    Yields ("", "") once after connecting: what was said before that was not heard, so look for yourself.
    Raises psycopg.OperationalError when the connection is lost.
    """
    url = settings.database.replace("postgresql+psycopg://", "postgresql://", 1)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, **CONNECTION) as connection:
        for channel in channels:
            await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
        yield "", ""
        async for message in connection.notifies():
            yield message.channel, message.payload
