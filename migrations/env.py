"""Runs migrations against `sqlalchemy.url` of the config, else REFIT_DATABASE_URL."""

from alembic import context
from sqlalchemy import create_engine, pool, text

import app.auth.tables
import app.data.tables
import app.definitions.tables
import app.events.tables
import app.feedback.tables
import app.incidents.tables
import app.monitoring.tables
import app.notifications.tables
import app.records.tables
import app.registry.tables
import app.signoff.tables
import app.traffic.tables
import app.training.tables
import app.trials.tables
import app.watch.tables  # noqa: F401 - each import puts its tables into the metadata
from app.db import Base
from app.settings import settings

# Two that migrate at once take turns; the second finds nothing left to do.
LOCK = 7_283_642


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or settings().database
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.commit()
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


run()
