"""What `/data/…` reads and answers."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.data.tables import DataVersion, Role
from app.schemas import FreeJson, ModelName, Strict

MOST_ROWS = 10_000


class Samples(Strict):
    """Labelled rows. A row under a key that is known replaces the one before; without a key equal rows are one."""

    model: ModelName | None = None
    rows: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_ROWS)


class SamplesAccepted(BaseModel):
    """`replaced` of the accepted rows took the place of another one."""

    model: str
    accepted: int
    replaced: int


class Quality(Strict):
    """What a data quality check found. Without a model it speaks of the data of all of them."""

    model: ModelName | None = None
    status: Literal["healthy", "warning", "critical"]
    source: Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00]{1,200}$")]
    details: FreeJson = Field(default_factory=dict)


class QualityAccepted(BaseModel):
    id: int


class DataVersionView(BaseModel):
    """`dropped` counts rows by what they lack; `texts` rows that say the same; `labelling` says who gave the labels."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    digest: str
    role: Role = Field(description="training, or preference: what is preferred to what")
    rows: int
    counts: dict[str, int]
    dropped: dict[str, int]
    duplicates: int
    texts: dict[str, int] | None
    labelling: dict[str, Any] | None
    labels: list[dict[str, Any]]
    columns: list[dict[str, str]]
    split: dict[str, Any]
    high_water: str | None
    source: dict[str, Any]
    bytes: int
    job_id: int | None
    created_at: datetime

    @classmethod
    def brief(cls, version: DataVersion) -> "DataVersionView":
        """Without the prompt of a labelling, and the texts about which two of them disagree."""
        view = cls.model_validate(version)
        if view.labelling is None:
            return view
        agreement = {column: _without("disagreements", found) for column, found in view.labelling["agreement"].items()}
        return view.model_copy(update={"labelling": _without("prompt", view.labelling) | {"agreement": agreement}})


def _without(name: str, told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != name}
