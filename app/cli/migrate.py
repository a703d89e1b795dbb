"""Brings the database to this version's schema; one process at a time, however many start together."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

import migrations
from app.cli.embedded import CannotStart

# Any number will do, as long as nothing else in this database takes the same one.
LOCK = 7_283_642


def upgrade(url: str) -> None:
    """Alembic's `upgrade head`, under a lock. Raises CannotStart when the database cannot be reached."""
    folder = Path(migrations.__file__).parent
    config = Config(folder / "alembic.ini")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            command.upgrade(config, "head")
    except OperationalError as error:
        raise CannotStart(
            f"Postgres does not let us in: {str(error.orig).strip()}.", remedy="Check REFIT_DATABASE_URL."
        ) from error
