from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from app.auth.requires import Operator, Viewer
from app.definitions import service
from app.definitions.schemas import Definition
from app.http import Session
from app.schemas import Id, ModelName

router = APIRouter(prefix="/models", tags=["models"])
Name = Annotated[ModelName, Path(description="lower-case letters, digits, - and _")]


class ModelView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    type: str
    revision: int
    created_at: datetime


class AppliedView(BaseModel):
    """`changed` is false where the definition was the current one already."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    revision: int
    definition: Definition
    changed: bool


class RevisionView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    revision: int
    actor: str
    created_at: datetime


@router.get("")
async def list_models(session: Session, _: Viewer) -> list[ModelView]:
    return [ModelView.model_validate(model) for model in await service.list_models(session)]


@router.put("/{model}")
async def apply_definition(model: Name, body: Definition, session: Session, operator: Operator) -> AppliedView:
    async with session.begin():
        applied = await service.apply(session, model, body, actor=str(operator))
    return AppliedView.model_validate(applied)


@router.get("/{model}")
async def show_model(model: Name, session: Session, _: Viewer, revision: Id | None = None) -> AppliedView:
    return AppliedView.model_validate(await service.load(session, model, revision))


@router.get("/{model}/revisions")
async def list_revisions(model: Name, session: Session, _: Viewer) -> list[RevisionView]:
    return [RevisionView.model_validate(row) for row in await service.revisions(session, model)]
