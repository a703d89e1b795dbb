import tarfile
from io import BytesIO
from pathlib import Path

import click

from app.cli.arguments import examples, job_argument
from app.cli.client import Json, connect, version_path
from app.cli.documents import document, out_option, write
from app.cli.failures import Exit, Failure
from app.cli.output import emit, json_option, say, table, wants_json

ARCHIVES = (".tar.gz", ".tgz")


@click.command(epilog=examples("refit record 12", "refit record 12 --json", "refit record 12 --out change-12.md"))
@job_argument
@click.option("--markdown", is_flag=True, help="As Markdown; this is the default.")
@out_option
@json_option
def record(job: int, markdown: bool, out: Path | None) -> None:
    """The change record of a retraining: data, definition, evaluation, approvals, swap, and what became of it."""
    if markdown and wants_json():
        raise click.UsageError("One of --json and --markdown.")
    document(connect(), f"/training/jobs/{job}/record", out)


@click.command("release-notes", epilog=examples("refit release-notes fraud", "refit release-notes fraud 7 --out v7.md"))
@click.argument("model")
@click.argument("version", type=click.IntRange(1), required=False)
@out_option
@json_option
def release_notes(model: str, version: int | None, out: Path | None) -> None:
    """The release notes of VERSION, or of what stands by, else of the newest: as Markdown, or with --json."""
    api = connect()
    document(api, f"{version_path(api, model, version)}/release-notes", out)


@click.command(epilog=examples("refit archive 12 --to job-12.tar.gz", "refit archive 12 --to /mnt/secure"))
@job_argument
@click.option("--to", type=click.Path(path_type=Path), required=True, help="A .tar.gz, or a folder to unpack into.")
@json_option
def archive(job: int, to: Path) -> None:
    """Logs, curves, events, change record, definition and evaluation of a job, to be kept elsewhere; no weights."""
    packed = connect().call("GET", f"/training/jobs/{job}/archive").content
    if to.name.endswith(ARCHIVES):
        write(to, packed)
    else:
        to = _unpack(packed, to)
    emit({"job_id": job, "path": str(to), "bytes": len(packed)}, lambda told: click.echo(told["path"]))


@click.group()
def retention() -> None:
    """What is kept for how long; REFIT_RETAIN_… say so. The record and every version's row are kept for ever."""


@retention.command(epilog=examples("refit retention run --dry-run", "refit retention run --reason 'the disk is full'"))
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--reason", help="Why; kept in the record.")
@json_option
def run(dry_run: bool, reason: str | None) -> None:
    """Throw away now what the hourly chore would."""
    found = connect().post("/retention/run", {"dry_run": dry_run, "reason": reason})
    emit(found, _show)
    say("this would go; nothing was changed" if dry_run else "gone")


def _show(found: Json) -> None:
    listed = ("checkpoints", "staging", "artifacts", "evaluations", "versions")
    rows = [
        ("log lines", found["log_lines"], f"of {len(found['jobs'])} jobs"),
        ("metric points", found["metric_points"], f"of {len(found['jobs'])} jobs"),
        *((name, len(found[name]), ", ".join(str(each)[:12] for each in found[name])) for name in listed),
    ]
    table(("what", "how many", "which"), rows)


def _unpack(packed: bytes, folder: Path) -> Path:
    try:
        with tarfile.open(fileobj=BytesIO(packed)) as tar:
            tar.extractall(folder, filter="data")
            return folder / tar.getnames()[0].split("/")[0]
    except OSError as error:
        raise Failure(f"{folder} cannot be written: {error.strerror}.", Exit.USAGE) from None
