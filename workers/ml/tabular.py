"""A data version → the rows of its splits as a model reads them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.errors import Invalid
from app.runtimes import Batch
from app.runtimes.schema import Column, Head, InputSchema, Label
from app.runtimes.table import kind_of, to_batch
from workers.ml.classes import Indices, indices_of, labels_of, require_enough
from workers.pipeline import PipelineError, SplitName, TrainingData


@dataclass(frozen=True)
class Examples:
    """Rows with the class of each, an index into the labels."""

    batch: Batch
    classes: Indices

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, rows: Indices) -> "Examples":
        return Examples(self.batch.take(rows), self.classes[rows])


@dataclass(frozen=True)
class Prepared:
    """The schema of the version, its threshold still open, and the rows to learn from and to choose by."""

    schema: InputSchema
    train: Examples
    validation: Examples

    @property
    def head(self) -> Head:
        """The one column that a classifier predicts."""
        return self.schema.heads[0]


def prepare(data: TrainingData, log: Callable[[str], None]) -> Prepared:
    """The training and validation rows. The labels are those of the training rows; rows without are left out.

    Raises PipelineError: `unsupported_column` for a column that no model reads, `insufficient_data`,
    `data_imbalance`.
    """
    if len(data.labels) > 1:
        raise _unsupported(f"A classifier predicts one column, and data.label names {', '.join(data.labels)}")
    labels = labels_of(data.table("train").column(data.labels[0]), data.positive)
    schema = InputSchema(columns=columns_of(data), heads=(Head(name=data.labels[0], labels=labels),))
    train = _examples(data, "train", schema, log)
    validation = _examples(data, "validation", schema, log)
    require_enough(train.classes, validation.classes, labels)
    return Prepared(schema, train, validation)


def columns_of(data: TrainingData) -> tuple[Column, ...]:
    """What each feature is: numbers are numeric; text, booleans and what `data.categorical` names are not."""
    types = {name: data.rows.schema.field(name).type for name in data.features}
    unreadable = [f"{name} ({arrow})" for name, arrow in types.items() if kind_of(arrow) is None]
    if unreadable:
        raise _unsupported(f"No classifier reads {', '.join(unreadable)}")
    if not types:
        raise PipelineError("insufficient_data", "There is no feature column.", "Name columns in data.features.")
    return tuple(
        Column(name=name, kind="categorical" if name in data.categorical else kind_of(arrow) or "numeric")
        for name, arrow in types.items()
    )


def shares(examples: Examples, labels: tuple[Label, ...]) -> dict[str, float]:
    """The share of each class, by the label as text."""
    counts = np.bincount(examples.classes, minlength=len(labels)) / len(examples)
    return {str(label): round(float(share), 4) for label, share in zip(labels, counts, strict=True)}


def _examples(data: TrainingData, split: SplitName, schema: InputSchema, log: Callable[[str], None]) -> Examples:
    table = data.table(split)
    head = schema.heads[0]
    classes = indices_of(table.column(head.name), head.labels)
    try:
        batch = to_batch(table, schema)
    except Invalid as error:
        raise _unsupported(error.message.removesuffix(".")) from error
    known = np.flatnonzero(classes >= 0)
    if left_out := len(classes) - len(known):
        log(f"{left_out} of {len(classes)} {split} rows are left out: no label, or none of the training rows'")
    return Examples(batch, classes).take(known)


def _unsupported(message: str) -> PipelineError:
    return PipelineError(
        "unsupported_column", f"{message}.", "Name the column in data.ignore, or convert it in the source."
    )


def constant_columns(examples: Examples, schema: InputSchema) -> list[str]:
    """The columns that have one value or none at all."""
    numeric = zip(schema.numeric, examples.batch.numeric.T, strict=True)
    categorical = zip(schema.categorical, examples.batch.categorical.T, strict=True)
    constant = {name for name, column in numeric if len(np.unique(column[~np.isnan(column)])) < 2}
    constant |= {name for name, column in categorical if len(set(column.tolist()) - {""}) < 2}
    return [column.name for column in schema.columns if column.name in constant]
