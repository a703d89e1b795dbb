"""Which labels an answer had, in a few bytes: a block holds a second of answers, a request id says where in it.

A request id is 32 hexadecimal digits: eight bytes name the block, four the request in it, and four vouch for those, so
that a digit that was mistyped is noticed.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.feedback.mirrored import KEEP_PAIRS, Pairs

LAST_WORD = 2**32 - 1
# Knuth's multiplier: consecutive numbers are spread over all 32 bits, and each bit of the number reaches the result.
SPREAD = 2_654_435_761

KEEP = text("""
    INSERT INTO answer_blocks (
        block, checksum, model, version, generation, slot, layout, requests, rows, width, offsets, labels)
    VALUES (
        :block, :checksum, :model, :version, :generation, :slot, :layout, :requests, :rows, :width, :offsets, :labels)
    ON CONFLICT DO NOTHING
""")
# A shadow's ids are never told; who sends one all the same speaks of no answer.
FIND = text("""
    SELECT asked.place, block.model, block.version, block.slot, block.layout, block.checksum, block.requests,
           CASE WHEN block.offsets IS NULL OR asked.number >= block.requests THEN NULL
                ELSE substring(block.offsets FROM CAST(asked.number * 4 + 1 AS int) FOR 8) END,
           block.rows, block.width, block.at
    FROM unnest(CAST(:blocks AS bigint[]), CAST(:numbers AS bigint[])) WITH ORDINALITY AS asked (block, number, place)
    JOIN answer_blocks AS block ON block.block = asked.block AND block.slot <> 'shadow'
""")
LABELS = text("""
    SELECT asked.place, substring(block.labels FROM CAST(asked.first + 1 AS int) FOR block.width)
    FROM unnest(CAST(:blocks AS bigint[]), CAST(:firsts AS bigint[])) WITH ORDINALITY AS asked (block, first, place)
    JOIN answer_blocks AS block USING (block)
""")


class Answers(NamedTuple):
    """A block as it is kept. `offsets` and `labels` as in AnswerBlock; of a shadow, what its requests mirror."""

    block: int
    checksum: int
    requests: int
    rows: int
    width: int
    offsets: bytes | None
    labels: bytes
    mirrored: Sequence[Pairs] = ()


class Named(NamedTuple):
    """A request id taken apart."""

    block: int
    number: int
    check: int


@dataclass(frozen=True)
class Answered:
    """An answer that was found: `rows` it had, of which the first is `first` of the block's `of` rows."""

    block: int
    model: str
    version: int
    slot: str
    layout: str
    first: int
    rows: int
    of: int
    width: int
    at: datetime


def id_prefix(block: int) -> str:
    """The first sixteen digits of all request ids of a block; then its number, and `_check`."""
    return f"{block & 0xFFFFFFFFFFFFFFFF:016x}"


def named(request: uuid.UUID) -> Named:
    raw = request.bytes
    return Named(
        int.from_bytes(raw[:8], "big", signed=True), int.from_bytes(raw[8:12], "big"), int.from_bytes(raw[12:], "big")
    )


def write_answers(
    block: int,
    checksum: int,
    sizes: Sequence[int],
    labels: Sequence[npt.NDArray[Any]],
    mirrored: Sequence[Pairs] = (),
) -> Answers:
    """`labels` of all rows, by head: uint8, or uint16 where a head has more than 256; none where texts were given."""
    rows, width = sum(sizes), labels[0].itemsize if labels else 1
    offsets = None if rows == len(sizes) else np.cumsum([0, *sizes]).astype(">u4").tobytes()
    told = b"".join(of_head.astype(of_head.dtype.newbyteorder(">")).tobytes() for of_head in labels)
    return Answers(block, checksum, len(sizes), rows, width, offsets, told, mirrored)


async def keep_answers(session: AsyncSession, key: Mapping[str, Any], answers: Sequence[Answers]) -> None:
    """`key` is model, version, generation, slot and layout. The same block again changes nothing."""
    for found in answers:
        await session.execute(KEEP, {**key, **found._asdict()})
        if found.mirrored:
            pairs = [pair._asdict() | {"block": found.block} for pair in found.mirrored]
            await session.execute(KEEP_PAIRS, pairs)


async def find(session: AsyncSession, requests: Sequence[uuid.UUID]) -> dict[uuid.UUID, Answered | None]:
    """The answers of those ids whose block is here. None: the block is, and never gave such an id."""
    ids = [named(request) for request in requests]
    asked = {"blocks": [id.block for id in ids], "numbers": [id.number for id in ids]}
    found: dict[uuid.UUID, Answered | None] = {}
    rows = await session.execute(FIND, asked)
    for place, model, version, slot, layout, checksum, requests_of, span, of, width, at in rows:
        request, id = requests[place - 1], ids[place - 1]
        if id.number >= requests_of or _check(checksum, id.number) != id.check:
            found[request] = None
            continue
        first, end = (id.number, id.number + 1) if span is None else _span(span)
        found[request] = Answered(id.block, model, version, slot, layout, first, end - first, of, width, at)
    return found


async def labels_of(session: AsyncSession, asked: Sequence[tuple[Answered, int, int]]) -> list[int]:
    """The index of the label that was given, for each (answer, place of the head, row)."""
    firsts = [(head * answer.of + answer.first + row) * answer.width for answer, head, row in asked]
    blocks = [answer.block for answer, _, _ in asked]
    found = await session.execute(LABELS, {"blocks": blocks, "firsts": firsts})
    by_place = {place: int.from_bytes(label, "big") for place, label in found}
    return [by_place[place] for place in range(1, len(asked) + 1)]


def _check(checksum: int, number: int) -> int:
    return (number * SPREAD + checksum) & LAST_WORD


def _span(raw: bytes) -> tuple[int, int]:
    return int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:], "big")
