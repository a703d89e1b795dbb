"""The migrations build what the code expects, and can be undone."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect

ROOT = Path(__file__).parent.parent


@pytest.fixture
def alembic(database_url: str) -> Config:
    config = Config(ROOT / "migrations" / "alembic.ini")
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config


def test_the_tables_in_the_code_are_those_that_the_migrations_build(alembic: Config) -> None:
    command.check(alembic)


def test_every_migration_can_be_undone_and_done_again(alembic: Config, database_url: str) -> None:
    command.downgrade(alembic, "base")
    engine = create_engine(database_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    command.upgrade(alembic, "head")
    command.check(alembic)
    engine.dispose()
