from typing import Any

import click

from app.cli.arguments import examples
from app.cli.client import Json, connect, newest_version, version_path
from app.cli.gate_table import figure, show_gate
from app.cli.output import UNKNOWN, as_json, json_option, printable, say, table, wants_json


@click.command(
    epilog=examples(
        "refit evaluation assistant", "refit evaluation assistant 7 --markdown > v7.md", "refit evaluation --job 12"
    )
)
@click.argument("model", required=False)
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--job", type=click.IntRange(1), help="Of this job, which may have left no version.")
@click.option("--samples", type=click.IntRange(0, 10_000), default=5, show_default=True, help="Answers, worst first.")
@click.option("--markdown", is_flag=True, help="As Markdown.")
@json_option
def evaluation(model: str | None, version: int | None, job: int | None, samples: int, markdown: bool) -> None:
    """How VERSION of a language model (else the newest) answered held-out prompts, beside the incumbent."""
    if (model is None) == (job is None):
        raise click.UsageError("One of MODEL and --job.")
    if markdown and wants_json():
        raise click.UsageError("One of --json and --markdown.")
    api = connect()
    if model is None:
        path = f"/training/jobs/{job}/evaluation"
    else:
        path = f"{version_path(api, model, version or newest_version(api, model))}/evaluation"
    if markdown:
        click.echo(api.call("GET", path, params={"format": "md", "samples": samples}).text, nl=False)
        return
    found = api.get(path, format="json", samples=samples)
    if wants_json():
        click.echo(as_json(found))
    else:
        _show(found)


def _show(found: Json) -> None:
    show_gate(found["gate"])
    if found["corpus"]:
        click.echo()
        level = "interval" if found["gate"].get("confidence") is None else f"{100 * found['gate']['confidence']:g} %"
        headers = ("metric", "candidate", level, "incumbent", "delta", level)
        table(headers, [_figures(name, told) for name, told in found["corpus"].items()])
    for row in found["rows"]:
        click.echo(f"\n{printable(row['messages'][-1]['content'])}")
        click.echo(f"  reference  {printable(row['reference'])}")
        for who in ("candidate", "incumbent"):
            if row[who]:
                click.echo(f"  {who}  {printable(row[who]['text'])}")
    for note in found["notes"]:
        say(note)


def _figures(name: str, told: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        figure(told["candidate"]),
        _span(told.get("low"), told.get("high")),
        figure(told.get("incumbent")),
        figure(told.get("delta"), "+"),
        _span(told.get("delta_low"), told.get("delta_high"), "+"),
    )


def _span(low: float | None, high: float | None, sign: str = "") -> str:
    return UNKNOWN if low is None or high is None else f"{figure(low, sign)} to {figure(high, sign)}"
