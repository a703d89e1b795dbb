"""Brings a database to the schema of this version. Those who do so at once take turns (migrations/env.py)."""

from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

import migrations
from app.cli.database import with_database
from app.cli.embedded import CannotStart
from app.cli.failures import Failure
from app.cli.output import say


@click.command()
def migrate() -> None:
    """Bring the database of REFIT_DATABASE_URL to the schema of this version.

    Once per deployment, before the API and the workers start: they never migrate. `refit up` does it by itself.
    """
    try:
        upgrade(with_database().database)
    except CannotStart as error:
        raise Failure.of_problem(error.problem()) from None
    say("the database has the schema of this version")


def upgrade(url: str) -> None:
    """Alembic's `upgrade head`. Raises CannotStart when Postgres cannot be reached or does not let us in."""
    config = Config(Path(migrations.__file__).with_name("alembic.ini"))
    impatient = make_url(url).update_query_dict({"connect_timeout": "5"})
    config.set_main_option("sqlalchemy.url", impatient.render_as_string(hide_password=False).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[-1]
        raise CannotStart(f"Postgres does not let us in: {reason}", remedy="Check REFIT_DATABASE_URL.") from None
