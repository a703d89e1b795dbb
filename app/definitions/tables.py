from typing import Any

from sqlalchemy import ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, CreatedAt


class Model(Base):
    """A named thing that is served. Its definition of the current revision is what a trigger takes."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[CreatedAt]


class ModelDefinition(Base):
    """One revision of a model's definition. Never changed: every job names the one it ran with."""

    __tablename__ = "model_definitions"

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    definition: Mapped[dict[str, Any]]
    actor: Mapped[str]
    created_at: Mapped[CreatedAt]


class ModelType(Base):
    """What workers can train: published by each worker when it starts."""

    __tablename__ = "model_types"

    name: Mapped[str] = mapped_column(primary_key=True)
    summary: Mapped[str]
    queue: Mapped[str]
    params_schema: Mapped[dict[str, Any]]
    stages: Mapped[list[Any]] = mapped_column(comment="[[name, share], …] in order")
    incremental: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="whether a training can start from the active version"
    )
    pulls: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="whether a version can be fetched that somebody else has trained"
    )
    costly: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="off until allowed by name, and each training needs a dry run's token"
    )
    published_at: Mapped[CreatedAt]
