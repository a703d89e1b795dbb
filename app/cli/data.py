import uuid
from pathlib import Path
from typing import Any

import click

from app.cli.arguments import examples, limit_option, model_argument, waiting_options
from app.cli.client import Api, Json, connect, resolved
from app.cli.failures import Exit, Failure
from app.cli.following import conclude, wait_for
from app.cli.output import emit, json_option, record, say, table, told, wants_json

# The files of the runbooks, by the side of the split that they hold.
FILES = {
    "splits": {"train": "train.jsonl", "validation": "validation.jsonl", "holdout": "test.jsonl"},
    "sft": {"train": "train_sft.jsonl", "validation": "val_sft.jsonl"},
}
MOST_LABELS = 100
PATIENCE_SECONDS = 5.0
EXPORT_SECONDS = 600.0

version_option = click.option(
    "--data-version", default="latest", show_default=True, help="latest, or the digest of a data version."
)


@click.group()
def data() -> None:
    """Data versions: the rows that models are trained on and judged by."""


@data.command(epilog=examples("refit data take fraud --wait"))
@model_argument
@waiting_options(("-w", "--wait"), "Follow the job until the data version is there.")
@json_option
def take(model: str | None, wait: bool, timeout: float | None) -> None:
    """Read MODEL's source and keep its rows as a data version; train nothing.

    Preferences are a data version of their own, which a dry run and a training take: refit trigger MODEL --dry-run,
    then refit data list MODEL --role preference.
    """
    _trigger({"model": model, "stages": ["snapshot"]}, wait, timeout)


@data.command(
    epilog=examples(
        "refit data label news --all --model qwen3:32b --wait",
        "refit data label news --url http://localhost:11434 --api ollama --model qwen3:32b --prompt LABELING_PROMPT.md",
    )
)
@model_argument
@click.option("--all/--unlabelled", "every", default=None, help="Every row, or those without a label.  [as defined]")
@click.option("--model", "language_model", help="The language model.  [that of the definition]")
@click.option("--url", help="Where it is.")
@click.option("--api", type=click.Choice(["openai", "ollama"]), help="What it speaks.")
@click.option("--key", help="env:NAME, the environment variable of the workers that has its key.")
@click.option("--prompt", type=click.File(encoding="utf-8"), help="A file with what it is told before each text.")
@click.option("--concurrency", type=click.IntRange(1), help="Requests at once.")
@click.option("--data-version", default="latest", show_default=True, help="Label this one, not a new one.")
@waiting_options(("-w", "--wait"), "Follow the job until the labels are there.")
@json_option
def label(
    *,
    model: str | None,
    every: bool | None,
    language_model: str | None,
    prompt: Any,
    data_version: str,
    wait: bool,
    timeout: float | None,
    **options: Any,
) -> None:
    """Let a language model label MODEL's texts: a new data version, and how far it agrees with the labels before.

    What the definition says under `label` holds where no option says otherwise. Answers are kept, so a job that was
    stopped goes on where it was, and only new texts cost anything.
    """
    rows = None if every is None else "all" if every else "unlabelled"
    told = {**options, "model": language_model, "prompt": prompt.read() if prompt else None, "rows": rows}
    given = {name: value for name, value in told.items() if value is not None}
    job = _trigger({"model": model, "stages": ["label"], "label": given, "data_version": data_version}, wait, timeout)
    if job is not None and not wants_json():
        _show_agreement(connect().get(f"/data/versions/{job['model']}/{job['data_version']}"))


@data.command("list", epilog=examples("refit data list news", "refit data list helpdesk --role any"))
@model_argument
@click.option(
    "--role",
    type=click.Choice(["training", "preference", "any"]),
    default="training",
    show_default=True,
    help="What the rows are for.",
)
@limit_option
@json_option
def list_versions(model: str | None, role: str, limit: int) -> None:
    """Data versions, newest first."""
    headers = ("model", "data version", "role", "rows", "train", "validation", "holdout", "labelled by", "created")
    emit(connect().pages("/data/versions", limit, model=model, role=role), lambda rows: table(headers, map(_row, rows)))


@data.command(epilog=examples("refit data show news", "refit data show news --data-version 3f9a1c --json"))
@model_argument
@version_option
@json_option
def show(model: str | None, data_version: str) -> None:
    """One data version: its rows and labels, what was left out, and who gave the labels."""
    api = connect()
    emit(api.get(f"/data/versions/{resolved(api, model)}/{data_version}"), _show)


@data.command(
    epilog=examples("refit data export news --to data/final", "refit data export questions --to data --format sft")
)
@model_argument
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="Made if missing."
)
@version_option
@click.option(
    "--format",
    "format",
    type=click.Choice(list(FILES)),
    default="splits",
    show_default=True,
    help="splits: train, validation, test.jsonl. sft: train_sft, val_sft.jsonl.",
)
@json_option
def export(model: str | None, folder: Path, data_version: str, format: str) -> None:
    """Write a data version's rows as JSON lines, a file for each side of the split: the same files each time."""
    api = connect()
    name = resolved(api, model)
    version = api.get(f"/data/versions/{name}/{data_version}")
    digest, columns = version["digest"], {column["name"] for column in version["columns"]}
    if format == "sft" and not ({"question", "answer"} <= columns or {"prompt", "completion"} <= columns):
        remedy = "Define the model with data.source: qa_pairs or with data.chat, or leave --format out."
        raise Failure(f"The rows of {name} are no questions and answers.", Exit.USAGE, remedy=remedy)
    folder.mkdir(parents=True, exist_ok=True)
    written = {file: _write(api, name, digest, side, folder / file) for side, file in FILES[format].items()}
    emit(
        {"data_version": digest, "files": {str(folder / file): rows for file, rows in written.items()}},
        lambda answer: table(("file", "rows"), answer["files"].items()),
    )
    say(f"data version {digest[:12]} of {name}")


def _write(api: Api, model: str, digest: str, side: str, path: Path) -> int:
    """How many rows. The file is there whole or not at all."""
    response = api.call(
        "GET", f"/data/versions/{model}/{digest}/rows", params={"side": side}, answer_seconds=EXPORT_SECONDS
    )
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        partial.write_bytes(response.content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Failure(f"{path} cannot be written: {error.strerror}.", Exit.USAGE) from None
    return response.content.count(b"\n")


def _trigger(body: Json, wait: bool, timeout: float | None) -> Json | None:
    """The job's end, where it was waited for."""
    api = connect()
    key = {"Idempotency-Key": str(uuid.uuid4())}
    job = api.post("/training/trigger", body, headers=key, patience=PATIENCE_SECONDS)
    say(f"job {job['job_id']} for {job['model']}: {job['outcome']}")
    for warning in job["warnings"]:
        say(f"warning: {warning}")
    if not wait:
        emit(job, lambda answer: click.echo(answer["job_id"]))
        say(f"follow it: refit status -w --job {job['job_id']}")
        return None
    ended = wait_for(api, job["job_id"], timeout)
    conclude(ended)
    return ended


def _row(version: Json) -> tuple[Any, ...]:
    counts = version["counts"]
    return (
        version["model"],
        version["digest"][:12],
        version["role"],
        version["rows"],
        counts["train"],
        counts["validation"],
        counts["holdout"],
        (version["labelling"] or {}).get("model"),
        version["created_at"],
    )


def _show(version: Json) -> None:
    fields = {
        "data version": f"{version['digest']} of {version['model']}",
        "role": version["role"],
        "rows": f"{version['rows']}: {_counts(version['counts'])}",
        "left out": _counts(version["dropped"]),
        "texts": _counts(version["texts"]) if version["texts"] else None,
        **_labels(version["labels"]),
        "columns": ", ".join(column["name"] for column in version["columns"]),
        "created": version["created_at"],
    }
    record({name: value for name, value in fields.items() if value is not None})
    if version["labelling"]:
        click.echo()
        _show_agreement(version)


def _labels(counted: list[Json]) -> Json:
    """A line for each label column; of free texts, how many there are."""
    columns: dict[str, list[str]] = {}
    for each in counted:
        columns.setdefault(each["column"], []).append(f"{each['label']} {each['rows']}")
    return {
        name: ", ".join(told) if len(told) <= MOST_LABELS else f"{len(told)} or more values"
        for name, told in columns.items()
    }


def _counts(counts: Json) -> str:
    return ", ".join(f"{told(count)} {name.replace('_', ' ')}" for name, count in counts.items())


def _show_agreement(version: Json) -> None:
    labelling = version["labelling"]
    say(f"labelled by {labelling['model']}, prompt {labelling['prompt_sha256'][:12]}: {labelling['asked']} requests")
    for column, found in labelling["agreement"].items():
        kappa = "" if found["kappa"] is None else f", kappa {found['kappa']:.3f}"
        click.echo(f"{column}: {found['same']} of {found['compared']} labels as before{kappa}")
        rows = [(label, n["before"], n["after"], n["both"]) for label, n in found["labels"].items()]
        table(("label", "before", "after", "both"), rows)
        for each in found.get("disagreements", ())[:10]:
            click.echo(f"  {each['before']} → {each['after']}: {each['text'][:100]}")
