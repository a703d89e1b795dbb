"""What the schemas of every room share."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
# Postgres keeps no NUL in a text.
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000, pattern=r"^[^\x00]*$")]
# What a bigint holds: ids, numbers of versions, cursors.
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
Row = TypeVar("Row")


class Strict(BaseModel):
    """Refuses fields that it does not know, and NaN and infinity in any number."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Page(BaseModel, Generic[Row]):
    """One page of a list. `next` goes into `?after=` of the next call; null when `has_more` is false."""

    data: list[Row]
    has_more: bool
    next: str | None
