"""Artifact → predictor. One file is one format; serving and the gate load through here alike, so that what was gated
is what is served. Never torch.

A runtime module `app/runtimes/<format>.py` has `def load(folder: Path) -> Predictor`: the folder is a published
artifact whose digests were verified by the caller.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeIs

from app.runtimes.chat import Card, Completion, Conversation, Likelihood, Sampling, Upstream
from app.runtimes.schema import Head, InputSchema, Label

# What stands here beside the formats.
READING = frozenset({"schema", "rows", "table", "texts", "chat"})


@dataclass(frozen=True)
class Batch:
    """Rows as the model reads them: numeric float32 (n, a) with NaN for missing, categorical str (n, b) with "" for it.

    The columns of each are in the schema's order. `texts` (n,) str has the composed texts, where the model reads such.
    """

    numeric: npt.NDArray[np.float32]
    categorical: npt.NDArray[np.object_]
    texts: npt.NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return int(self.numeric.shape[0])

    def take(self, rows: npt.NDArray[np.int64]) -> "Batch":
        """The rows at these places, in this order."""
        texts = None if self.texts is None else self.texts[rows]
        return Batch(self.numeric[rows], self.categorical[rows], texts)


@dataclass(frozen=True)
class Prediction:
    """One head's answer: probabilities (n, k) float32; scores (n,) in [0, 1]; label indices (n,) into its labels."""

    probabilities: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int64]

    def labels(self, head: Head) -> list[Label]:
        named: list[Label] = head.label_array[self.indices].tolist()
        return named


class Predictor(Protocol):
    """A loaded artifact. `predict` is thread-safe and blocks; callers on an event loop run it in a thread."""

    schema: InputSchema
    is_quick: bool  # a hundred rows take less than a millisecond, so that an event loop may wait for them

    def predict(self, batch: Batch) -> tuple[Prediction, ...]:
        """One prediction for each of the schema's heads."""
        ...

    def smoke_inputs(self) -> list[Any]:
        """The rows (list form, as a caller would send them) that the version is smoke-tested with."""
        ...


class Generator(Protocol):
    """A loaded language model: what it answers is text. Every call is thread-safe and blocks.

    Whoever drops the last reference to it ends what runs behind it, so that a stream which has begun ends on the
    version that it began with; `close` ends it at once.
    """

    schema: InputSchema  # one column of prompts, no heads
    is_quick: bool  # never
    card: Card
    at_once: int  # so many answers are written side by side

    @property
    def upstream(self) -> Upstream:
        """Where the serving plane sends chats; asked for anew each time, for a crash moves it. Raises Down."""
        ...

    def complete(self, conversation: Conversation, sampling: Sampling) -> Completion:
        """The answer to a conversation. Raises runtimes.chat.Down, or ValueError where the prompt is too long."""
        ...

    def likelihood(self, conversation: Conversation, answer: str) -> Likelihood:
        """How likely `answer` is to the version. Raises Down, or Unsupported where its server cannot tell."""
        ...

    def prompt_tokens(self, conversation: Conversation) -> list[int]:
        """The token ids that the server reads: the rendered conversation. Raises Down, or Unsupported."""
        ...

    def smoke_inputs(self) -> list[Any]:
        """Conversations that the version is smoke-tested with."""
        ...

    def close(self) -> None:
        """Ends what runs behind it. Idempotent."""
        ...


Answerer = Predictor | Generator


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in READING and m.name[0] != "_")


def load(format: str, folder: Path) -> Answerer:
    """The predictor, or the generator, of a published artifact.

    Raises ValueError for an unknown format, or what the runtime raises.
    """
    if format not in names():
        raise ValueError(f"no runtime for artifacts of format {format!r}; known are {', '.join(names())}")
    loaded: Answerer = importlib.import_module(f"{__name__}.{format}").load(folder)
    return loaded


def load_predictor(format: str, folder: Path) -> Predictor:
    """As `load`, where labels are predicted. Raises ValueError for the artifact of a language model, too."""
    loaded = load(format, folder)
    if is_generator(loaded):
        raise ValueError(f"an artifact of format {format!r} answers with text, not with labels")
    return loaded


def is_generator(loaded: Answerer) -> TypeIs[Generator]:
    return not loaded.schema.heads
