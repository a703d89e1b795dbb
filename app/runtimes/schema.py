"""What a version reads and answers: the input schema that travels inside every artifact, as `schema.json`."""

from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Label = str | int | float | bool


class Column(BaseModel):
    """One feature. `numeric` is float32, `categorical` is text; null is a missing value in either."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["numeric", "categorical"]


class InputSchema(BaseModel):
    """The columns in the order that list rows have, the labels in the order of the probabilities.

    With two labels the second is the positive one: a row's score is its probability, and its label is positive where
    score >= threshold. With more, the score is the probability of the most probable label, and threshold is None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[Column, ...]
    labels: tuple[Label, ...]
    threshold: float | None = None

    @cached_property
    def label_array(self) -> npt.NDArray[np.object_]:
        """`labels` as an array (k,), for a whole batch at once."""
        return np.array(self.labels, np.object_)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(column.name for column in self.columns)

    @cached_property
    def numeric(self) -> list[str]:
        return [c.name for c in self.columns if c.kind == "numeric"]

    @cached_property
    def categorical(self) -> list[str]:
        return [c.name for c in self.columns if c.kind == "categorical"]
