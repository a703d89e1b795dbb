"""Conversations → token rows, as TRL makes them: the prompt is read, the last answer is learnt.

A conversation of several turns is a prompt of all turns but the last answer, so the loss counts that one alone; rows of
earlier turns are made where each answer is to be learnt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.data.chats import COMPLETION, PROMPT
from app.runtimes import chat
from workers.llm import tokenizer as tokenizers
from workers.pipeline import PipelineError

AT_ONCE = 512
TOKEN_ROWS = pa.schema(
    [
        ("row", pa.int32()),  # its place among the rows of its split
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),  # -100 before the answer: nothing is learnt there
        ("tokens", pa.int32()),  # before it was cut
    ]
)


@dataclass
class Counts:
    """Of one split. `cut`: rows that lost their end and are learnt from all the same; `left_out`: all of the answer.
    `marked`: those in which somebody says what the chat template tells speakers apart by.
    """

    rows: int = 0
    tokens: int = 0
    cut: int = 0
    left_out: int = 0
    marked: int = 0
    longest: int = 0
    examples: list[int] = field(default_factory=list)  # places of the first rows left out

    def told(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("rows", "tokens", "cut", "left_out", "marked", "longest")}


def token_rows(
    table: pa.Table, tokenizer: Any, system: str | None, longest: int, counts: Counts
) -> Iterator[pa.RecordBatch]:
    """Batches of TOKEN_ROWS, in the order of `table`; `counts` grows with them.

    The answer begins where prompt and whole conversation part, which is how TRL 1.16 finds it.
    """
    markers = tokenizers.markers(tokenizer)
    asked, told = table.column(PROMPT).to_pylist(), table.column(COMPLETION).to_pylist()
    for first in range(0, len(asked), AT_ONCE):
        prompts = [chat.with_system(chat.read(text), system) for text in asked[first : first + AT_ONCE]]
        answers = told[first : first + AT_ONCE]
        counts.marked += sum(
            _is_marked(*said, markers) for said in zip(asked[first : first + AT_ONCE], answers, strict=True)
        )
        wholes = [[*p, {"role": "assistant", "content": a}] for p, a in zip(prompts, answers, strict=True)]
        before = _encoded(tokenizer, prompts, add_generation_prompt=True)
        whole = _encoded(tokenizer, wholes)
        places = range(first, first + len(prompts))
        kept = [row for row in map(_row, places, before, whole) if _counted(row, longest, counts)]
        yield _batch(kept, longest)


def written(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    """As an Arrow stream, which `datasets` maps into memory instead of reading it."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, TOKEN_ROWS) as stream:
        for batch in batches:
            stream.write_batch(batch)


def read(path: Path) -> Any:
    """A `datasets.Dataset` of what `written` wrote, as TRL trains on it without another look."""
    from datasets import Dataset

    return Dataset.from_file(str(path))


def load_template(tokenizer: Any, base: str) -> str:
    """The chat template. Raises PipelineError `chat_template_missing`."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if isinstance(template, str) and template.strip():
        return template
    raise PipelineError(
        "chat_template_missing",
        f"The tokenizer of {base} has no chat template, so nobody knows how a conversation is written for it.",
        "Take the instruct variant of the model, or save a chat_template.jinja beside its tokenizer.",
    )


def _encoded(tokenizer: Any, conversations: Sequence[Any], **given: Any) -> list[list[int]]:
    """Raises PipelineError `chat_template_refuses`: some take no system message, or want turns to alternate."""
    from jinja2 import TemplateError

    try:
        ids: list[list[int]] = tokenizer.apply_chat_template(conversations, return_dict=False, **given)
    except TemplateError as error:
        raise PipelineError(
            "chat_template_refuses",
            f"The base model's chat template refuses a conversation: {error}.",
            "Leave out system_prompt or the system messages of the data, or make user and assistant alternate in it.",
        ) from error
    return ids


def _is_marked(asked: str, told: str, markers: Sequence[str]) -> bool:
    return any(marker in asked or marker in told for marker in markers)


def _row(place: int, prompt: list[int], whole: list[int]) -> dict[str, Any]:
    shared = min(len(prompt), len(whole))
    begins = shared if prompt[:shared] == whole[:shared] else next(i for i in range(shared) if prompt[i] != whole[i])
    return {"row": place, "input_ids": whole, "answer": begins, "tokens": len(whole)}


def _counted(row: dict[str, Any], longest: int, counts: Counts) -> bool:
    counts.longest = max(counts.longest, row["tokens"])
    if row["answer"] >= min(longest, row["tokens"]):
        counts.left_out += 1
        counts.examples = [*counts.examples, row["row"]][:3]
        return False
    counts.rows += 1
    counts.tokens += min(longest, row["tokens"])
    counts.cut += row["tokens"] > longest
    return True


def _batch(rows: list[dict[str, Any]], longest: int) -> pa.RecordBatch:
    learnt = [_cut(row, longest) for row in rows]
    return pa.RecordBatch.from_pylist(learnt, schema=TOKEN_ROWS)


def _cut(row: dict[str, Any], longest: int) -> dict[str, Any]:
    ids = row["input_ids"][:longest]
    labels = [-100] * row["answer"] + ids[row["answer"] :]
    return {"row": row["row"], "input_ids": ids, "labels": labels, "tokens": row["tokens"]}
