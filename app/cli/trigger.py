import json
import shlex
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import click
import yaml

from app.cli.arguments import examples, model_argument, waiting_options
from app.cli.client import connect
from app.cli.following import conclude, wait_for
from app.cli.output import emit, json_option, say
from app.cli.progress import Job

# The key makes the call safe to repeat, so a service that restarts meanwhile is asked again.
PATIENCE_SECONDS = 5.0


def _params(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """`name=value` pairs, the values typed as in YAML."""
    params: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE.")
        try:
            params[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise click.BadParameter(f"the value of {name} is not YAML.") from None
    return params


@click.command(
    epilog=examples(
        "refit trigger fraud --wait",
        "refit trigger fraud -p optuna_trials=20 -p 'families=[mlp]' --note 'after the price change'",
        "refit trigger fraud --dry-run",
        "refit trigger assistant --confirm 12-0123456789ab --wait",
        "refit trigger assistant --stage evaluate --stage publish --from-job 12",
    )
)
@model_argument
@click.option("--data-version", default="latest", show_default=True, help="latest, or the digest of a data version.")
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    callback=_params,
    metavar="NAME=VALUE",
    help="Laid over the definition's training.",
)
@click.option(
    "--strategy",
    type=click.Choice(["full", "incremental", "pull"]),
    help="incremental: start from the active version; pull: fetch one.  [the definition's]",
)
@click.option("--priority", type=click.Choice(["high", "normal"]), default="normal", show_default=True)
@click.option("--reason", help="Why; kept with the job.")
@click.option("--note", help="Anything else; kept with the job.")
@click.option("--force", is_flag=True, help="Skip the prerequisites: for operators, with --reason.")
@click.option("--stage", "stages", multiple=True, help="Only this stage of the type, on what an earlier job has left.")
@click.option("--from-job", type=click.IntRange(1), help="Whose checkpoints the stages go on from.  [the newest]")
@click.option("--confirm", metavar="TOKEN", help="The token that a dry run has ended with.")
@click.option("--idempotency-key", help="The same key gets the same job.  [a new one]")
@click.option("--dry-run", is_flag=True, help="Train nothing: wait for the plan and its estimated cost.")
@waiting_options(("-w", "--wait"), "Follow the job, and end with the gate's table.")
@json_option
def trigger(*, dry_run: bool, idempotency_key: str | None, wait: bool, timeout: float | None, **asked: Any) -> None:
    """Ask for a training of MODEL, which may be left out where there is only one.

    An equal job that is open already is joined, not doubled. With --wait the exit code tells the end: 0 the
    candidate passed the gate, 3 the job failed, 4 the gate refused, 8 it still runs after --timeout seconds. A costly
    training needs two steps: --dry-run ends with the command that trains what it has planned.
    """
    body = asked | {"stages": list(asked["stages"]) or None}
    api = connect()
    key = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    answer: Job = api.post("/training/trigger", {**body, "dry_run": dry_run}, headers=key, patience=PATIENCE_SECONDS)
    _tell(answer)
    if wait or dry_run:
        ended = wait_for(api, answer["job_id"], timeout)
        conclude(ended)
        _tell_next(ended, asked)
    else:
        emit(answer, lambda job: click.echo(job["job_id"]))
        say(f"follow it: refit status -w --job {answer['job_id']}")


def _tell_next(planned: Job, asked: Mapping[str, Any]) -> None:
    """The command that trains what was planned, word for word."""
    if planned["confirmation"] is None:
        return
    words = ["refit", "trigger", planned["model"]]
    for flag, value in _flags(asked):
        words += [flag, value]
    say(f"to train it: {shlex.join([*words, '--confirm', planned['confirmation'], '--wait'])}")


def _flags(asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What decides what is trained; why it is trained may be said anew."""
    yield from (("-p", f"{name}={json.dumps(value)}") for name, value in asked["params"].items())
    yield from (("--stage", name) for name in asked["stages"])
    if asked["data_version"] != "latest":
        yield "--data-version", asked["data_version"]
    if asked["strategy"]:
        yield "--strategy", asked["strategy"]
    if asked["from_job"]:
        yield "--from-job", str(asked["from_job"])


def _tell(answer: Job) -> None:
    outcomes = {
        "accepted": "accepted",
        "replayed": "was asked for before, with this idempotency key",
        "coalesced": "is open already and equal: joined",
    }
    say(f"job {answer['job_id']} for {answer['model']}: {outcomes[answer['outcome']]}")
    for warning in answer["warnings"]:
        say(f"warning: {warning}")
