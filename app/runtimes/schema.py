"""What a version reads and answers: the input schema that travels inside every artifact, as `schema.json`."""

import json
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

Label = str | int | float | bool
# The column of a language model.
MESSAGES = "messages"


def named(label: object) -> str:
    """A label as people and JSON keys write it: text as it is, else 1, 1.5, true or null."""
    return label if isinstance(label, str) else json.dumps(label, default=str)


class Column(BaseModel):
    """One feature. `numeric` is float32, `categorical` and `text` are text; null is a missing value in each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["numeric", "categorical", "text"]


class Head(BaseModel):
    """One thing that is predicted: the label column `name`, its labels in the order of the probabilities.

    With two labels the second is the positive one: a row's score is its probability, and its label is positive where
    score >= threshold. With more, the score is the probability of the most probable label, and threshold is None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    labels: tuple[Label, ...]
    threshold: float | None = None

    @cached_property
    def label_array(self) -> npt.NDArray[np.object_]:
        """`labels` as an array (k,), for a whole batch at once."""
        return np.array(self.labels, np.object_)


class TextInput(BaseModel):
    """How the text columns of a row become its one text, and how many characters that may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str
    longest: int


class InputSchema(BaseModel):
    """The columns in the order that list rows have, and the heads, of which the first is the model's answer.

    Where there is a `text`, all columns are text columns. Without heads it is a language model's: its one column is
    `messages`, and it answers with text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[Column, ...]
    heads: tuple[Head, ...]
    text: TextInput | None = None

    @model_validator(mode="after")
    def answers_something(self) -> Self:
        if not self.heads and [column.name for column in self.columns] != [MESSAGES]:
            raise ValueError("a version without heads reads messages")
        return self

    @model_validator(mode="before")
    @classmethod
    def one_head_may_stand_outside(cls, told: Any) -> Any:
        """As it did in artifacts of before there were several; they are served on."""
        if not isinstance(told, dict) or "labels" not in told:
            return told
        others = {name: value for name, value in told.items() if name not in ("labels", "threshold")}
        head = {"name": "label", "labels": told["labels"], "threshold": told.get("threshold")}
        return others | {"heads": [head]}

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(column.name for column in self.columns)

    @cached_property
    def numeric(self) -> list[str]:
        return [c.name for c in self.columns if c.kind == "numeric"]

    @cached_property
    def categorical(self) -> list[str]:
        return [c.name for c in self.columns if c.kind == "categorical"]


CHAT_SCHEMA = InputSchema(columns=(Column(name=MESSAGES, kind="text"),), heads=())
