"""Prompts that were not trained on, to look at a model with: always the same ones of a data version."""

import hashlib
from collections.abc import Iterator

from app.data.chats import PROMPT
from app.runtimes.chat import Message, read, with_system
from workers.pipeline import SplitName, TrainingData

ORDER: tuple[SplitName, ...] = ("holdout", "validation", "train")


def conversations(data: TrainingData, system: str | None, count: int) -> list[list[Message]]:
    """As many as there are, up to `count`, as the version reads them. Held-out ones come first; each stands once."""
    chosen: list[str] = []
    for text in _prompts(data):
        if len(chosen) == count:
            break
        if text not in chosen:
            chosen.append(text)
    return [with_system(read(text), system) for text in chosen]


def _prompts(data: TrainingData) -> Iterator[str]:
    for name in ORDER:
        texts = data.table(name).column(PROMPT).to_pylist()
        yield from sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
