"""`refit chat`: one question to a language model, answered on the terminal as it is written."""

import json
import sys
from collections.abc import Iterator

import click
import httpx

from app.cli.arguments import Number, examples
from app.cli.client import Api, Json, connect
from app.cli.failures import Exit, Failure
from app.cli.output import emit, json_option, printable, say, wants_json

# The service bounds an answer by itself (REFIT_ANSWER_SECONDS).
ANSWER_SECONDS = 3_600.0


@click.command(
    epilog=examples(
        'refit chat qa "What is the capital of Peru?"',
        "refit chat qa < question.txt",
        'refit chat qa "…" --slot standby --json      # the version that waits, before its reload',
    )
)
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--system", help="A system prompt in place of the version's own.")
@click.option("--temperature", type=Number(min=0, max=2), help="0 is greedy.  [the version's]")
@click.option("--max-tokens", type=click.IntRange(1), help="The answer is cut there.  [the version's]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1))
@click.option("--slot", type=click.Choice(["active", "standby"]), default="active", show_default=True)
@json_option
def chat(
    model: str,
    prompt: str | None,
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    seed: int | None,
    slot: str,
) -> None:
    """Ask MODEL one thing: PROMPT, or what stands on stdin. The answer goes to stdout as it comes.

    Standby answers as its version's card says: --temperature, --max-tokens and --seed are for active.
    """
    sampling = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    messages = [{"role": "user", "content": prompt if prompt is not None else _stdin()}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    if slot == "standby":
        _ask_standby(connect(), model, messages, [name for name, value in sampling.items() if value is not None])
        return
    asked = {"model": model, "messages": messages} | sampling
    if wants_json():
        emit(connect().post("/v1/chat/completions", asked, answer_seconds=ANSWER_SECONDS), lambda _: None)
        return
    _show(_events(connect(), {name: value for name, value in asked.items() if value is not None}))


def _ask_standby(api: Api, model: str, messages: list[Json], said: list[str]) -> None:
    if said:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        raise Failure(f"Standby answers as its card says; leave {named} out.", Exit.USAGE)
    body = {"model": model, "slot": "standby", "instances": [{"messages": messages}]}
    answer = api.post("/predict/batch", body, answer_seconds=ANSWER_SECONDS)
    emit(answer, lambda told: click.echo(_safe(told["completions"][0])))
    _tell(f"v{answer['version']}-g{answer['generation']} (standby)", answer["request_id"], answer["finish_reasons"][0])


def _show(events: Iterator[Json]) -> None:
    fingerprint, id, reason = "", "", None
    for event in events:
        fingerprint, id = event["system_fingerprint"], event["id"]
        for choice in event["choices"]:
            click.echo(_safe(choice["delta"].get("content") or ""), nl=False)
            reason = choice["finish_reason"] or reason
        sys.stdout.flush()
    click.echo()
    _tell(fingerprint, id, reason)


def _tell(fingerprint: str, request: str, reason: str | None) -> None:
    cut = ", cut at its longest" if reason == "length" else ""
    say(f"by {fingerprint}{cut}; request {request}")


def _events(api: Api, asked: Json) -> Iterator[Json]:
    """Raises Failure with what the service says, before the answer or in the middle of it."""
    with api.stream("POST", "/v1/chat/completions", ANSWER_SECONDS, json=asked | {"stream": True}) as response:
        try:
            for line in response.iter_lines():
                told = line.removeprefix("data:").strip()
                if told == "[DONE]":
                    return
                if line.startswith("data:"):
                    yield _event(json.loads(told))
        except httpx.TransportError as error:
            raise Failure(f"The answer was cut off ({error}).", Exit.UNREACHABLE) from None
    raise Failure("The answer ended before it was whole.", Exit.UNREACHABLE)


def _event(told: Json) -> Json:
    if "error" in told:
        click.echo()
        raise Failure(told["error"]["message"], Exit.UNREACHABLE)
    return told


def _safe(text: str) -> str:
    """An answer may have lines; nothing in it steers the terminal."""
    return "\n".join(map(printable, text.split("\n")))


def _stdin() -> str:
    if sys.stdin.isatty():
        raise Failure("There is no prompt.", Exit.USAGE, remedy="Write it behind the model, or to stdin.")
    prompt = sys.stdin.read()
    if not prompt.strip():
        raise Failure("The prompt is empty.", Exit.USAGE, remedy="Write it behind the model, or to stdin.")
    return prompt
