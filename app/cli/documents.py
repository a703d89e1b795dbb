"""What the service writes for people: Markdown on stdout or in a file; JSON under --json."""

from pathlib import Path

import click

from app.cli.client import Api
from app.cli.failures import Exit, Failure
from app.cli.output import as_json, say, wants_json

out_option = click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Into this file.  [stdout]")


def document(api: Api, path: str, out: Path | None) -> None:
    if wants_json():
        told = as_json(api.get(path, format="json")) + "\n"
    else:
        told = api.call("GET", path, params={"format": "md"}).text
    if out is None:
        click.echo(told, nl=False)
    else:
        write(out, told.encode())


def write(path: Path, content: bytes) -> None:
    """Raises Failure where it cannot be written."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.", Exit.USAGE) from None
    say(f"written: {path}")
