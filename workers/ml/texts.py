"""A data version whose features are texts → the texts and classes of its splits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from app.errors import Invalid
from app.runtimes import Batch
from app.runtimes.schema import Column, Head, InputSchema
from app.runtimes.table import to_batch
from app.runtimes.texts import batch_of
from workers.ml.classes import Indices, indices_of, labels_of, require_enough
from workers.pipeline import PipelineError, SplitName, TrainingData


@dataclass(frozen=True)
class Texts:
    """Rows: the text of each, and for each head the class of each, -1 where it has no label there."""

    texts: list[str]
    classes: tuple[Indices, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self) -> Batch:
        return batch_of(self.texts)


@dataclass(frozen=True)
class Prepared:
    """The schema of the version, its thresholds still open, and the rows to learn from and to choose by."""

    schema: InputSchema
    train: Texts
    validation: Texts


def prepare(data: TrainingData, log: Callable[[str], None]) -> Prepared:
    """The training and validation rows. The labels of a head are those of the training rows.

    Raises PipelineError: `unsupported_column` where the definition names no text, `insufficient_data`,
    `data_imbalance`.
    """
    if data.text is None:
        raise PipelineError(
            "unsupported_column",
            "An embedding classifier reads texts, and the definition names none.",
            "Name the columns in data.text, such as text: {columns: [title, content]}.",
        )
    table = data.table("train")
    columns = tuple(Column(name=name, kind="text") for name in data.features)
    heads = tuple(Head(name=name, labels=_labels(data, table, name)) for name in data.labels)
    schema = InputSchema(columns=columns, heads=heads, text=data.text)
    train, validation = (_read(data, name, schema, log) for name in ("train", "validation"))
    for head, learnt, chosen in zip(heads, train.classes, validation.classes, strict=True):
        require_enough(learnt[learnt >= 0], chosen[chosen >= 0], head.labels)
    return Prepared(schema, train, validation)


def _labels(data: TrainingData, table: pa.Table, name: str) -> tuple[str | int | float | bool, ...]:
    """Of several columns, `data.positive` speaks of those that have that label."""
    column = table.column(name)
    known = len(data.labels) == 1 or data.positive in column.to_pylist()
    return labels_of(column, data.positive if known else None)


def _read(data: TrainingData, split: SplitName, schema: InputSchema, log: Callable[[str], None]) -> Texts:
    table = data.table(split)
    try:
        batch = to_batch(table, schema)
    except Invalid as error:
        remedy = "Mend the rows in the source, or correct data.text."
        raise PipelineError("unsupported_column", error.message, remedy) from error
    assert batch.texts is not None
    classes = tuple(indices_of(table.column(head.name), head.labels) for head in schema.heads)
    for head, of_head in zip(schema.heads, classes, strict=True):
        if unlabelled := int(np.sum(of_head < 0)):
            log(
                f"{head.name}: {unlabelled} of {len(of_head)} {split} rows have no label, or none of the training rows'"
            )
    return Texts(batch.texts.tolist(), classes)


def lengths(texts: Sequence[str]) -> str:
    """How long they are, for a log."""
    median, longest = np.quantile([len(text) for text in texts], [0.5, 1])
    return f"{median:.0f} characters in the middle, {longest:.0f} at most"
