"""What `/watches` answers."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

State = Literal["watching", "passed", "rolled_back", "held", "inconclusive", "superseded"]


class WatchView(BaseModel):
    """The watch of one swap: what was promised of the version, and what was seen of it until the last look."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    model: str
    generation: int
    version: int
    previous: int
    state: State
    started_at: datetime
    counts_from: datetime
    until: datetime
    promised: dict[str, Any] | None
    numbers: dict[str, Any] | None
    looked_at: datetime | None
    breached_at: datetime | None
    reason: str | None
    ended_at: datetime | None
