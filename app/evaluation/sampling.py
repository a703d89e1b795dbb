"""Which held-out rows a language model is asked: the same ones for the same data, whoever asks and whenever."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from app.data.chats import COMPLETION, PROMPT
from app.gate.tally import Integers
from app.runtimes.chat import Message, read

NAME_DIGITS = 16


@dataclass(frozen=True)
class Asked:
    """The rows that are asked, n of them: each prompt once. `beside` has their other columns."""

    names: list[str]
    conversations: list[list[Message]]
    references: list[str]
    beside: pa.Table

    def __len__(self) -> int:
        return len(self.names)


def name_of(prompt: str) -> str:
    """By which a prompt is known for ever: 16 hex digits of its sha256."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:NAME_DIGITS]


def sample(holdout: pa.Table, rows: int) -> Asked:
    """At most `rows` of them, in the order of their names. Of rows that share a prompt one answer is the reference.

    A row that comes or goes changes only its own place: data versions of a model are judged on mostly the same ones.
    """
    prompts: list[str] = holdout[PROMPT].to_pylist()
    places = _first_of_each([name_of(prompt) for prompt in prompts], holdout[COMPLETION].to_pylist())[:rows]
    taken = holdout.take(pa.array(places))
    texts: list[str] = taken[PROMPT].to_pylist()
    others = [name for name in taken.column_names if name not in (PROMPT, COMPLETION)]
    return Asked(
        names=[name_of(text) for text in texts],
        conversations=[read(text) for text in texts],
        references=taken[COMPLETION].to_pylist(),
        beside=taken.select(others),
    )


def _first_of_each(names: Sequence[str], references: Sequence[str]) -> Integers:
    """The places of the first row of each name, by name; first by its reference, wherever it stands."""
    order = sorted(range(len(names)), key=lambda place: (names[place], references[place], place))
    kept = [place for at, place in enumerate(order) if not at or names[place] != names[order[at - 1]]]
    return np.array(kept, np.int64)
