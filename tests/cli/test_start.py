"""Commands that only ask start fast: they import nothing of the service, the database or the data plane."""

import subprocess
import sys

import pytest

from app.cli import COMMANDS

HEAVY = {"sqlalchemy", "fastapi", "pyarrow", "numpy", "celery", "alembic", "psycopg", "onnxruntime", "sklearn", "torch"}
LIGHT = sorted(COMMANDS.keys() - {"up", "migrate"})


def test_no_command_that_only_asks_imports_what_the_service_needs() -> None:
    modules = ", ".join({COMMANDS[name][0].partition(":")[0] for name in LIGHT})
    loaded = imported(f"import {modules}")
    assert not HEAVY & loaded
    assert "httpx" in loaded


def test_help_imports_not_even_the_client() -> None:
    assert not (HEAVY | {"httpx", "pydantic"}) & imported(
        "from app.cli import main; main(['--help'], standalone_mode=False)"
    )


def imported(code: str) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in told.stderr.split()}


@pytest.mark.parametrize("arguments", [["--version"], ["jobs", "--help"]])
def test_the_installed_command_answers(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "app.cli", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith(("refit ", "Usage: refit "))
