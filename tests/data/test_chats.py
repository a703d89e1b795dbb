"""Conversations as rows of a data version: read in every form, checked whole, split by what is asked."""

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.data import conversations, leaks, preferences, same_answers
from app.data.chats import ChatOptions
from app.data.service import insert_version
from app.data.snapshots import load, new_rows, take
from app.data.sources import Reading, SourceOptions, find, options_of
from app.data.splits import SIDES, check_change
from app.data.tables import DataVersion
from app.definitions.schemas import Definition
from app.errors import Invalid, Refused
from tests.factories import define

READING = Reading(session=None, model="helpdesk")  # type: ignore[arg-type] # files need no database
REAL = Path(__file__).resolve().parents[3] / "shared/data"
ASKED = {"prompt": "question", "completion": "answer"}
JUDGED = {"prompt": "question", "completion": "answer", "accepted": "taken"}
SAME = {"merged": 0, "contradictory": 0, "near_duplicates": 0, "retired": 0, "moved": 0}
PAIRS = {"prompt": "question", "chosen": "better", "rejected": "worse"}


def say(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation that begins with the user."""
    told = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
    return [*([{"role": "system", "content": system}] if system else []), *told]


def options(chat: dict[str, Any], **more: Any) -> SourceOptions:
    return options_of({"source": "samples", "chat": chat} | more)


def canonical(rows: list[dict[str, Any]], chat: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = conversations.canonical(pa.Table.from_pylist(rows), options(chat, **more)).to_pylist()
    return found


def definition(folder: Path, rows: list[dict[str, Any]], chat: dict[str, Any], **changes: Any) -> Definition:
    path = folder / f"{'-'.join(chat)}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    data = {"source": "file", "path": str(path), "chat": chat, **changes.pop("data", {})}
    return Definition.model_validate({"type": "llm", "data": data, **changes})


async def taken(folder: Path, definition: Definition, previous: DataVersion | None = None, **more: Any) -> DataVersion:
    table = await find(definition.data.source).read(definition.data, READING)
    store = folder / "store"
    return await take("helpdesk", table, definition, store=store, previous=previous, job_id=None, **more)


def asked(n: int) -> list[dict[str, Any]]:
    return [{"id": i, "question": f"What is {i}?", "answer": f"It is {i}.", "risk": i % 3} for i in range(n)]


def side_of(folder: Path, version: DataVersion, definition: Definition, column: str) -> dict[Any, str]:
    found = load(folder / "store", version, definition)
    return dict(zip(found.rows[column].to_pylist(), found.split.to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("chat", "row"),
    [
        (ASKED | {"system": "rules"}, {"question": "Hi?", "answer": "Yes.", "rules": "Be kind."}),
        (ASKED, {"question": say("Hi?", system="Be kind."), "answer": [say("", "Yes.")[1]]}),
        (ASKED, {"question": json.dumps(say("Hi?", system="Be kind.")), "answer": "Yes."}),
        ({"messages": "turns"}, {"turns": say("Hi?", "Yes.", system="Be kind.")}),
        ({"messages": "turns"}, {"turns": json.dumps(say("Hi?", "Yes.", system="Be kind."))}),
        ({"messages": "turns", "system": "rules"}, {"turns": say("Hi?", "Yes."), "rules": "Be kind."}),
    ],
)
def test_whatever_the_form_of_a_conversation_its_rows_are_the_same(chat: dict[str, Any], row: dict[str, Any]) -> None:
    prompt = '[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi?"}]'
    assert canonical([row | {"stage": "calm"}], chat) == [{"stage": "calm", "prompt": prompt, "completion": "Yes."}]


def test_earlier_answers_stay_in_what_is_asked_and_the_last_is_what_is_learnt() -> None:
    [row] = canonical([{"turns": say("a", "b", "c", "d")}], {"messages": "turns"})
    assert (json.loads(row["prompt"]), row["completion"]) == (say("a", "b", "c"), "d")


def test_pairs_and_judged_answers_are_read_as_text_or_as_one_message() -> None:
    [pair] = canonical([{"question": "?", "better": say("", "b")[1:], "worse": say("", "w")[1:]}], PAIRS)
    assert (pair["chosen"], pair["rejected"]) == ("b", "w")
    rows = canonical(
        [{"question": "?", "answer": "x", "taken": 1}, {"question": "?", "answer": "y", "taken": 0}], JUDGED
    )
    assert [(row["completion"], row["accepted"]) for row in rows] == [("x", True), ("y", False)]


@pytest.mark.parametrize(
    ("chat", "row", "told"),
    [
        (ASKED, {"question": "?", "answer": " \n"}, "the answer must be a text that is not empty"),
        (ASKED, {"question": " ", "answer": "a"}, "the user's last message is empty"),
        (ASKED, {"question": say("a", "b"), "answer": "c"}, "the last message must be the user's"),
        (ASKED, {"question": [{"role": "system", "content": "s"}], "answer": "c"}, "must be the user's message"),
        (ASKED, {"question": "?", "answer": json.dumps(say("a", "b"))}, "the answer must be one message"),
        ({"messages": "m"}, {"m": say("a", "b", "c")}, "the answer must be one message, the assistant's, and the last"),
        ({"messages": "m"}, {"m": say("a", "b") + say("c", "d", system="late")}, "a system message comes first"),
        ({"messages": "m"}, {"m": [{"role": "tool", "content": "a"}, *say("", "b")[1:]]}, "the role of message 0 must"),
        ({"messages": "m"}, {"m": "no JSON"}, "messages must be a list of at least one {role, content}"),
        (PAIRS, {"question": "?", "better": "same", "worse": "same"}, "the chosen answer is the rejected one"),
    ],
)
def test_what_is_no_conversation_is_refused_by_its_rows_and_never_told_back(
    chat: dict[str, Any], row: dict[str, Any], told: str
) -> None:
    fine = {"question": "secret?", "answer": "s", "better": "b", "worse": "w", "m": say("secret", "s")}
    good = {name: fine[name] for name in row}
    if isinstance(next(iter(row.values())), str):
        good = {name: value if isinstance(value, str) else json.dumps(value) for name, value in good.items()}
    elif "question" in row:
        good["question"] = say("secret?")
    rows = [good | {"id": 7}, row | {"id": 8}, row | {"id": 9}]
    with pytest.raises(Invalid, match=re.escape(told)) as refused:
        canonical(rows, chat, key="id")
    assert (refused.value.code, refused.value.details["rows"]) == ("conversation_invalid", [1, 2])
    assert refused.value.message.startswith("id 8, id 9: ")
    assert "secret" not in refused.value.message
    assert refused.value.remedy


def test_a_conversation_that_is_too_long_is_refused_and_never_cut() -> None:
    with pytest.raises(Invalid, match=r"row 0: .* 11 characters, and 10 are allowed") as refused:
        canonical([{"question": "12345", "answer": "678901"}], ASKED | {"longest": 10})
    assert refused.value.code == "conversation_too_long"
    assert canonical([{"question": "12345", "answer": "67890"}], ASKED | {"longest": 10})


def test_a_column_that_would_be_pushed_out_is_refused_unless_it_is_ignored() -> None:
    rows = [{"question": "?", "answer": "a", "prompt": "of another kind"}]
    with pytest.raises(Invalid, match=r"'prompt' that data\.chat does not name") as refused:
        canonical(rows, ASKED)
    assert refused.value.code == "column_reserved"
    assert json.loads(canonical(rows, ASKED, ignore=["prompt"])[0]["prompt"]) == say("?")


@pytest.mark.parametrize(
    ("chat", "code"), [(ASKED | {"prompt": "qestion"}, "column_missing"), (JUDGED | {"accepted": "answer"}, "")]
)
def test_a_column_that_is_missing_or_of_the_wrong_type_is_named(chat: dict[str, Any], code: str) -> None:
    rows = [{"question": "?", "answer": "a", "taken": "maybe"}]
    if not code:
        with pytest.raises(ValidationError, match="two roles"):
            options(chat)
        chat, code = JUDGED, "column_type"
    with pytest.raises(Invalid) as refused:
        canonical(rows, chat)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "change", [{"key": "question"}, {"time": "answer"}, {"ignore": ["answer"]}, {"label": "answer"}, {"text": {}}]
)
def test_a_column_of_the_conversation_has_no_other_part(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(ASKED, **change)


async def test_every_column_that_is_not_ignored_is_kept_beside_the_conversation(tmp_path: Path) -> None:
    rows = [row | {"note": "x", "stage": "calm"} for row in asked(200)]
    told = definition(tmp_path, rows, ASKED, data={"key": "id", "ignore": ["note"]})
    version = await taken(tmp_path, told)
    found = load(tmp_path / "store", version, told)
    assert found.rows.column_names == ["completion", "id", "prompt", "risk", "stage"]
    assert (found.labels, found.features, version.role) == (("completion",), ("prompt",), "training")
    assert version.labels == []  # what people wrote is nobody's business in a list
    assert version.texts == SAME
    nested = definition(tmp_path, [row | {"tags": ["a"]} for row in asked(200)], ASKED)
    with pytest.raises(Invalid, match="'tags' is list"):
        await taken(tmp_path, nested)


async def test_equal_content_is_an_equal_data_version_whatever_the_order_and_the_form(tmp_path: Path) -> None:
    first = await taken(tmp_path, definition(tmp_path, asked(200), ASKED, data={"ignore": ["id"]}))
    turns = [{"risk": r["risk"], "turns": say(r["question"], r["answer"])} for r in reversed(asked(200))]
    again = await taken(tmp_path, definition(tmp_path, turns, {"messages": "turns"}))
    assert again.digest == first.digest


async def test_rows_without_an_answer_yet_are_left_out_and_counted_and_are_no_new_rows(tmp_path: Path) -> None:
    rows = asked(200)
    rows[3]["answer"] = rows[4]["question"] = None
    told = definition(tmp_path, rows, ASKED)
    version = await taken(tmp_path, told)
    assert (version.rows, version.dropped) == (198, {"label": 1, "text": 1})
    assert await find("file").count(told.data, READING) == 198
    grown = definition(tmp_path, [*rows, *asked(230)[200:]], ASKED)
    newer = load(tmp_path / "store", await taken(tmp_path, grown, version), grown)
    since = replace(READING, since=version.high_water)
    assert new_rows(newer, grown, version) == await find("file").count(grown.data, since) == 30


async def test_a_database_counts_the_rows_that_have_all_of_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "rows.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE asked (question TEXT, answer TEXT)")
        database.executemany("INSERT INTO asked VALUES (?, ?)", [("a?", "b"), ("c?", None), (None, "d")])
    told = options_of({"source": "sql", "url": f"sqlite:///{path}", "query": "SELECT * FROM asked", "chat": ASKED})
    assert await find("sql").count(told, READING) == 1


async def test_the_risk_of_a_row_is_kept_even_where_it_is_ignored_and_must_be_there(tmp_path: Path) -> None:
    told = definition(tmp_path, asked(200), ASKED, data={"ignore": ["risk"]}, signoff={"risk": "risk"})
    found = load(tmp_path / "store", await taken(tmp_path, told), told)
    assert found.rows["risk"].type == pa.int64()
    with pytest.raises(Invalid, match=r"signoff\.risk names the column 'danger'"):
        await taken(tmp_path, definition(tmp_path, asked(200), ASKED, signoff={"risk": "danger"}))


def test_questions_and_answers_of_a_collection_are_conversations() -> None:
    told = {"source": "qa_pairs", "path": "/chroma", "collection": "law"}
    data = options_of(told | {"chat": {"prompt": "question", "completion": "answer"}})
    again = options_of(data.model_dump(mode="json"))
    assert (data.label_columns, again) == (("completion",), data)
    assert options_of(told).label_columns == ("answer",)


@pytest.mark.parametrize("key", [None, "id"])
async def test_whatever_splits_them_equal_prompts_never_stand_on_two_sides_that_matter(
    tmp_path: Path, key: str | None
) -> None:
    twice = [*asked(300), *(row | {"id": row["id"] + 300, "answer": f"Or {row['id']}."} for row in asked(300))]
    told = definition(tmp_path, twice, ASKED, data={"key": key})
    version = await taken(tmp_path, told)
    found = load(tmp_path / "store", version, told)
    sides: dict[str, set[str]] = {}
    for prompt, side in zip(found.rows["prompt"].to_pylist(), found.split.to_pylist(), strict=True):
        sides.setdefault(prompt, set()).add(side)
    assert all(len(each - {"retired"}) == 1 for each in sides.values())
    assert version.texts is not None
    assert (version.texts["retired"] > 0) == (key is not None)
    mask = leaks.seen(found.rows.filter(pc.equal(found.split, "holdout")), version, version, tmp_path / "store")
    assert isinstance(mask, np.ndarray)
    assert not mask.any()


def settled(rows: list[dict[str, Any]], chat: dict[str, Any]) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
    names = ("prompt", *ChatOptions.model_validate(chat).label_columns, "__split")
    table = pa.table({name: [row.get(name, "train") for row in rows] for name in names})
    kept, told = same_answers.settle(table, ChatOptions.model_validate(chat))
    found = [(*row.values(),) for row in kept.to_pylist()]
    return found, {name: n for name, n in told.told().items() if n}


def test_equal_answers_are_one_row_and_of_judgements_what_most_say_stays() -> None:
    one = {"prompt": "a", "completion": "x"}
    assert settled([one, one, one | {"completion": "y"}], ASKED) == (
        [("a", "x", "train"), ("a", "y", "train")],
        {"merged": 1},
    )
    yes, no = one | {"accepted": True}, one | {"accepted": False}
    assert settled([yes, no, yes], JUDGED) == ([("a", "x", True, "train")], {"merged": 1, "contradictory": 1})
    assert settled([yes, no], JUDGED) == ([], {"contradictory": 2})
    pair, turned = [{"prompt": "a", "chosen": c, "rejected": r} for c, r in ("xy", "yx")]
    assert settled([pair, turned, turned], PAIRS)[0] == [("a", "y", "x", "train")]


def test_a_prompt_that_is_held_out_teaches_nothing() -> None:
    rows = [{"prompt": "a", "completion": c, "__split": side} for c, side in zip("wxyz", SIDES, strict=True)]
    assert [row[-1] for row in settled(rows, ASKED)[0]] == ["retired", "retired", "holdout", "retired"]
    assert [row[-1] for row in settled(rows[:2], ASKED)[0]] == ["train", "train"]


async def test_preferences_are_another_data_version_and_never_of_a_prompt_that_judges(tmp_path: Path) -> None:
    pairs = [{"n": i + 1_000, "question": f"What is {i}?", "better": "b", "worse": "w"} for i in range(300)]
    of_pairs = definition(tmp_path, pairs, PAIRS, data={"key": "n"}).data
    told = definition(
        tmp_path, asked(300), ASKED, data={"key": "id"}, preference={"data": of_pairs}, split={"holdout": 0.3}
    )
    version = await taken(tmp_path, told)
    data = load(tmp_path / "store", version, told)
    held_out = preferences.held_out(data)
    wanted = preferences.definition_of(told)
    preferred = await taken(tmp_path, wanted, role="preference", held_out=held_out)
    assert preferred.role == "preference"
    trained = {
        p for p, side in side_of(tmp_path, preferred, wanted, "prompt").items() if side in ("train", "validation")
    }
    assert held_out
    assert trained
    assert not held_out & trained
    # Taken without that it would have been seen, although the rows have other keys.
    careless = await taken(tmp_path, wanted, role="preference")
    mask = leaks.seen(data.rows.filter(pc.equal(data.split, "holdout")), version, careless, tmp_path / "store")
    assert isinstance(mask, np.ndarray)
    assert mask.any()


async def test_the_same_rows_for_another_end_are_another_data_version(tmp_path: Path) -> None:
    told = definition(tmp_path, asked(200), ASKED)
    assert (await taken(tmp_path, told)).digest != (await taken(tmp_path, told, role="preference")).digest


def test_a_change_of_what_names_a_row_is_refused(tmp_path: Path) -> None:
    before = definition(tmp_path, asked(9), ASKED)
    check_change(before, definition(tmp_path, asked(9), ASKED | {"longest": 50}, data={"ignore": ["risk"]}))
    for chat in (ASKED | {"system": "rules"}, ASKED | {"prompt": "other"}):
        with pytest.raises(Refused, match=r"data\.chat changes"):
            check_change(before, definition(tmp_path, asked(9), chat))
    keyed = [definition(tmp_path, asked(9), chat, data={"key": "id"}) for chat in (ASKED, ASKED | {"system": "rules"})]
    check_change(*keyed)


async def test_only_the_roles_that_are_asked_for_are_listed_and_each_says_its_own(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession], tmp_path: Path
) -> None:
    told = definition(tmp_path, asked(200), ASKED)
    async with sessions() as session, session.begin():
        await define(session, "helpdesk")
        versions = [await taken(tmp_path, told, role=role) for role in ("training", "preference")]
        for version in versions:
            await insert_version(session, version)
    of_training, of_preference = [version.digest for version in versions]

    async def listed(**asked: str) -> set[tuple[str, str]]:
        page = (await client.get("/data/versions", params=asked)).json()["data"]
        return {(each["digest"], each["role"]) for each in page}

    assert await listed() == {(of_training, "training")}
    assert await listed(role="preference") == {(of_preference, "preference")}
    assert len(await listed(role="any")) == 2
    latest = (await client.get("/data/versions/helpdesk/latest")).json()
    assert latest["digest"] == of_training
    assert (await client.get(f"/data/versions/helpdesk/{of_preference}")).json()["role"] == "preference"


async def test_posted_conversations_may_be_messages_and_a_bad_one_is_named_at_once(
    client: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]
) -> None:
    data = {"source": "samples", "chat": ASKED, "key": "id"}
    async with sessions() as session, session.begin():
        await define(session, "helpdesk", data=data)
    rows = [{"id": 1, "question": "Hi?", "answer": "Yes."}, {"id": 2, "question": say("Hi?"), "answer": "No."}]
    assert (await client.post("/data/samples", json={"rows": rows})).status_code == 202
    async with sessions() as session:
        table = await find("samples").read(options_of(data), Reading(session, "helpdesk"))
    told = conversations.canonical(table, options_of(data))
    assert told["prompt"].to_pylist() == ['[{"role":"user","content":"Hi?"}]'] * 2
    odd = {"role": "user", "content": "?", "x\ud800": None}
    bad: list[dict[str, Any]] = [
        {"question": say("a", "b"), "answer": "c"},
        {"question": "?"},
        {"question": [odd], "answer": "c"},
    ]
    body = json.dumps({"rows": [row | {"id": n} for n, row in enumerate(bad)]})
    refused = await client.post("/data/samples", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422
    fields = {error["field"] for error in refused.json()["errors"]}
    assert {"rows.0.question", "rows.1.answer", "rows.2.question"} <= fields


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not on this machine")
async def test_the_rows_of_gsm8k_and_its_pairs_are_data_versions(tmp_path: Path) -> None:
    pairs = {"source": "file", "path": str(REAL / "gsm8k/preference-pairs.jsonl.gz")}
    chat = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    data = {"source": "file", "path": str(REAL / "gsm8k/train.jsonl.gz"), "chat": ASKED}
    of = {"type": "llm", "data": data, "preference": {"data": pairs | {"chat": chat}}}
    told = Definition.model_validate(of)
    version = await taken(tmp_path, told)
    found = load(tmp_path / "store", version, told)
    wanted = preferences.definition_of(told)
    preferred = await taken(tmp_path, wanted, role="preference", held_out=preferences.held_out(found))
    assert (version.rows, version.texts, preferred.rows, preferred.labels) == (7_473, SAME, 731, [])
    assert pq.read_schema(tmp_path / "store/snapshots" / f"{version.digest}.parquet").names == [
        "completion",
        "prompt",
        "__split",
    ]
