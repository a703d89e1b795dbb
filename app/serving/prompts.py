"""`/predict/batch` of a version that answers with text: instances → conversations → completions."""

import asyncio
from collections.abc import Iterator, Sequence

import orjson
from starlette.types import Receive

from app.errors import Invalid, RefitError
from app.express import Answer
from app.http import Headers
from app.runtimes.chat import Completion, Message, Sampling
from app.serving.plane import Serving, TookTooLong, give_up
from app.serving.target import Asked
from app.serving.texts import Turn

AS_THE_CARD_SAYS = Sampling()


async def complete(serving: Serving, asked: Asked, began: float, receive: Receive) -> Answer:
    """Every row by one version, as many side by side as it writes at once. One that cannot be answered fails all.

    Raises what Upstreams.open raises, naming the row; Leaving, TookTooLong, ClientDisconnect.
    """
    turn, rows = Turn.of(serving, asked.target, began), asked.conversations or []
    try:
        completions = await serving.attendance.attend(receive, _completed(turn, rows), None)
    except RefitError as error:
        turn.failed(error)
        raise
    request = turn.answered(rows, [completion.text for completion in completions])
    headers: Headers = [(b"content-type", b"application/json"), (b"x-request-id", request.encode())]
    if not serving.replica.has_lease:
        headers.append((b"x-model-stale", b"true"))
    return Answer(200, headers, _body(turn, request, completions))


async def _completed(turn: Turn, rows: Sequence[list[Message]]) -> list[Completion]:
    answers: dict[int, Completion] = {}
    waiting = iter(enumerate(rows))
    at_once = min(len(rows), turn.generator.at_once)
    writers = [asyncio.create_task(_write(turn, waiting, answers)) for _ in range(at_once)]
    try:
        await asyncio.gather(*writers)
    finally:
        await give_up(writers)
        # As in Attendance.attend; a group's error and the one in it would hold each other, too.
        del writers
    return [answers[row] for row in range(len(rows))]


async def _write(turn: Turn, waiting: Iterator[tuple[int, list[Message]]], answers: dict[int, Completion]) -> None:
    for row, conversation in waiting:
        try:
            async with asyncio.timeout(turn.serving.settings.answer_seconds):
                _, answers[row] = await turn.whole(conversation, AS_THE_CARD_SAYS, {})
        except TimeoutError:
            raise TookTooLong from None
        except Invalid as error:
            details = error.details | {"errors": [{"row": row, "column": None, "message": error.message}]}
            raise Invalid(f"Row {row}: {error.message}", code=error.code, remedy=error.remedy, **details) from None


def _body(turn: Turn, request: str, completions: Sequence[Completion]) -> bytes:
    return orjson.dumps(
        {
            "model": turn.key.model,
            "version": turn.key.version,
            "generation": turn.key.generation,
            "slot": turn.slot,
            "request_id": request,
            "completions": [completion.text for completion in completions],
            "finish_reasons": [completion.finish_reason for completion in completions],
            "usage": {
                "prompt_tokens": sum(completion.prompt_tokens for completion in completions),
                "completion_tokens": sum(completion.completion_tokens for completion in completions),
            },
        }
    )
