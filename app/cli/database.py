"""What works straight on the database of REFIT_DATABASE_URL, before there is a service to ask."""

import asyncio

from sqlalchemy.exc import OperationalError, ProgrammingError

from app.auth.service import create_first_key
from app.cli.client import configured
from app.cli.failures import Exit, Failure
from app.db import create_engine, create_sessions
from app.errors import Refused
from app.settings import Settings


def with_database() -> Settings:
    """The settings of the environment. Raises Failure where they name no database."""
    settings = configured()
    if settings.database_url is None:
        remedy = "Set it to postgresql://user:password@host:port/database."
        raise Failure("REFIT_DATABASE_URL is not set.", Exit.USAGE, remedy=remedy)
    return settings


def make_first_key(actor: str) -> str:
    """An admin key for a service without one. Raises Failure, also where Postgres is away or not migrated."""
    settings = with_database()
    try:
        return asyncio.run(_make_first_key(settings, actor))
    except Refused as refused:
        raise Failure.of_problem(refused.problem()) from None
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[-1]
        message = f"Postgres does not let us in: {reason}"
        raise Failure(message, Exit.UNREACHABLE, remedy="Check REFIT_DATABASE_URL.") from None
    except ProgrammingError:
        message = "This database does not have the schema of this version."
        raise Failure(message, Exit.CONFLICT, remedy="Run `refit migrate` first.") from None


async def _make_first_key(settings: Settings, actor: str) -> str:
    engine = create_engine(settings)
    try:
        async with create_sessions(engine)() as session, session.begin():
            return await create_first_key(session, actor=actor)
    finally:
        await engine.dispose()
