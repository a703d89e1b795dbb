"""Conversations as sources have them → the columns of `chats.py`: read, checked whole, and never changed or cut.

Messages stand in a column as lists of {role, content} or as JSON of such; a prompt may be a plain text, which a user
says; an answer is a text, or a list of its one assistant message, as TRL has it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from app.data import columns
from app.data.chats import ACCEPTED, CHOSEN, COMPLETION, PROMPT, REJECTED, ChatOptions
from app.data.sources import SourceOptions
from app.errors import Invalid
from app.runtimes.chat import Message, fault, with_system, written

PARTS = {"role", "content"}
TYPES: dict[str, pa.DataType] = {ACCEPTED: pa.bool_()}
REMEDIES = {
    "conversation_invalid": "Mend those rows in the source, or leave them out of it; a null answer is one to come.",
    "conversation_too_long": "Shorten them in the source, or raise data.chat.longest.",
}

Cells = Mapping[str, Any]


class Fault(Exception):
    """Why a row is no conversation: the code, the column of the source, and a sentence without what stands there."""

    def __init__(self, code: str, column: str, told: str) -> None:
        super().__init__(told)
        self.code, self.column, self.told = code, column, told


def canonical(table: pa.Table, data: SourceOptions) -> pa.Table:
    """`table` as a source gave it, with prompt and answers in the columns of `chats.py`, and the others beside them.

    What a row lacks is null. Raises Invalid `column_missing`, `column_type`, `column_reserved`, `conversation_invalid`
    or `conversation_too_long`; the last two name the first rows.
    """
    chat = data.chat
    assert chat is not None
    _require_columns(table, data, chat)
    named = [*chat.source_columns, *([chat.system] if chat.system else [])]
    rows: list[dict[str, Any]] = []
    faults: list[tuple[int, Fault]] = []
    for place, cells in enumerate(_rows(table, named)):
        try:
            rows.append(of_row(cells, chat))
        except Fault as found:
            faults.append((place, found))
    if faults:
        raise _refused(table, data, faults)
    kept = table.drop_columns([name for name in {*named, *_ours(chat)} if name in table.column_names])
    for name in _ours(chat):
        kept = kept.append_column(name, pa.array([row[name] for row in rows], TYPES.get(name, pa.string())))
    return kept


def of_row(cells: Cells, chat: ChatOptions) -> dict[str, Any]:
    """The canonical cells of one row; null where the source has none. Raises Fault."""
    asked = chat.messages or chat.prompt
    assert asked is not None
    told: dict[str, Any] = dict.fromkeys(_ours(chat))
    conversation = _conversation(cells[asked], chat.prompt is not None, asked)
    if chat.messages is not None and conversation is not None:
        told[COMPLETION] = _answer(conversation[-1:], asked)
        conversation = conversation[:-1]
    columns_of = {COMPLETION: chat.completion, CHOSEN: chat.chosen, REJECTED: chat.rejected}
    told |= {ours: _answer(cells[theirs], theirs) for ours, theirs in columns_of.items() if theirs is not None}
    if chat.accepted is not None:
        told[ACCEPTED] = _yes_or_no(cells[chat.accepted], chat.accepted)
    if conversation is not None:
        conversation = with_system(conversation, _system(cells, chat))
        told[PROMPT] = _prompt(conversation, asked)
    if told.get(CHOSEN) is not None and told.get(CHOSEN) == told.get(REJECTED):
        raise Fault("conversation_invalid", str(chat.rejected), "the chosen answer is the rejected one")
    answers = [len(value) for name, value in told.items() if name != PROMPT and isinstance(value, str)]
    length = sum(len(message["content"]) for message in conversation or ()) + max(answers, default=0)
    if length > chat.longest:
        raise Fault("conversation_too_long", asked, f"{length} characters, and {chat.longest} are allowed")
    return told


def _ours(chat: ChatOptions) -> tuple[str, ...]:
    return (PROMPT, *chat.label_columns)


def _rows(table: pa.Table, names: Sequence[str]) -> list[Cells]:
    found: list[Cells] = table.select(list(dict.fromkeys(names))).to_pylist()
    return found


def _conversation(cell: Any, is_prompt: bool, column: str) -> list[Message] | None:
    """The messages of a cell; a prompt that is no list of them is what the user says."""
    if cell is None:
        return None
    messages = _messages(cell)
    if messages is None and is_prompt and isinstance(cell, str):
        return [{"role": "user", "content": cell}]
    if not messages:
        told = "messages must be a list of at least one {role, content}, or JSON of one"
        raise Fault("conversation_invalid", column, told)
    return messages


def _messages(cell: Any) -> list[Any] | None:
    """None: the cell holds no messages. What Arrow put into a message because another row has it is left out again."""
    if isinstance(cell, str):
        cell = _json(cell)
    if not isinstance(cell, list) or not all(isinstance(each, dict) and each.keys() >= PARTS for each in cell):
        return None
    return [{name: value for name, value in each.items() if name in PARTS or value is not None} for each in cell]


def _json(text: str) -> Any:
    if not text.lstrip().startswith("["):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _answer(cell: Any, column: str) -> str | None:
    messages = _messages(cell)
    if messages:
        if len(messages) != 1 or messages[0]["role"] != "assistant" or set(messages[0]) != PARTS:
            raise Fault("conversation_invalid", column, "the answer must be one message, the assistant's, and the last")
        cell = messages[0]["content"]
    elif isinstance(cell, list):
        raise Fault("conversation_invalid", column, "the answer must be a text, or a list of one assistant message")
    if cell is None and messages is None:
        return None
    if not isinstance(cell, str) or not cell.strip() or "\x00" in cell:
        raise Fault("conversation_invalid", column, "the answer must be a text that is not empty, without NUL")
    return cell


def _yes_or_no(cell: Any, column: str) -> bool | None:
    """0 and 1 are no and yes: databases keep them as that."""
    if cell is not None and (not isinstance(cell, int) or cell not in (0, 1)):
        raise Fault("conversation_invalid", column, "whether an answer was accepted must be true or false")
    return None if cell is None else bool(cell)


def _system(cells: Cells, chat: ChatOptions) -> str | None:
    cell = None if chat.system is None else cells[chat.system] or None
    if cell is not None and not isinstance(cell, str):
        raise Fault("conversation_invalid", str(chat.system), "the system prompt must be a text")
    return cell


def _prompt(conversation: list[Message], column: str) -> str:
    told = fault(conversation)
    if told is None and conversation[-1]["role"] != "user":
        told = "what is answered must be the user's message"
    if told is None and not conversation[-1]["content"].strip():
        told = "the user's last message is empty"
    if told is not None:
        raise Fault("conversation_invalid", column, told)
    return written(conversation)


def _require_columns(table: pa.Table, data: SourceOptions, chat: ChatOptions) -> None:
    for role in ("messages", "prompt", "completion", "chosen", "rejected", "accepted", "system"):
        name = getattr(chat, role)
        if name is None:
            continue
        columns.require([name], table.column_names, f"data.chat.{role}")
        _require_type(table, name, role)
    sent = {*chat.source_columns, chat.system, *data.ignore}
    if clash := sorted(name for name in _ours(chat) if name in table.column_names and name not in sent):
        raise Invalid(
            f"The source has a column {clash[0]!r} that data.chat does not name, and conversations are kept as that.",
            code="column_reserved",
            remedy="Name it in data.chat or in data.ignore, or rename it in the source.",
        )


def _require_type(table: pa.Table, name: str, role: str) -> None:
    dtype = table.schema.field(name).type
    if pa.types.is_null(dtype):
        return
    if role == "accepted":
        wanted, fits = "true or false", pa.types.is_boolean(dtype) or pa.types.is_integer(dtype)
    elif role == "system":
        wanted, fits = "text", pa.types.is_string(dtype)
    else:
        wanted, fits = "text, or lists of {role, content}", pa.types.is_string(dtype) or pa.types.is_list(dtype)
    if not fits:
        raise Invalid(
            f"data.chat.{role} names the column {name!r}, which is {dtype}; it must be {wanted}.",
            code="column_type",
            remedy="Turn it into that in the source, or name another column.",
        )


def _refused(table: pa.Table, data: SourceOptions, faults: Sequence[tuple[int, Fault]]) -> Invalid:
    """About all rows with the fault that is found first; other faults are told once these are mended."""
    first = faults[0][1]
    rows = [place for place, found in faults if found.code == first.code]
    has = f"a conversation that cannot be taken: {first.told}"
    return columns.rows_refused(table, data, rows, has, first.code, REMEDIES[first.code])
