import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from app.cli.arguments import examples, file_argument, model_option
from app.cli.client import ANSWER_SECONDS, Api, Json, connect, resolved
from app.cli.failures import Exit, Failure
from app.cli.output import json_option, say, wants_json
from app.cli.rows import Format, Row, Written, format_of, read_rows, write_rows

BATCH = 1_000
# Of prompts: each is answered in seconds, or in minutes.
PROMPTS, PROMPT_SECONDS = 16, 3_600.0
# Predicting twice does no harm, so a replica that restarts meanwhile is asked again.
PATIENCE_SECONDS = 5.0


@click.command(
    epilog=examples(
        "refit predict transactions.csv > predicted.csv",
        "refit predict rows.jsonl --only-predictions | jq .score",
        "refit predict new.csv --slot standby      # the version that waits",
    )
)
@file_argument
@model_option
@click.option("--slot", type=click.Choice(["active", "standby"]), default="active", show_default=True)
@click.option("--format", "format", type=click.Choice(["csv", "jsonl", "json"]), help="What FILE is.  [by its suffix]")
@click.option("--output", type=click.Choice(["csv", "jsonl"]), help="What is written.  [csv for csv, else jsonl]")
@click.option("--only-predictions", is_flag=True, help="Leave the input's columns out.")
@json_option
def predict(
    file: Path, model: str | None, slot: str, format: Format | None, output: Written | None, only_predictions: bool
) -> None:
    """Predict the rows of FILE (- is stdin) and write them with a score and a label to stdout, or with an answer.

    Columns go by name; those that the definition gives another part (label, key, time, ignored) are not sent.
    --json is --output jsonl.
    """
    api = connect()
    format = format or format_of(file)
    roles = _roles(api, model)
    rows = read_rows(file, format, roles.get("categorical", ()))
    written: Written = "jsonl" if wants_json() else output or ("csv" if format == "csv" else "jsonl")
    kept = rows.read if written == "csv" else rows.values
    if only_predictions:
        kept = [{}] * len(kept)
    _check_names(kept[0], ("score", "label") if roles.get("chat") is None else ("answer", "finish_reason"))
    predicted = _predicted(api, rows.values, roles, {"model": model, "slot": slot}, str(file))
    write_rows((_joined(row, answer) for row, answer in zip(kept, predicted, strict=True)), written)


def _predicted(api: Api, rows: Sequence[Row], roles: Mapping[str, Any], asked: Json, name: str) -> Iterator[Json]:
    """The score and the label of every row; who answered is told at the end."""
    started, versions = time.monotonic(), {}
    chat = roles.get("chat")
    instances = _features(rows, roles) if chat is None else [_prompt(row, chat) for row in rows]
    size, seconds = (BATCH, ANSWER_SECONDS) if chat is None else (PROMPTS, PROMPT_SECONDS)
    for start in range(0, len(rows), size):
        batch = instances[start : start + size]
        try:
            answer = api.post(
                "/predict/batch", {**asked, "instances": batch}, patience=PATIENCE_SECONDS, answer_seconds=seconds
            )
        except Failure as failure:
            raise failure.within(f"Rows {start} to {start + len(batch) - 1} of {name}") from None
        versions[answer["version"]] = answer["generation"]
        yield from _told(answer)
    told = ", then ".join(f"version {version} (generation {n})" for version, n in versions.items())
    say(f"{len(rows)} rows by {told} in {time.monotonic() - started:.2f} s")


def _told(answer: Json) -> Iterator[Json]:
    """Of several label columns each stands under its own name, the first also as it would alone."""
    if "completions" in answer:
        told = zip(answer["completions"], answer["finish_reasons"], strict=True)
        return ({"answer": text, "finish_reason": reason} for text, reason in told)
    columns = {"score": answer["scores"], "label": answer["labels"]}
    for name, head in answer.get("heads", {}).items():
        columns |= {f"{name}_score": head["scores"], f"{name}_label": head["labels"]}
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _roles(api: Api, model: str | None) -> Mapping[str, Any]:
    """What the definition says of the columns; nothing to a key that may only predict."""
    try:
        roles: Json = api.get(f"/models/{resolved(api, model)}")["definition"]["data"]
    except Failure as failure:
        if failure.exit != Exit.NOT_ALLOWED:
            raise
        return {}
    return roles


def _features(rows: Sequence[Row], roles: Mapping[str, Any]) -> list[Row]:
    """The rows with the columns that are features; rows that are lists are sent as they are."""
    named = {name: None for row in rows if isinstance(row, dict) for name in row}
    label = roles.get("label")
    labels = label if isinstance(label, list) else [label]
    others = {*labels, roles.get("key"), roles.get("time"), *roles.get("ignore", ())}
    features = (roles.get("text") or {}).get("columns") or roles.get("features") or named
    left_out = {name for name in named if name in others or name not in features}
    if left_out:
        say(f"not sent, for they are no features: {', '.join(name for name in named if name in left_out)}")
    return [
        {name: value for name, value in row.items() if name not in left_out} if isinstance(row, dict) else row
        for row in rows
    ]


def _prompt(row: Row, chat: Mapping[str, Any]) -> Row:
    """What is asked, by the definition's column of it; a row that has none is sent as it is."""
    column = chat.get("prompt")
    if not isinstance(row, dict) or column not in row:
        return row
    return {"prompt" if isinstance(row[column], str) else "messages": row[column]}


def _joined(row: Row, predicted: Json) -> Json:
    return (row if isinstance(row, dict) else {"text": row} if isinstance(row, str) else {}) | predicted


def _check_names(row: Row, names: Sequence[str]) -> None:
    taken = [name for name in names if name in row] if isinstance(row, dict) else []
    if taken:
        raise Failure(
            f"The rows have a column {taken[0]} already.",
            Exit.USAGE,
            remedy="Write the predictions alone with --only-predictions, or rename it.",
        )
