import click

from app.cli.arguments import examples, model_argument
from app.cli.client import Json, connect
from app.cli.failures import Exit, Failure
from app.cli.output import emit, json_option, say, table, wants_json


@click.command(epilog=examples("refit prerequisites fraud", "refit prerequisites fraud --json | jq .admitted"))
@model_argument
@json_option
def prerequisites(model: str | None) -> None:
    """Every check that a trigger would meet now, with its figure; exit code 1 where it would be refused."""
    found = connect().get("/training/prerequisites", model=model)
    refused = Failure(f"A trigger of {found['model']} would be refused.", Exit.ERROR, document=found)
    if found["admitted"] or not wants_json():
        emit(found, _show)
    if not found["admitted"]:
        raise refused
    if not found["admitted_automatically"]:
        say("an automatic trigger would be refused")


def _show(found: Json) -> None:
    headers = ("check", "", "found", "required", "binds", "")
    rows = [
        (c["code"], "ok" if c["passed"] else _failed(c), c["value"], c["required"], c["binds"], c["message"])
        for c in found["checks"]
    ]
    table(headers, rows)
    for check in found["checks"]:
        if not check["passed"]:
            say(f"{check['code']}: {check['remedy']}")


def _failed(check: Json) -> str:
    """What binds nobody is shown as a warning."""
    return "warn" if check["binds"] == "nobody" else "fail"
