"""The `refit` command, called in this process against a service that is made up."""

from functools import partial
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.cli.made_up import URL, MadeUpService, Refit


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MadeUpService:
    made_up = MadeUpService()
    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=httpx.MockTransport(made_up)))
    monkeypatch.setattr("app.cli.client.PAUSES", (0.0,))
    for name, value in {"URL": URL, "API_KEY": "refit_a_b", "DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"REFIT_{name}", value)
    return made_up


@pytest.fixture
def refit() -> Refit:
    """Calls the command; whatever happens, it ends without a stack trace."""
    runner = CliRunner()

    def call(*arguments: str, stdin: str | None = None) -> Result:
        result = runner.invoke(main, arguments, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return call
