import asyncio
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, StrictBool

from app.auth.requires import Operator, Viewer
from app.auth.roles import Role
from app.http import Session
from app.negotiation import BOTH, MARKDOWN, WantsMarkdown
from app.records import retention
from app.records.archive import archive, chunks
from app.records.markdown import markdown, notes_markdown
from app.records.notes import release_notes
from app.records.service import change_record
from app.schemas import Id, ModelName, Reason, Strict

router = APIRouter(tags=["records"])

ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}
}


class RecordView(BaseModel):
    """The change record of one retraining; a section is null where there is nothing to tell."""

    job_id: int
    model: str
    version: int | None
    written_at: str
    trigger: dict[str, Any]
    data: dict[str, Any]
    definition: dict[str, Any]
    configuration: dict[str, Any]
    evaluation: dict[str, Any] | None
    approvals: dict[str, Any]
    signoffs: dict[str, Any] | None
    swap: dict[str, Any] | None
    watch: dict[str, Any] | None
    incidents: dict[str, Any]
    state: dict[str, Any]


class NotesView(BaseModel):
    """The release notes of a version; a part is null where there is nothing to tell."""

    model: str
    version: int
    job_id: int
    written_at: str
    created_at: str
    verdict: str
    reason: str | None
    data: dict[str, Any] | None
    preferences_data: dict[str, Any] | None
    configuration: dict[str, Any]
    metrics: dict[str, Any] = Field(description="of the candidate")
    deltas: dict[str, Any] | None = Field(description="criterion by criterion, against the version active then")
    reviewers: dict[str, Any] | None = Field(description="what they said, and how often which answer was preferred")
    limitations: list[str]
    approvals: dict[str, Any] = Field(description="who triggered, planned, approved and reloaded it")


class RunRetention(Strict):
    """`dry_run` shows what would go."""

    dry_run: StrictBool = False
    reason: Reason | None = None


class RetentionView(BaseModel):
    dry_run: bool
    jobs: list[int] = Field(description="whose logs and curves go")
    log_lines: int
    metric_points: int
    checkpoints: list[int] = Field(description="of these jobs")
    staging: list[int] = Field(description="of these jobs")
    artifacts: list[str]
    evaluations: list[str] = Field(description="answers that language models were judged by")
    versions: list[str] = Field(description="whose files go; each as MODEL/NUMBER")


class Archive(StreamingResponse):
    media_type = "application/gzip"


@router.get("/training/jobs/{job_id}/record", response_model=RecordView, responses=BOTH)
async def show_record(job_id: Id, session: Session, _: Viewer, as_markdown: WantsMarkdown) -> Response:
    """What was changed, on which evidence, on whose say, and what became of it: as JSON or Markdown."""
    found = orjson.dumps(await change_record(session, job_id))
    if as_markdown:
        return Response(markdown(orjson.loads(found)), media_type=MARKDOWN)
    return Response(found, media_type="application/json")


@router.get("/model/versions/{model}/{number}/release-notes", response_model=NotesView, responses=BOTH)
async def show_notes(
    model: ModelName, number: Id, request: Request, session: Session, _: Viewer, as_markdown: WantsMarkdown
) -> Response:
    """Data, configuration, figures, what reviewers said and known limitations of a version: as JSON or Markdown."""
    found = orjson.dumps(await release_notes(session, request.app.state.settings.store, model, number))
    if as_markdown:
        return Response(notes_markdown(orjson.loads(found)), media_type=MARKDOWN)
    return Response(found, media_type="application/json")


@router.get("/training/jobs/{job_id}/archive", response_class=Archive, responses=ARCHIVE)
async def download_archive(job_id: Id, request: Request, session: Session, viewer: Viewer) -> Archive:
    """Logs, curves, events, change record and definition of a job as one .tar.gz, for trainers with its evaluation; no
    weights."""
    rows = viewer.may(Role.TRAINER)
    packed = await archive(session, request.app.state.settings.store, job_id, rows=rows)
    await session.close()
    return Archive(chunks(packed), headers={"Content-Disposition": f'attachment; filename="job-{job_id}.tar.gz"'})


@router.post("/retention/run")
async def run_retention(
    request: Request, session: Session, operator: Operator, body: RunRetention | None = None
) -> RetentionView:
    """Throws away now what the hourly chore would throw away, or shows it."""
    body, settings = body or RunRetention(), request.app.state.settings
    async with session.begin():
        if body.dry_run:
            leaving = await retention.plan(session, settings)
        else:
            leaving = await retention.run(session, settings, actor=str(operator), reason=body.reason)
    if not body.dry_run:
        await asyncio.shield(retention.remove_folders(leaving.folders))
    return RetentionView(dry_run=body.dry_run, **{k: v for k, v in asdict(leaving).items() if k != "folders"})
