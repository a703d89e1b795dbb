"""Where rows come from. One file is one source; a new source is a new file here and nothing else.

A source module `app/data/sources/<name>.py` has

- `Options`: a SourceOptions with `source: Literal["<name>"]` and what else it needs, checked when it is applied;
- `async def read(options, reading) -> pyarrow.Table`: all rows, with every column, in the source's own order;
- `async def count(options, reading) -> int`: labelled rows newer than `reading.since`; where there is no time column
  `since` is a number of rows, and those beyond it are counted. Cheap: admission asks while a caller waits.
- where it can be told without reading: `async def mark(options) -> str | None`, which is another one once anything that
  would be read has changed; None where it cannot be told just now.

A table may bring a column `@row`: the places of its rows for ever. Without it a row's place is its position.

Both raise app.errors.Invalid with a code of their own (`source_unreachable`, `file_not_found`, `column_missing`, …).
"""

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from app.data.chats import PROMPT, ChatOptions
from app.data.texts import TextOptions
from app.runtimes.schema import Label

# In place of a time column: the position of the row in the source.
ROW_ORDER = "@row"


class SourceOptions(BaseModel):
    """What every source has: which columns mean what.

    Columns that are neither label, key, time nor ignored are the features, unless `features` names them.
    """

    # Each source forbids what it does not know; the document speaks of all of them, and each has options of its own.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"additionalProperties": True})

    source: str
    label: str | list[str] = Field(
        default_factory=list, description="the column to predict, or several, where the type predicts several"
    )
    labels: list[Label] | dict[str, list[Label]] | None = Field(
        None, description="every label there is, or those of each label column; a row with another one is refused"
    )
    positive: str | int | bool | None = Field(None, description="the positive class of two; unset: the later in order")
    key: str | None = Field(None, description="names a row for ever, decides its split; unset: the row's features do")
    time: str | None = Field(None, description="orders rows; '@row' is the position in the source")
    features: list[str] | None = Field(None, min_length=1)
    ignore: list[str] = Field(default_factory=list)
    categorical: list[str] = Field(default_factory=list, description="numbers that are names, such as a postcode")
    text: TextOptions | None = Field(
        None, description="the columns that are read as one text; then they are the features"
    )
    chat: ChatOptions | None = Field(
        None, description="the columns of conversations, for a language model; in place of label and features"
    )

    @model_validator(mode="after")
    def roles_do_not_overlap(self) -> "SourceOptions":
        taken = {name for name in (*self.label_columns, self.key, self.time) if name is not None}
        clash = sorted(taken & set(self.feature_columns or ())) or sorted({*self.label_columns} & {self.key, self.time})
        if clash:
            raise ValueError(f"a column has two roles: {', '.join(clash)}")
        return self

    @model_validator(mode="after")
    def texts_are_the_features(self) -> "SourceOptions":
        if self.text is not None and (self.features or self.categorical):
            raise ValueError("data.text names the features; leave features and categorical out")
        if self.text is not None and (ignored := sorted({*self.text.columns} & {*self.ignore})):
            raise ValueError(f"data.text reads {', '.join(ignored)}, and data.ignore leaves it out")
        return self

    @model_validator(mode="after")
    def labels_are_of_its_columns(self) -> "SourceOptions":
        if not (self.label_columns or self.chat):
            raise ValueError("name what is learnt: the column to predict in label, or conversations in chat")
        if len(set(self.label_columns)) < len(self.label_columns):
            raise ValueError("label names one column, or several that differ")
        if isinstance(self.labels, list) and len(self.label_columns) > 1:
            raise ValueError("with several label columns, write labels as {column: [label, …]}")
        unknown = sorted(self.known_labels.keys() - set(self.label_columns))
        if unknown:
            raise ValueError(f"labels speaks of {', '.join(unknown)}, which is no label column")
        return self

    @model_validator(mode="after")
    def chats_are_the_features(self) -> "SourceOptions":
        if self.chat is not None and (self.label or self.labels or self.features or self.categorical or self.text):
            raise ValueError("data.chat says what is asked and answered; leave label, labels, features, text out")
        if self.chat is not None:
            others = {self.key, self.time, *self.ignore}
            clash = [name for name in (*self.chat.source_columns, self.chat.system) if name and name in others]
            if clash:
                raise ValueError(f"data.chat reads {clash[0]}, which is the key, the time or ignored")
        return self

    @property
    def label_columns(self) -> tuple[str, ...]:
        if self.chat is not None:
            return self.chat.label_columns
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)

    @property
    def sent_columns(self) -> tuple[str, ...]:
        """Of the source: any value in these makes a row a labelled one; of conversations a value in each."""
        return self.label_columns if self.chat is None else tuple(self.chat.source_columns)

    @property
    def feature_columns(self) -> list[str] | None:
        """The features that the definition names; None where all other columns are."""
        if self.chat is not None:
            return [PROMPT]
        return self.features if self.text is None else self.text.columns

    @property
    def known_labels(self) -> dict[str, list[Label]]:
        if isinstance(self.labels, list):
            return {self.label_columns[0]: self.labels}
        return self.labels or {}


@dataclass(frozen=True)
class Reading:
    """What a source may need of Refit: which model reads, the high-water mark of its last training, and a folder that
    all workers share."""

    session: AsyncSession
    model: str
    since: str | None = None  # ISO 8601, a number as text, or a row position; None before the first training
    shared: Path | None = None  # None where rows are only counted


class Source(Protocol):
    Options: type[SourceOptions]

    async def read(self, options: Any, reading: Reading) -> pa.Table: ...
    async def count(self, options: Any, reading: Reading) -> int: ...


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def find(name: str) -> Source:
    """The source module of that name. Raises ValueError naming the known ones."""
    if name not in names():
        raise ValueError(f"unknown source {name!r}; known are {', '.join(names())}")
    return cast("Source", importlib.import_module(f"{__name__}.{name}"))


async def mark_of(options: SourceOptions) -> str | None:
    """What its source says it looks like now; None where that cannot be told without reading it."""
    mark = getattr(find(options.source), "mark", None)
    return await mark(options) if mark is not None else None


def options_of(data: dict[str, Any]) -> SourceOptions:
    """`data` of a definition, checked by the source it names. Raises ValueError or pydantic's ValidationError."""
    if not isinstance(data.get("source"), str):
        raise ValueError(f"data.source is missing; known are {', '.join(names())}")  # noqa: TRY004 - pydantic wants it
    return find(data["source"]).Options.model_validate(data)
