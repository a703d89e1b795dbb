from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.auth.roles import Role
from app.schemas import Strict


class CreateKey(Strict):
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    roles: list[Role] = Field(min_length=1)


class KeyView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    roles: list[Role]
    created_at: datetime
    created_by: str
    revoked_at: datetime | None


class CreatedKey(BaseModel):
    """The only answer that ever has the whole key."""

    id: str
    name: str
    roles: list[Role]
    key: str
