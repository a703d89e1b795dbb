"""Questions and answers made from the documents of a Chroma collection: rows to fine-tune a language model on.

With an `endpoint` a language model reads a document and the `top_k` that are most like it, and writes a question and
its answer. Without one a plain rule does: the question asks what the document says of its most telling words, and the
answer is the sentence that has them. It teaches form, not knowledge, and `made_by` says of every row who wrote it.
"""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field, model_validator

from app.data.language_model import EndpointOptions
from app.data.sources import Reading
from app.data.sources._rows import table_of
from app.data.sources.chroma import ID, ChromaOptions, asked, documents
from app.errors import Invalid

COLUMNS = ("id", "question", "answer", "context", "made_by")
SHORTEST_DOCUMENT = 40  # characters; headings and page numbers say nothing
SPARE = 10  # neighbours that say nothing and are passed over
SENTENCES = re.compile(r"(?<=[.!?])\s+|\n{2,}")
WORDS = re.compile(r"[^\W\d_]{4,}")
PROMPT = """From the passages, write one question that a reader would ask and that they answer, and the answer in one to
three sentences, by the passages alone. The first passage is what the question is about; the others are its context.
Answer with JSON: {"question": "…", "answer": "…"}"""
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string", "minLength": 1} for name in ("question", "answer")},
    "required": ["question", "answer"],
    "additionalProperties": False,
}


class Options(ChromaOptions):
    source: Literal["qa_pairs"]
    label: str | list[str] = "answer"
    key: str | None = "id"
    top_k: int = Field(3, ge=1, le=50, description="passages in the context, the document itself among them")
    max_samples: int = Field(1_000, ge=1, description="documents that a question is asked about")
    endpoint: EndpointOptions | None = Field(None, description="who writes them; unset: a plain extractive rule")
    tolerated: float = Field(0.02, ge=0, le=1, description="share of passages that may stay without an answer")

    @model_validator(mode="before")
    @classmethod
    def answer_is_the_label_unless_it_is_in_a_conversation(cls, told: Any) -> Any:
        return {"label": [], **told} if isinstance(told, dict) and told.get("chat") else told


class Passage(NamedTuple):
    id: str
    document: str
    context: str


async def read(options: Options, reading: Reading) -> pa.Table:
    passages = await asyncio.to_thread(asked, options, lambda collection: _passages(collection, options))
    if not passages:
        raise Invalid(
            f"The collection {options.collection} has no document of {SHORTEST_DOCUMENT} characters or more.",
            code="insufficient_data",
            remedy="Fill it first: each document is one passage of text.",
        )
    if options.endpoint is None:
        written = _extracted(passages)
    else:
        written = await _asked(passages, options.endpoint, options.tolerated, reading)
    made_by = options.endpoint.model if options.endpoint else "extractive rule"
    rows = [[p.id, *written[p.id], p.context, made_by] for p in passages if p.id in written]
    return table_of(COLUMNS, rows, f"the collection {options.collection}")


async def count(options: Options, reading: Reading) -> int:
    """Documents beyond the number `reading.since`, at most `max_samples` in all."""
    found = await asyncio.to_thread(asked, options, lambda collection: int(collection.count()))
    return max(0, min(found, options.max_samples) - int(float(reading.since or 0)))


def _passages(collection: Any, options: Options) -> list[Passage]:
    """The documents that are long enough, chosen by a hash of their id, so that more documents are more of the same."""
    found = [row for row in documents(collection, ["documents", "metadatas", "embeddings"]) if _says_something(row)]
    chosen = sorted(found, key=lambda row: blake2b(str(row[ID]).encode(), digest_size=8).digest())[
        : options.max_samples
    ]
    texts = {row[ID]: row["document"] for row in found}
    passages = []
    for row in sorted(chosen, key=lambda row: str(row[ID])):
        near = collection.query(query_embeddings=[row["embedding"]], n_results=options.top_k + SPARE, include=[])[
            "ids"
        ][0]
        others = [texts[id] for id in near if id != row[ID] and id in texts][: options.top_k - 1]
        passages.append(Passage(row[ID], row["document"], "\n\n".join([row["document"], *others])))
    return passages


def _says_something(row: Mapping[str, Any]) -> bool:
    return len((row["document"] or "").strip()) >= SHORTEST_DOCUMENT


async def _asked(
    passages: Sequence[Passage], options: EndpointOptions, tolerated: float, reading: Reading
) -> dict[str, tuple[str, str]]:
    """Question and answer by id. A passage about which the model writes nothing that fits is left out, and told."""
    from app.data.answers import Answers, require_few  # noqa: PLC0415 - an HTTP client, which the other way has no use for

    assert reading.shared is not None
    answers = Answers(reading.shared, options, PROMPT, SCHEMA)
    wanted = list(dict.fromkeys(passage.context for passage in passages))
    known = answers.known(wanted)
    waiting = [text for text in wanted if text not in known]
    failed = await answers.ask(waiting, known, lambda _done, _of, note: print(note))
    require_few(failed, len(wanted), tolerated)
    if failed:
        print(f"{len(failed)} of {len(wanted)} passages are left out: {next(iter(failed.values()))}")
    return {p.id: (known[p.context]["question"], known[p.context]["answer"]) for p in passages if p.context in known}


def _extracted(passages: Sequence[Passage]) -> dict[str, tuple[str, str]]:
    """Question and answer by id: the answer is the sentence whose words are the rarest of the collection."""
    seen = Counter(word for passage in passages for word in set(_words(passage.document)))
    rarity = {word: math.log(len(passages) / times) + 1 for word, times in seen.items()}
    return {passage.id: _pair(passage.document, rarity) for passage in passages}


def _pair(document: str, rarity: Mapping[str, float]) -> tuple[str, str]:
    sentences = [" ".join(sentence.split()) for sentence in SENTENCES.split(document) if _words(sentence)]
    answer = max(sentences or [" ".join(document.split())], key=lambda sentence: _telling(sentence, rarity))
    words = sorted(dict.fromkeys(_words(answer)), key=lambda word: -rarity[word])[:2]
    return f"What does the text say about {' and '.join(words) or 'this'}?", answer


def _telling(sentence: str, rarity: Mapping[str, float]) -> float:
    """A sentence of two words is not the most telling one, however rare they are."""
    words = _words(sentence)
    return sum(rarity[word] for word in words) / (len(words) + 5) if words else 0.0


def _words(text: str) -> list[str]:
    return WORDS.findall(text.casefold())
