from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yaml

from app.cli.arguments import examples
from app.cli.client import Json, connect, version_path
from app.cli.documents import document, out_option
from app.cli.failures import Exit, Failure
from app.cli.output import emit, json_option, printable, record, say

CHOICES = ("A", "B", "tie")
SKIP = "skip"

model = click.argument("model")


@click.command(epilog=examples("refit sheet assistant", "refit sheet assistant 7 --out sheet-7.md"))
@model
@click.argument("version", type=click.IntRange(1), required=False)
@out_option
@json_option
def sheet(model: str, version: int | None, out: Path | None) -> None:
    """Prompts with the answers of candidate and incumbent, blind: A is the one or the other from prompt to prompt.

    Of VERSION, or of what stands by, else of the newest. The same sheet for everybody, the riskiest prompts first.
    """
    api = connect()
    document(api, f"{version_path(api, model, version)}/evaluation-sheet", out)


@click.command(
    epilog=examples(
        "refit signoff assistant 7 --approve --notes 'kinder than before'",
        "refit signoff assistant 7 --reject --preferences chosen.yaml",
        "refit signoff assistant 7 --interactive",
    )
)
@model
@click.argument("version", type=click.IntRange(1))
@click.option("--approve", is_flag=True, help="The verdict: it may be reloaded.")
@click.option("--reject", is_flag=True, help="The verdict: it may not.")
@click.option("--notes", help="What should be known; kept in the record and the release notes.")
@click.option("--preferences", type=click.File(encoding="utf-8"), help="YAML or JSON: {PROMPT: A, B or tie}.")
@click.option("--evaluation", help="Digest of the evaluation that was read.  [that of the present sheet]")
@click.option("--interactive", is_flag=True, help="Go through the sheet here, prompt by prompt.")
@json_option
def signoff(
    *,
    model: str,
    version: int,
    approve: bool,
    reject: bool,
    notes: str | None,
    preferences: Any,
    evaluation: str | None,
    interactive: bool,
) -> None:
    """Your word on VERSION, the last one counts: needed before a reload where the definition says `signoff`."""
    if (approve and reject) or not (approve or reject or interactive):
        raise click.UsageError("One of --approve and --reject, or --interactive.")
    api = connect()
    path = version_path(api, model, version)
    chosen = _read(preferences) if preferences else {}
    if interactive or evaluation is None:
        shown: Json = api.get(f"{path}/evaluation-sheet", format="json")
        evaluation = evaluation or shown["evaluation"]
        with _unfinished():
            chosen |= _ask(shown) if interactive else {}
    if not (approve or reject):
        with _unfinished():
            approve = click.confirm("Do you approve it?", err=True)
            notes = notes or click.prompt("Notes", default="", show_default=False, err=True) or None
    body = {"verdict": "approve" if approve else "reject", "evaluation": evaluation, "notes": notes}
    _conclude(api.post(f"{path}/signoff", body | {"preferences": chosen}))


@contextmanager
def _unfinished() -> Iterator[None]:
    """Ctrl-C and the end of the input leave nothing behind; click tells them apart by what it was raised in."""
    try:
        yield
    except click.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise Failure("stopped; nothing was recorded", Exit.DETACHED) from None
        remedy = "Answer on a terminal; or read `refit sheet`, and send --approve or --reject."
        raise Failure("The input has ended; nothing was recorded.", Exit.USAGE, remedy=remedy) from None


def _conclude(standing: Json) -> None:
    emit(standing, _show)
    named = f"version {standing['version']} of {standing['model']}"
    if standing["state"] == "approved":
        say(f"{named} is signed off; once it stands by: refit reload {standing['model']}")


def _show(standing: Json) -> None:
    fields = ("state", "missing", "required", "role", "approvals", "rejections")
    record({name: _listed(standing[name]) for name in fields})


def _listed(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value


def _read(file: Any) -> dict[str, Any]:
    """Raises Failure for what is no mapping of prompts; whether they are on the sheet, the service knows."""
    try:
        told = yaml.load(file, Loader=yaml.BaseLoader)  # noqa: S506 - texts alone, also a prompt of digits
    except (yaml.YAMLError, UnicodeDecodeError):
        told = None
    if not isinstance(told, dict) or not all(choice in CHOICES for choice in told.values()):
        raise Failure(f"{file.name} has no {{PROMPT: A, B or tie}}.", Exit.USAGE)
    return told


def _ask(shown: Mapping[str, Any]) -> dict[str, str]:
    """What is preferred, prompt by prompt. Where there is one answer to each there is nothing to choose."""
    chosen: dict[str, str] = {}
    for place, item in enumerate(shown["prompts"], 1):
        _print(place, len(shown["prompts"]), item)
        if "B" in item["answers"]:
            choice = click.prompt("Which?", type=click.Choice([*CHOICES, SKIP]), default=SKIP, err=True)
            chosen |= {} if choice == SKIP else {item["prompt"]: choice}
    return chosen


def _print(place: int, of: int, item: Mapping[str, Any]) -> None:
    risk = "" if item["risk"] is None else f", risk {item['risk']}"
    say(f"\n{place} of {of}, prompt {item['prompt']}{risk}")
    for message in item["messages"]:
        say(f"{message['role']}: {message['content']}")
    for side, answer in item["answers"].items():
        click.echo(f"\n--- {side}\n{printable(answer)}", err=True)
