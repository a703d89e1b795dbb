"""`refit migrate` and `refit keys bootstrap`: what an operator does before there is a service to ask."""

import json
import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.cli.made_up import Refit


@pytest.fixture
def empty_database_url(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database without any table, which the environment names."""
    server = create_engine(make_url(postgres_url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    url = make_url(postgres_url).set(database=f"empty_{uuid.uuid4().hex[:12]}")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {url.database}"))
        monkeypatch.setenv("REFIT_DATABASE_URL", url.render_as_string(hide_password=False))
        yield url.render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {url.database} WITH (FORCE)"))
    server.dispose()


@pytest.mark.usefixtures("empty_database_url")
def test_an_empty_database_is_migrated_and_then_gives_one_admin_key(refit: Refit) -> None:
    too_early = refit("keys", "bootstrap")
    assert too_early.exit_code == 5
    assert "refit migrate" in too_early.stderr

    assert refit("migrate").exit_code == 0
    assert refit("migrate").exit_code == 0

    made = refit("keys", "bootstrap")
    assert made.exit_code == 0
    assert made.stdout.startswith("refit_")

    again = refit("keys", "bootstrap")
    assert (again.exit_code, again.stdout) == (5, "")
    assert "There is an admin key already" in again.stderr


def test_the_first_key_is_told_like_any_other(refit: Refit, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFIT_DATABASE_URL", database_url)
    made = json.loads(refit("keys", "bootstrap", "--json").stdout)
    assert made["roles"] == ["admin"]
    assert made["key"].startswith(f"refit_{made['id']}_")


@pytest.mark.parametrize("command", [["migrate"], ["keys", "bootstrap"]])
def test_without_a_database_it_says_which_setting_is_missing(
    refit: Refit, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFIT_DATABASE_URL", raising=False)
    refused = refit(*command)
    assert refused.exit_code == 2
    assert "REFIT_DATABASE_URL is not set" in refused.stderr


@pytest.mark.parametrize("command", [["migrate"], ["keys", "bootstrap"]])
def test_a_database_that_is_away_is_told_without_its_password(
    refit: Refit, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFIT_DATABASE_URL", "postgresql://me:hush@127.0.0.1:1/refit")
    refused = refit(*command)
    assert refused.exit_code != 0
    assert "Postgres does not let us in" in refused.stderr
    assert "hush" not in refused.output
