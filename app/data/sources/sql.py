"""Rows from a query on any database that SQLAlchemy knows, read-only and in chunks.

`:since` in the query is the high-water mark of the last training: the newest value of the time column, null
before the first one. On Postgres: `WHERE updated_at > COALESCE(CAST(:since AS timestamptz), '-infinity')`.
"""

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
from pydantic import Field, SerializationInfo, field_serializer, field_validator, model_validator
from sqlalchemy import (
    URL,
    ColumnClause,
    Connection,
    DateTime,
    NullPool,
    TextClause,
    and_,
    bindparam,
    column,
    create_engine,
    func,
    make_url,
    or_,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from app.data.columns import has_times
from app.data.sources import Reading, SourceOptions
from app.data.sources._rows import table_of, unify
from app.data.times import parse
from app.errors import Invalid

CHUNK = 50_000
HIDDEN = "***"
# `select` first, and no second statement behind it.
ONE_SELECT = re.compile(r"\s*(select|with)\b[^;]*", re.IGNORECASE)
COMMENTS_AND_STRINGS = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"[^\"]*\"", re.DOTALL)
# What makes a connection read-only and bounds a statement, by dialect; the others have to rely on the
# account's rights.
GUARDS = {
    "postgresql": ("SET TRANSACTION READ ONLY", "SET LOCAL statement_timeout = {milliseconds}"),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION max_execution_time = {milliseconds}"),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION max_statement_time = {seconds}"),
    "sqlite": ("PRAGMA query_only = ON",),
}
# Drivers that Refit does not carry → the one that it does.
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class Options(SourceOptions):
    """A password in `url` is kept for the workers and shown to nobody; with `env:NAME` Refit never learns it."""

    source: Literal["sql"]
    url: str = Field(description="an SQLAlchemy URL, or env:NAME for an environment variable of API and workers")
    query: str = Field(description="one SELECT; :since is the high-water mark of the last training")
    timeout_seconds: float = Field(600, gt=0, description="of one statement")

    @field_validator("url")
    @classmethod
    def is_a_url(cls, url: str) -> str:
        if url.startswith("env:"):
            return url
        try:
            password = make_url(url).password
        except ArgumentError:
            raise ValueError("not an SQLAlchemy URL such as postgresql://user@host/database, nor env:NAME") from None
        if password == HIDDEN:
            raise ValueError("the password is masked; write the real one, or env:NAME")
        return url

    @field_validator("query")
    @classmethod
    def is_one_select(cls, query: str) -> str:
        query = query.strip().rstrip(";")
        if not ONE_SELECT.fullmatch(COMMENTS_AND_STRINGS.sub(" ", query)):
            raise ValueError("one SELECT is wanted, and nothing besides")
        unknown = set(text(query).compile().params) - {"since"}
        if unknown:
            raise ValueError(rf"unknown parameter :{min(unknown)}; only :since is known (write \: for a mere colon)")
        return query

    @model_validator(mode="after")
    def since_needs_a_time(self) -> Self:
        if self.asks_since and not has_times(self):
            raise ValueError(":since is the newest value of the time column; name it in data.time")
        return self

    @field_serializer("url")
    def hide_password(self, url: str, info: SerializationInfo) -> str:
        """Only who keeps the definition asks for the password: `model_dump(context={"secrets": True})`."""
        return url if (info.context or {}).get("secrets") else masked(url)

    @property
    def asks_since(self) -> bool:
        return "since" in text(self.query).compile().params


async def read(options: Options, reading: Reading) -> pa.Table:
    return await asyncio.to_thread(_read, options, reading.since)


async def count(options: Options, reading: Reading) -> int:
    """Labelled rows newer than `reading.since` by the time column; without one, than the number of rows it is."""
    return await asyncio.to_thread(_count, options, reading.since)


def masked(url: str) -> str:
    """The URL without its password and without the values of its parameters, some of which may be secrets."""
    if url.startswith("env:"):
        return url
    parsed = make_url(url)
    return parsed.set(query=dict.fromkeys(parsed.query, HIDDEN)).render_as_string(hide_password=True)


def _read(options: Options, since: str | None) -> pa.Table:
    with (
        _connected(options) as connection,
        connection.execution_options(yield_per=CHUNK).execute(_query(options, since)) as result,
    ):
        names = list(result.keys())
        chunks = [("the query", table_of(names, rows, "the query")) for rows in result.partitions(CHUNK)]
    return unify(chunks or [("the query", table_of(names, [], "the query"))])


def _count(options: Options, since: str | None) -> int:
    rows = _query(options, since).columns(*map(column, options.sent_columns)).subquery()
    is_there = and_ if options.chat else or_
    has_label = is_there(*(_named(name).is_not(None) for name in options.sent_columns))
    labelled = select(func.count()).select_from(rows).where(has_label)
    if since is not None and has_times(options) and options.time:
        labelled = labelled.where(_named(options.time) > _since(since))
    with _connected(options) as connection:
        found = connection.scalar(labelled) or 0
    return found if since is None or has_times(options) else max(0, found - int(float(since)))


def _named(name: str) -> ColumnClause[Any]:
    return column(name)


def _query(options: Options, since: str | None) -> TextClause:
    query = text(f"{options.query}\n")  # a comment may end it, and must not swallow what is put around it
    return query.bindparams(_since(since)) if options.asks_since else query


def _since(since: str | None) -> Any:
    value = None if since is None else parse(since)
    if isinstance(value, datetime):
        return bindparam("since", value, DateTime(timezone=value.tzinfo is not None))
    return bindparam("since", value)


@contextmanager
def _connected(options: Options) -> Iterator[Connection]:
    """A read-only connection. Raises Invalid `source_unreachable` or `query_failed`, never with the URL in it."""
    url = _url(options.url)
    try:
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
        connection = engine.connect()
    except (SQLAlchemyError, ImportError) as error:
        raise _unreachable(url, error) from error
    with connection:
        try:
            limits = {"milliseconds": int(options.timeout_seconds * 1000), "seconds": options.timeout_seconds}
            for guard in GUARDS.get(engine.dialect.name, ()):
                connection.execute(text(guard.format(**limits)))
            yield connection
        except SQLAlchemyError as error:
            raise Invalid(
                f"The query failed: {_said(url, error)}.",
                code="query_failed",
                remedy="Run it by hand on that database; data.timeout_seconds bounds one statement.",
            ) from error


def _url(url: str) -> URL:
    name = url.removeprefix("env:")
    if name != url:
        url = os.environ.get(name, "")
        if not url:
            remedy = f"Set {name} in the environment of the API and of every worker."
            raise Invalid(f"The environment variable {name} is not set.", code="source_unreachable", remedy=remedy)
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Invalid(f"{name} holds no SQLAlchemy URL.", code="source_unreachable") from None
    if parsed.get_backend_name() == "sqlite" and not _sqlite_exists(parsed.database):
        raise Invalid(f"There is no SQLite file {parsed.database}.", code="source_unreachable")
    return parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))


def _sqlite_exists(database: str | None) -> bool:
    """SQLite would create the file that it does not find."""
    return database is not None and (database.startswith("file:") or Path(database).is_file())


def _unreachable(url: URL, error: Exception) -> Invalid:
    missing = isinstance(error, ImportError | NoSuchModuleError)
    return Invalid(
        f"The database at {url.host or url.database} cannot be reached: {_said(url, error)}.",
        code="source_unreachable",
        remedy=f"Install the driver of {url.drivername} beside Refit."
        if missing
        else "Check data.url and the network.",
    )


def _said(url: URL, error: Exception) -> str:
    """The database's own words, without SQLAlchemy's and without the password."""
    said = str(getattr(error, "orig", None) or error).strip().rstrip(".")
    return said.replace(url.password, HIDDEN) if url.password else said
