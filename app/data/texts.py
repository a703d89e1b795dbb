"""Rows whose features are one text: what a text must be, and which rows say the same."""

from dataclasses import asdict, dataclass
from typing import Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.runtimes.schema import TextInput
from app.runtimes.texts import compose, parts_of


class TextOptions(BaseModel):
    """`data.text`: columns that are composed into the text that a model reads."""

    model_config = ConfigDict(extra="forbid")

    columns: list[str] = Field(min_length=1, description="such as [title, content]")
    template: str | None = Field(None, description="such as '{title}: {content}'; unset: one below the other")
    longest: int = Field(100_000, ge=1, description="characters of a text; a longer one is refused, never cut")
    empty: Literal["refuse", "drop"] = Field("refuse", description="what becomes of a row without any text")
    near_duplicates: float | None = Field(
        0.8, ge=0.5, le=1, description="texts this alike stay on one side of the split; null: only equal ones do"
    )

    @field_validator("columns")
    @classmethod
    def are_named_once_and_plainly(cls, columns: list[str]) -> list[str]:
        if len(set(columns)) < len(columns):
            raise ValueError("a column stands there twice")
        if any(set(name) & {"{", "}"} for name in columns):
            raise ValueError("a column with a brace in its name cannot stand in a template; rename it in the source")
        return columns

    @model_validator(mode="after")
    def template_has_the_columns(self) -> Self:
        named = {name for _, name in parts_of(self.effective_template) if name is not None}
        if named != set(self.columns):
            raise ValueError(f"the template has {sorted(named)}, and the columns are {sorted(self.columns)}")
        return self

    @property
    def rule(self) -> TextInput:
        """As it travels in a version."""
        return TextInput(template=self.effective_template, longest=self.longest)

    @property
    def effective_template(self) -> str:
        return self.template or "\n\n".join(f"{{{name}}}" for name in self.columns)


@dataclass(frozen=True)
class Settled:
    """How many rows were merged into an equal one, dropped because equal texts contradict each other, found near
    another one, retired because they are near a held-out one, and moved from validation to their like in training."""

    merged: int = 0
    contradictory: int = 0
    near_duplicates: int = 0
    retired: int = 0
    moved: int = 0

    def told(self) -> dict[str, int]:
        return asdict(self)


def of(table: pa.Table, text: TextOptions) -> list[str]:
    """The text of each row; "" where there is none."""
    columns = [table[name].to_pylist() for name in text.columns]
    return compose(text.effective_template, text.columns, columns)
