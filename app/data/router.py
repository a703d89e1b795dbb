import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse

from app.auth.requires import Reporter, Trainer, Viewer
from app.auth.roles import Role as Who
from app.data import export, service
from app.data.schemas import DataVersionView, Quality, QualityAccepted, Samples, SamplesAccepted
from app.data.tables import TRAINING, Role
from app.definitions.service import resolve_model
from app.http import Session
from app.schemas import ModelName, Page

router = APIRouter(tags=["data"])
Name = Annotated[ModelName, Path()]
Digest = Annotated[str, Path(pattern=r"^(latest|[0-9a-f]{6,64})$", description="latest, a digest, or its beginning")]
ROWS = {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}, "description": "An object a line"}


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
    role: Annotated[Role | Literal["any"], Query(description="preference: what language models prefer by")] = TRAINING,
) -> Page[DataVersionView]:
    """The data versions, newest first: those that are trained on, unless `role` says otherwise."""
    wanted = None if role == "any" else role
    found, next_page = await service.list_versions(session, model, after, limit, wanted)
    views = [DataVersionView.brief(version) for version in found]
    return Page(data=views, has_more=next_page is not None, next=next_page)


@router.get("/data/versions/{model}/{digest}")
async def show_version(model: Name, digest: Digest, session: Session, viewer: Viewer) -> DataVersionView:
    """One data version: `latest`, a digest or its first characters.

    Of a labelled one with the texts about which both labellings disagree, for those who may read rows: trainers.
    """
    version = await service.get_version(session, model, digest)
    may_read_rows = viewer.may(Who.TRAINER)
    return DataVersionView.model_validate(version) if may_read_rows else DataVersionView.brief(version)


class JsonLines(StreamingResponse):
    media_type = "application/x-ndjson"


@router.get("/data/versions/{model}/{digest}/rows", response_class=JsonLines, responses={200: ROWS})
async def rows(
    model: Name,
    digest: Digest,
    side: Annotated[Literal["train", "validation", "holdout", "retired"], Query()],
    request: Request,
    session: Session,
    _: Trainer,
) -> JsonLines:
    """The rows of one side of the split, an object a line, in the order of the data version: the same each time."""
    version = await service.get_version(session, model, digest)
    path = await asyncio.to_thread(export.verified, request.app.state.settings.store, version)
    return JsonLines(export.lines(path, side))
