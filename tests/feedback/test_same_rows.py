"""What both versions said of the same rows, drawn at random and counted by hand."""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.definitions.service import resolve_model
from app.feedback.answers import keep_answers, named
from app.feedback.mirrored import Mirrors
from app.feedback.same_rows import SameRows, same_rows
from app.feedback.schemas import Item
from app.feedback.service import post
from app.runtimes import Batch, Prediction
from app.runtimes.schema import Column, Head, InputSchema, Label
from app.serving.counting import Key, Ledger
from app.traffic import service as traffic
from app.traffic.layout import layout_of
from tests.served import defined

Sessions = async_sessionmaker[AsyncSession]
COLUMNS = (Column(name="a", kind="numeric"),)
# The shadow's version has the heads and the labels in another order, does not know green, and knows violet.
ACTIVE = InputSchema(
    columns=COLUMNS, heads=(Head(name="y", labels=("red", "green", "blue")), Head(name="n", labels=tuple(range(300))))
)
SHADOW = InputSchema(
    columns=COLUMNS,
    heads=(Head(name="n", labels=tuple(reversed(range(20, 320)))), Head(name="y", labels=("violet", "blue", "red"))),
)
OURS, ANOTHER = 7, 8
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def ledger(schema: InputSchema, version: int, slot: str) -> Ledger:
    return Ledger(Key("fraud", version, 1, slot), schema, layout_of(schema, None), lambda: None)


def note(ledger: Ledger, said: Sequence[Sequence[int]], mirrors: Mirrors | None = None) -> str:
    """`said` by head: the place of the label of each row."""
    rows = len(said[0])
    batch = Batch(np.zeros((rows, 1), np.float32), np.empty((rows, 0), np.object_))
    scores = np.full(rows, 0.5, np.float32)
    predictions = [Prediction(np.zeros((rows, 0), np.float32), scores, np.array(places)) for places in said]
    return ledger.note(batch, predictions, 0.001, mirrors=mirrors)


async def keep(sessions: Sessions, *ledgers: Ledger) -> None:
    async with sessions() as session, session.begin():
        for each in ledgers:
            await traffic.keep_layout(session, "fraud", each.key.version, each.layout)
            answers = [found.answers for found in each.close(10_000) if found.answers]
            await keep_answers(session, each.key._asdict() | {"layout": each.layout.digest}, answers)


def drawn(random: Random, schema: InputSchema, rows: int) -> list[list[int]]:
    return [[random.randrange(len(head.labels)) for _ in range(rows)] for head in schema.heads]


def place_of(head: Head, label: Label) -> int:
    return head.labels.index(label) if label in head.labels else len(head.labels)


async def read(sessions: Sessions, head: str | None) -> SameRows:
    async with sessions() as session:
        return await same_rows(session, "fraud", OURS, active=1, standby=2, since=LONG_AGO, head=head)


async def test_what_both_versions_said_of_the_same_rows_is_what_a_count_by_hand_gives(sessions: Sessions) -> None:
    await defined(sessions, "fraud")
    random = Random(5)
    wanted: dict[str, Counter[tuple[int, ...]]] = {"y": Counter(), "n": Counter()}
    votes: Counter[bool] = Counter()
    items: list[Item] = []
    active, shadow = ledger(ACTIVE, 1, "active"), ledger(SHADOW, 2, "shadow")
    for turn in range(8):
        waiting: list[tuple[Mirrors, list[list[int]]]] = []
        for _ in range(30):
            # Of blocks with one row each no offsets are kept.
            rows = 1 if turn < 2 else random.randint(1, 4)
            said = drawn(random, ACTIVE, rows)
            request = note(active, said)
            trial = random.choice([OURS, OURS, OURS, ANOTHER, 0])
            answer = drawn(random, SHADOW, rows)
            id = named(uuid.UUID(request))
            if trial:
                waiting.append((Mirrors(trial, id.block, id.number), answer))
            for row in random.sample(range(rows), random.randint(0, rows)):
                at = random.randrange(2)
                head, truth = ACTIVE.heads[at], random.choice(ACTIVE.heads[at].labels)
                items.append(Item(request_id=request, row=row, head=head.name, label=truth))
                if trial == OURS:
                    theirs = SHADOW.heads[1 - at].labels[answer[1 - at][row]]
                    wanted[head.name][place_of(head, truth), said[at][row], place_of(head, theirs)] += 1
            if random.random() < 0.3:
                items.append(Item(request_id=request, accepted=(accepted := random.random() < 0.5)))
                votes[accepted] += trial == OURS
        for mirrors, answer in random.sample(waiting, len(waiting)):
            note(shadow, answer, mirrors)
        await keep(sessions, *random.choice([(active, shadow), (shadow,), (active,)]))
    await keep(sessions, active, shadow)
    async with sessions() as session, session.begin():
        told = await post(session, await resolve_model(session, "fraud"), items, sender="test")
    assert told.joined == len(items)
    for place, head in enumerate(ACTIVE.heads):
        found = await read(sessions, head.name)
        assert (found.head, found.labels) == (head.name, head.labels)
        assert (found.accepted, found.rejected) == (votes[True], votes[False])
        counted: Counter[tuple[int, ...]] = Counter()
        for *cell, n in found.cells.tolist():
            counted[tuple(cell)] += n
        assert counted == wanted[head.name]
        assert found.active.n == found.standby.n == counted.total() > 50
        assert np.trace(found.active.confusion) == sum(n for (t, a, _), n in counted.items() if t == a)
        assert np.trace(found.standby.confusion) == sum(n for (t, _, s), n in counted.items() if t == s)
        assert place or (await read(sessions, None)).cells.tolist() == found.cells.tolist()


async def test_of_a_label_column_that_the_shadows_version_has_not_there_are_no_figures(sessions: Sessions) -> None:
    await defined(sessions, "fraud")
    other = InputSchema(columns=COLUMNS, heads=(Head(name="z", labels=("red", "green", "blue")),))
    active, shadow = ledger(ACTIVE, 1, "active"), ledger(other, 2, "shadow")
    request = note(active, [[0], [0]])
    id = named(uuid.UUID(request))
    note(shadow, [[0]], Mirrors(OURS, id.block, id.number))
    await keep(sessions, active, shadow)
    items = [Item(request_id=request, label="red"), Item(request_id=request, accepted=True)]
    async with sessions() as session, session.begin():
        await post(session, await resolve_model(session, "fraud"), items, sender="test")
    found = await read(sessions, None)
    assert (found.active.n, found.standby.n, found.active.accepted, found.standby.accepted) == (0, 0, 1, 0)
