"""Answers of this model that were logged (`logging.sample`), with what people said of them: accepted, or rejected.

What `POST /feedback` said last of an answer counts. An answer is there for as long as its log is (`logging.keep_days`);
a data version keeps it. Columns: prompt (messages as JSON), completion, accepted, at (when that was said), version,
request, row.
"""

from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field
from sqlalchemy import text

from app.data.chats import ACCEPTED, COMPLETION, PROMPT, ChatOptions
from app.data.sources import Reading, SourceOptions
from app.data.sources._rows import table_of, unify
from app.data.times import decode

NAMES = (PROMPT, COMPLETION, ACCEPTED, "at", "version", "request", "row")
CHUNK = 20_000
# What was said of row n of a request is of its n-th conversation and its n-th answer. The log is proof that the answer
# is ours, so a word about it counts before it has been joined. An answer that says nothing teaches nothing.
JUDGED = """
    FROM prediction_log AS log
    JOIN feedback AS said ON said.request = log.request AND said.model = log.model
    WHERE log.model = :model
      AND said.kind = 'accepted' AND said.state <> 'invalid'
      AND jsonb_typeof(log.rows -> said.row -> 'messages') = 'array'
      AND btrim(log.answers -> 'completions' ->> said.row, E' \\t\\r\\n') <> ''
"""
READ = text(f"""
    SELECT CAST(log.rows -> said.row -> 'messages' AS text), log.answers -> 'completions' ->> said.row,
           said.value = 'true'::jsonb, said.at, log.version, replace(CAST(log.request AS text), '-', ''), said.row
    {JUDGED}
    ORDER BY said.at, log.request, said.row
""")
COUNT = text(f"""
    SELECT count(*) {JUDGED}
      AND (CAST(:since AS timestamptz) IS NULL OR said.at > CAST(:since AS timestamptz))
""")


def _of_the_log() -> ChatOptions:
    return ChatOptions.model_validate({PROMPT: PROMPT, COMPLETION: COMPLETION, ACCEPTED: ACCEPTED})


class Options(SourceOptions):
    source: Literal["feedback"]
    chat: ChatOptions | None = Field(
        default_factory=_of_the_log, description="the columns of conversations, for a language model"
    )
    time: str | None = Field("at", description="when an answer was judged")


async def read(options: Options, reading: Reading) -> pa.Table:  # noqa: ARG001 - what is read is the model's own
    found = await reading.session.stream(READ, {"model": reading.model}, execution_options={"yield_per": CHUNK})
    parts = [("the feedback", _table(part)) async for part in found.partitions()]
    return unify(parts or [("the feedback", _table([]))])


async def count(options: Options, reading: Reading) -> int:
    """Answers that were judged since `reading.since`; where that is no time, beyond the number that it is."""
    since = reading.since
    is_time = since is not None and decode(since)[1] == "moment" and options.time == "at"
    asked = {"model": reading.model, "since": since if is_time else None}
    found = await reading.session.scalar(COUNT, asked) or 0
    return int(found) if since is None or is_time else max(0, int(found) - int(float(since)))


def _table(rows: Sequence[Any]) -> pa.Table:
    return table_of(NAMES, [tuple(row) for row in rows], "the feedback")
