"""What became of answers: truth against prediction, counted as feedback comes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.feedback.tables import AnswerBlock, Feedback, FeedbackCounts
from app.traffic import service as traffic

By = Literal["arrival", "answer"]


@dataclass(frozen=True)
class Outcomes:
    """`confusion` (k, k) int64: rows by truth, columns by prediction, in the order of `labels`; or (k, k + 1), where
    the last column has predictions that are none of them. `head` is the label column, "" where the version never
    answered."""

    head: str
    labels: tuple[Any, ...]
    confusion: npt.NDArray[np.int64]
    accepted: int
    rejected: int

    @property
    def n(self) -> int:
        """Labels that came."""
        return int(self.confusion.sum())


@dataclass(frozen=True)
class Served:
    """What versions of a model gave between two times: by (version, slot), requests and rows."""

    requests: dict[tuple[int, str], int]
    rows: dict[tuple[int, str], int]


async def outcomes(
    session: AsyncSession,
    model: str,
    version: int,
    *,
    head: str | None = None,
    slot: str | None = "active",
    since: datetime | None = None,
    until: datetime | None = None,
    by: By = "arrival",
) -> Outcomes:
    """What is known of a version's answers in `slot` (None: all slots), of one label column (unset: the first).

    [since, until) are whole minutes of the arrival of the truth, at the same cost for any length; or, with
    `by="answer"`, the times at which the answers were given, read from the feedback itself.
    """
    known = list((await traffic.layouts(session, model, version)).values())
    if not known:
        return Outcomes("", (), np.zeros((0, 0), np.int64), 0, 0)
    told = known[-1].told
    # What answers with text has no label columns.
    first = next(iter(told["order"]), "")
    named = head if head is not None else first
    labels = tuple(told["heads"].get(named, {}).get("labels", ()))
    kept = "" if named == first else named
    query = _by_answer(since, until) if by == "answer" else _by_arrival(since, until)
    table: Any = Feedback if by == "answer" else FeedbackCounts
    query = query.where(table.model == model, table.version == version)
    if slot is not None:
        query = query.where(table.slot == slot)
    confusion, votes = np.zeros((len(labels), len(labels)), np.int64), [0, 0]
    for of_head, kind, truth, predicted, n in await session.execute(query):
        if kind == "accepted":
            votes[truth] += int(n)
        elif of_head == kept:
            confusion[truth, predicted] += int(n)
    return Outcomes(named, labels, confusion, votes[1], votes[0])


async def served_between(session: AsyncSession, model: str, since: datetime, until: datetime) -> Served:
    """By the blocks of answers in [since, until): right to the second, for as long as answers are kept. Without a
    shadow's, which nobody was given."""
    query = (
        select(AnswerBlock.version, AnswerBlock.slot, func.sum(AnswerBlock.requests), func.sum(AnswerBlock.rows))
        .where(AnswerBlock.model == model, AnswerBlock.at >= since, AnswerBlock.at < until)
        .where(AnswerBlock.slot != "shadow")
        .group_by(AnswerBlock.version, AnswerBlock.slot)
    )
    found = [
        (version, slot, int(requests), int(rows)) for version, slot, requests, rows in await session.execute(query)
    ]
    return Served({(v, slot): n for v, slot, n, _ in found}, {(v, slot): n for v, slot, _, n in found})


def _by_arrival(since: datetime | None, until: datetime | None) -> Select[Any]:
    of = FeedbackCounts
    columns: tuple[Any, ...] = (of.head, of.kind, of.truth, of.predicted)
    grouped = select(*columns, func.sum(of.n)).group_by(*columns)
    minute = None if since is None else since.replace(second=0, microsecond=0)
    return _between(grouped, of.at, minute, until)


def _by_answer(since: datetime | None, until: datetime | None) -> Select[Any]:
    of = Feedback
    columns: tuple[Any, ...] = (of.head, of.kind, of.truth, of.predicted)
    grouped = select(*columns, func.count()).where(of.state == "joined").group_by(*columns)
    return _between(grouped, of.answered_at, since, until)


def _between(query: Select[Any], at: Any, since: datetime | None, until: datetime | None) -> Select[Any]:
    if since is not None:
        query = query.where(at >= since)
    return query if until is None else query.where(at < until)
