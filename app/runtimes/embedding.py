"""Artifacts of format `embedding`: one text → its embedding → the probabilities of each head. Never torch.

tokenizer.json   of the encoder, as `tokenizers` reads it
encoder.json     EncoderRule: how texts become windows of tokens
encoder.onnx     tokens → embedding: takes what it names of input_ids, attention_mask and token_type_ids, int64
                 (windows, tokens), and gives `sentence_embedding` float32 (windows, d) of length 1
heads.onnx       `embedding` float32 (n, d) → `probabilities_<i>` float32 (n, k_i), one a head in the schema's order
schema.json, smoke.json
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import onnxruntime
import orjson
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from app.runtimes import Batch, Prediction
from app.runtimes.onnx import decide
from app.runtimes.schema import InputSchema

Embeddings = npt.NDArray[np.float32]  # (n, d), each of length 1

# Padded tokens in one call of the encoder: enough to keep a core busy, few enough to stay in its cache (measured).
TOKENS_AT_ONCE = 512

LongTexts = Literal["head", "head_tail", "mean"]


class EncoderRule(BaseModel):
    """How a text is given to the encoder.

    `window` counts tokens, those that the encoder puts around every text among them. A text that is longer is read
    by its beginning (`head`), by its beginning and its end (`head_tail`), or whole: window by window, and the
    embeddings' mean weighted by their tokens (`mean`). `prefix` stands before every window.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="as the definition names it")
    weights: str = Field(description="sha256 of the weights that it was made of")
    precision: Literal["fp32", "int8"]
    dimension: int
    window: int
    prefix: str
    long_texts: LongTexts
    pad: int


class Window(NamedTuple):
    """A stretch of tokens of one text, ready for the encoder; `weight` counts those of the text itself."""

    text: int
    tokens: list[int]
    weight: int


class Encoder:
    """Texts → embeddings. Thread-safe; `threads` calls of the encoder run side by side."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Raises OSError for a missing file, and what `tokenizers` and ONNX Runtime raise for a broken one."""
        self.rule = EncoderRule.model_validate_json((folder / "encoder.json").read_bytes())
        self._tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text("utf-8"))
        # What a tokenizer.json says of cutting and padding is of the day it was trained.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._before, self._behind = _around(self._tokenizer)
        self._prefix: list[int] = self._ids([self.rule.prefix])[0] if self.rule.prefix else []
        self._session = _shared_session((folder / "encoder.onnx").read_bytes())
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._threads = threads

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """(n, d)."""
        windows = self.windows(texts)
        return _joined(windows, self.embed(windows), len(texts))

    def windows(self, texts: Sequence[str]) -> list[Window]:
        """What the encoder is given of each text, in their order."""
        prefixed = [self.rule.prefix + text for text in texts]
        return [window for text, tokens in enumerate(self._ids(prefixed)) for window in self._cut(text, tokens)]

    def embed(self, windows: Sequence[Window]) -> Embeddings:
        """(windows, d). They are sorted by length meanwhile, so that a short one is not padded to a long one."""
        embeddings = np.empty((len(windows), self.rule.dimension), np.float32)
        batches = list(_batches(windows))

        def run(batch: Sequence[int]) -> None:
            embeddings[batch] = self._run([windows[place].tokens for place in batch])

        if self._threads > 1 and len(batches) > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                # The long ones first: else one of them runs alone at the end.
                list(pool.map(run, reversed(batches)))
        else:
            for batch in batches:
                run(batch)
        return embeddings

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def _cut(self, text: int, tokens: list[int]) -> Iterator[Window]:
        room = self.rule.window - len(self._before) - len(self._behind)
        if len(tokens) <= room or self.rule.long_texts == "head":
            yield self._window(text, tokens[:room])
        elif self.rule.long_texts == "head_tail":
            tail = room // 2
            yield self._window(text, [*tokens[: room - tail], *tokens[len(tokens) - tail :]])
        else:
            yield self._window(text, tokens[:room])
            room -= len(self._prefix)
            for start in range(room + len(self._prefix), len(tokens), room):
                yield self._window(text, [*self._prefix, *tokens[start : start + room]])

    def _window(self, text: int, tokens: list[int]) -> Window:
        return Window(text, [*self._before, *tokens, *self._behind], max(1, len(tokens) - len(self._prefix)))

    def _run(self, windows: Sequence[list[int]]) -> Embeddings:
        lengths = np.array([len(tokens) for tokens in windows])
        mask = np.arange(lengths.max()) < lengths[:, None]
        tokens = np.full(mask.shape, self.rule.pad, np.int64)
        tokens[mask] = np.concatenate(windows)
        every = {
            "input_ids": tokens,
            "attention_mask": mask.astype(np.int64),
            "token_type_ids": np.zeros_like(tokens),
        }
        (embeddings,) = self._session.run(["sentence_embedding"], {name: every[name] for name in self._inputs})
        found: Embeddings = embeddings
        return found


class EmbeddingPredictor:
    """A loaded artifact. Each call runs in the thread that makes it."""

    is_quick = False

    def __init__(self, encoder: Encoder, heads: Any, schema: InputSchema, smoke: list[Any]) -> None:
        self.schema = schema
        self.encoder = encoder
        self._heads = heads
        self._smoke = smoke

    def predict(self, batch: Batch) -> tuple[Prediction, ...]:
        assert batch.texts is not None
        return self.decide(self.encoder.encode(batch.texts.tolist()))

    def decide(self, embeddings: Embeddings) -> tuple[Prediction, ...]:
        """The heads' answers to embeddings (n, d) of this version's encoder."""
        found = self._heads.run(None, {"embedding": embeddings})
        return tuple(decide(probabilities, head) for probabilities, head in zip(found, self.schema.heads, strict=True))

    def smoke_inputs(self) -> list[Any]:
        return self._smoke


def load(folder: Path) -> EmbeddingPredictor:
    """The predictor of the artifact in `folder`.

    Raises OSError for a missing file, ValueError where the files do not belong together, and ONNX Runtime's own errors
    for a broken model.
    """
    schema = InputSchema.model_validate_json((folder / "schema.json").read_bytes())
    heads = _session((folder / "heads.onnx").read_bytes())
    widths = [given.shape[1] for given in heads.get_outputs()]
    if schema.text is None or widths != [len(head.labels) for head in schema.heads]:
        raise ValueError(f"heads.onnx gives {widths} probabilities, and schema.json names other heads")
    smoke = orjson.loads((folder / "smoke.json").read_bytes())["rows"]
    return EmbeddingPredictor(Encoder(folder), heads, schema, smoke)


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that the encoder wants before and behind every text, such as [CLS] and [SEP]."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    raise ValueError("tokenizer.json puts its special tokens inside of the text")


def _joined(windows: Sequence[Window], embeddings: Embeddings, texts: int) -> Embeddings:
    """One embedding a text: the mean of its windows', of length 1 again."""
    if len(windows) == texts:
        return embeddings
    weights = np.array([window.weight for window in windows], np.float32)
    sums = np.zeros((texts, embeddings.shape[1]), np.float32)
    np.add.at(sums, [window.text for window in windows], embeddings * weights[:, None])
    means: Embeddings = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return means


def _batches(windows: Sequence[Window]) -> Iterator[list[int]]:
    """The places of windows of about one length that have no more than TOKENS_AT_ONCE tokens once they are padded."""
    batch: list[int] = []
    for place in sorted(range(len(windows)), key=lambda place: len(windows[place].tokens)):
        if batch and (len(batch) + 1) * len(windows[place].tokens) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


# The slots' versions mostly have the same encoder: it is in memory once.
_sessions: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
_making = threading.Lock()


def _shared_session(model: bytes) -> Any:
    digest = hashlib.sha256(model).digest()
    with _making:
        session = _sessions.get(digest)
        if session is None:
            session = _sessions[digest] = _session(model)
        return session


def _session(model: bytes) -> Any:
    # From bytes, so that a model cannot point at tensors in files outside the artifact. One thread a call: calls run
    # side by side, which wastes nothing on waiting for each other's last row.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
