from pathlib import Path
from typing import Any

import click
import yaml

from app.cli.arguments import examples, file_argument
from app.cli.client import connect, resolved
from app.cli.failures import Exit, Failure
from app.cli.output import emit, json_option, say, table
from app.cli.sendable import flaw


@click.group()
def models() -> None:
    """What is trained, on what, judged how."""


@models.command(epilog=examples("refit models apply models.yaml", "refit models show fraud | refit models apply -"))
@file_argument
@json_option
def apply(file: Path) -> None:
    """Make the definitions of FILE (NAME: DEFINITION, …) the current ones.

    Applying the same twice changes nothing. A relative data.path or label.prompt_file is meant from the folder of FILE.
    """
    definitions = _read(file)
    api = connect()
    applied = []
    for name, definition in definitions.items():
        try:
            answer = api.put(f"/models/{name}", definition)
        except Failure as failure:
            raise failure.within(name) from None
        say(f"{name}: {'applied' if answer['changed'] else 'as it was'}, revision {answer['revision']}")
        applied.append(answer)
    emit(applied, lambda rows: table(("model", "revision", "changed"), map(_row, rows)))


@models.command("list", epilog=examples("refit models list"))
@json_option
def list_models() -> None:
    """Every model that is defined."""
    headers = ("model", "type", "revision", "created")
    rows = connect().get("/models")
    emit(rows, lambda found: table(headers, [(m["name"], m["type"], m["revision"], m["created_at"]) for m in found]))


@models.command(epilog=examples("refit models show fraud", "refit models show fraud --revision 3"))
@click.argument("model", required=False)
@click.option("--revision", type=click.IntRange(1), help="An earlier one.")
@json_option
def show(model: str | None, revision: int | None) -> None:
    """The definition of MODEL with every default, as YAML that `apply` takes."""
    api = connect()
    emit(api.get(f"/models/{resolved(api, model)}", revision=revision), _show)


def _show(applied: dict[str, Any]) -> None:
    definition = {applied["model"]: applied["definition"]}
    click.echo(yaml.safe_dump(definition, sort_keys=False, allow_unicode=True), nl=False)
    say(f"revision {applied['revision']}")


def _row(applied: dict[str, Any]) -> tuple[Any, ...]:
    return applied["model"], applied["revision"], applied["changed"]


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """The definitions of a YAML file by name. Raises Failure naming the line or the model that is wrong."""
    try:
        with click.open_file(str(file), encoding="utf-8") as opened:
            told = yaml.safe_load(opened)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Failure(f"{file} is not YAML: {error}", Exit.USAGE) from None
    if not isinstance(told, dict) or not told:
        raise Failure(f"{file} has no definitions.", Exit.USAGE, remedy="It reads NAME: {type: …, data: {…}}.")
    for name, definition in told.items():
        if not isinstance(definition, dict):
            raise Failure(f"{file}: {name} is no definition, but {definition!r}.", Exit.USAGE)
        preference = definition.get("preference")
        for data in (definition.get("data"), preference.get("data") if isinstance(preference, dict) else None):
            _resolve_path(data, file)
        _read_prompt(name, definition.get("label"), file)
        _require_json(name, definition, file)
    return told


def _resolve_path(data: Any, file: Path) -> None:
    """The service may run in another folder than this command, so it is told the whole path."""
    path = data.get("path") if isinstance(data, dict) else None
    if isinstance(path, str) and "://" not in path:
        data["path"] = str(_folder_of(file) / path)


def _read_prompt(name: str, label: Any, file: Path) -> None:
    """`prompt_file` becomes `prompt`, its content: it belongs to the definition, and changes with it."""
    if not isinstance(label, dict) or not isinstance(label.get("prompt_file"), str):
        return
    if "prompt" in label:
        raise Failure(f"{file}: {name}: label has both prompt and prompt_file; write one of them.", Exit.USAGE)
    path = _folder_of(file) / label.pop("prompt_file")
    try:
        label["prompt"] = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file}: {name}: the prompt {path} cannot be read: {error}", Exit.USAGE) from None


def _require_json(name: str, definition: dict[str, Any], file: Path) -> None:
    """YAML knows .nan and .inf, and dates that JSON does not."""
    if found := flaw(definition):
        raise Failure(f"{file}: {name}: {found}.", Exit.USAGE)


def _folder_of(file: Path) -> Path:
    return Path.cwd() if str(file) == "-" else file.resolve().parent
