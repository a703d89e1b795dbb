from typing import Annotated

from fastapi import APIRouter, Query

from app.auth.requires import Reporter, Viewer
from app.data import service
from app.data.schemas import DataVersionView, Quality, QualityAccepted, Samples, SamplesAccepted
from app.definitions.service import resolve_model
from app.http import Session
from app.schemas import ModelName, Page

router = APIRouter(tags=["data"])


@router.post("/data/samples", status_code=202)
async def post_samples(body: Samples, session: Session, _: Reporter) -> SamplesAccepted:
    """Labelled rows of a model whose source is `samples`: all of them are kept, or none."""
    async with session.begin():
        applied = await resolve_model(session, body.model)
        return await service.post_samples(session, applied, body.rows)


@router.post("/data/quality", status_code=202)
async def post_quality(body: Quality, session: Session, reporter: Reporter) -> QualityAccepted:
    """What a data quality check found. While one's last word of the day is critical, training is refused."""
    async with session.begin():
        if body.model is not None:
            await resolve_model(session, body.model)
        return QualityAccepted(id=await service.post_quality(session, body, actor=str(reporter)))


@router.get("/data/versions")
async def list_versions(
    session: Session,
    _: Viewer,
    model: ModelName | None = None,
    after: Annotated[str | None, Query(pattern=r"^[^:\x00]+:[0-9a-f]{64}$")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[DataVersionView]:
    """The data versions, newest first."""
    found, next_page = await service.list_versions(session, model, after, limit)
    views = [DataVersionView.model_validate(version) for version in found]
    return Page(data=views, has_more=next_page is not None, next=next_page)
