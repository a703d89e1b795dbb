"""Rows whose features are one text: what a text must be, and which rows say the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.errors import Invalid
from app.runtimes.schema import TextInput
from app.runtimes.texts import compose, parts_of

if TYPE_CHECKING:
    from app.data.sources import SourceOptions

NAMED_ROWS = 3


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


def check(table: pa.Table, data: "SourceOptions") -> None:
    """Raises Invalid `label_unknown`, `column_type`, `text_missing` or `text_too_long`, naming the first rows."""
    for name, known in data.known_labels.items():
        found = Counter(table[name].drop_null().to_pylist())
        if unknown := sorted((value for value in found if value not in known), key=str):
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise Invalid(
                f"Column {name!r} has the label {unknown[0]!r}{more}, which data.labels does not know.",
                code="label_unknown",
                remedy="Add it to data.labels, or mend the rows in the source.",
                labels=unknown[:NAMED_ROWS],
            )
    if data.text is None:
        return
    for name in data.text.columns:
        if not pa.types.is_string(table.schema.field(name).type) and not pa.types.is_null(
            table.schema.field(name).type
        ):
            raise Invalid(
                f"Column {name!r} is {table.schema.field(name).type}, and data.text reads text.",
                code="column_type",
                remedy="Cast it to text in the source, or leave it out of data.text.columns.",
            )
    texts = of(table, data.text)
    if data.text.empty == "refuse" and not all(texts):
        rows = [row for row, text in enumerate(texts) if not text]
        remedy = "Mend them in the source; data.text.empty 'drop' leaves such rows out and counts them."
        raise _rows_refused(table, data, rows, "no text", "text_missing", remedy)
    if long := [row for row, text in enumerate(texts) if len(text) > data.text.longest]:
        told = f"a text of {len(texts[long[0]])} characters, and {data.text.longest} are allowed"
        remedy = "Shorten them in the source, or raise data.text.longest."
        raise _rows_refused(table, data, long, told, "text_too_long", remedy)


def of(table: pa.Table, text: TextOptions) -> list[str]:
    """The text of each row; "" where there is none."""
    columns = [table[name].to_pylist() for name in text.columns]
    return compose(text.effective_template, text.columns, columns)


def _rows_refused(
    table: pa.Table, data: "SourceOptions", rows: Sequence[int], has: str, code: str, remedy: str
) -> Invalid:
    named = [f"{data.key} {table[data.key][row].as_py()!r}" if data.key else f"row {row}" for row in rows[:NAMED_ROWS]]
    more = f"; {len(rows) - len(named)} more rows are so" if len(rows) > len(named) else ""
    return Invalid(f"{', '.join(named)}: there is {has}{more}.", code=code, remedy=remedy, rows=list(rows[:NAMED_ROWS]))
