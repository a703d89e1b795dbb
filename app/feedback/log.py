"""Requests that are kept as they came, with their answers, where a definition asks for a share of them."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import clock, seconds
from app.feedback.tables import PredictionLog
from app.runtimes import Batch, Prediction
from app.runtimes.chat import Conversation
from app.runtimes.schema import InputSchema
from app.traffic.layout import kept

DAY_SECONDS = 86_400
DEFAULT_DAYS = 7.0
# Of a request with more rows its first ones are kept.
MOST_ROWS = 100
# What is longer, with its answers, is not kept at all: half a conversation would be another one.
MOST_CHARACTERS = 100_000


class Entry(NamedTuple):
    model: str
    version: int
    generation: int
    slot: str
    request: uuid.UUID
    rows: list[Any]
    answers: dict[str, Any]


def entry_of(
    key: Mapping[str, Any], schema: InputSchema, request: str, batch: Batch, predictions: Sequence[Prediction]
) -> Entry:
    """`key` is model, version, generation and slot. Rows are objects by column; a text is {"text": …}."""
    answers = {
        kept(head.name): {
            "scores": prediction.scores[:MOST_ROWS].tolist(),
            "labels": [kept(label) for label in prediction.labels(head)[:MOST_ROWS]],
        }
        for head, prediction in zip(schema.heads, predictions, strict=True)
    }
    return Entry(**key, request=uuid.UUID(request), rows=_rows(schema, batch), answers=answers)


class Exchange(NamedTuple):
    """Conversations, and the text that each was answered with."""

    conversations: Sequence[Conversation]
    completions: Sequence[str]

    @property
    def is_short(self) -> bool:
        asked = sum(len(message["content"]) for each in self.conversations for message in each)
        return asked + sum(map(len, self.completions)) <= MOST_CHARACTERS


def entry_of_texts(key: Mapping[str, Any], request: str, exchange: Exchange) -> Entry:
    """`key` as in `entry_of`. Rows are {messages: [{role, content}]}, answers {completions: [text]}, in their order."""
    rows = [
        {"messages": [{"role": message["role"], "content": kept(message["content"])} for message in conversation]}
        for conversation in exchange.conversations[:MOST_ROWS]
    ]
    answers = {"completions": [kept(text) for text in exchange.completions[:MOST_ROWS]]}
    return Entry(**key, request=uuid.UUID(request), rows=rows, answers=answers)


async def keep_log(session: AsyncSession, entries: Sequence[Entry], days: Mapping[str, float]) -> None:
    """`days` by model are how long they are kept."""
    for entry in entries:
        keep_until = clock() + seconds(days.get(entry.model, DEFAULT_DAYS) * DAY_SECONDS)
        await session.execute(insert(PredictionLog).values(**entry._asdict(), keep_until=keep_until))


async def list_log(session: AsyncSession, model: str, *, after: int | None, limit: int) -> Sequence[PredictionLog]:
    """Newest first; one more than `limit`."""
    query = select(PredictionLog).where(PredictionLog.model == model).order_by(PredictionLog.id.desc())
    if after is not None:
        query = query.where(PredictionLog.id < after)
    return (await session.scalars(query.limit(limit + 1))).all()


async def prune_log(session: AsyncSession) -> None:
    await session.execute(delete(PredictionLog).where(PredictionLog.keep_until < clock()))


def _rows(schema: InputSchema, batch: Batch) -> list[dict[str, Any]]:
    if batch.texts is not None:
        return [{"text": kept(text)} for text in batch.texts[:MOST_ROWS]]
    numbers = batch.numeric[:MOST_ROWS].astype(object)
    numbers[np.isnan(batch.numeric[:MOST_ROWS])] = None
    names = batch.categorical[:MOST_ROWS].tolist()
    rows = []
    for numeric, categorical in zip(numbers.tolist(), names, strict=True):
        row = dict(zip(schema.numeric, numeric, strict=True))
        row |= {name: value or None for name, value in zip(schema.categorical, categorical, strict=True)}
        rows.append({kept(column.name): kept(row[column.name]) for column in schema.columns})
    return rows
