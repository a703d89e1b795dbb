from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from app.auth.requires import Trainer
from app.evaluation import service
from app.evaluation.report import markdown
from app.evaluation.schemas import SAMPLES, EvaluationView
from app.http import Session
from app.schemas import Id, ModelName

router = APIRouter(tags=["evaluation"])

MARKDOWN = "text/markdown"
BOTH: dict[int | str, dict[str, Any]] = {200: {"content": {MARKDOWN: {"schema": {"type": "string"}}}}}
Format = Annotated[Literal["json", "md"] | None, Query(description="else by Accept")]
Accept = Annotated[str, Header()]
Samples = Annotated[int, Query(ge=0, le=10_000, description="answers that are shown, worst first")]


@router.get("/model/versions/{model}/{number}/evaluation", response_model=EvaluationView, responses=BOTH)
async def show_evaluation(
    model: ModelName,
    number: Id,
    request: Request,
    session: Session,
    _: Trainer,
    format: Format = None,
    samples: Samples = SAMPLES,
    accept: Accept = "",
) -> Response:
    """How a version of a language model answered held-out prompts, beside the incumbent: figures with intervals, the
    gate's verdict, and answers side by side; as JSON or Markdown. The prompts are rows of the data."""
    found = await service.of_version(session, request.app.state.settings.store, model, number, samples)
    return _told(found, format, accept)


@router.get("/training/jobs/{job_id}/evaluation", response_model=EvaluationView, responses=BOTH)
async def show_evaluation_of_job(
    job_id: Id,
    request: Request,
    session: Session,
    _: Trainer,
    format: Format = None,
    samples: Samples = SAMPLES,
    accept: Accept = "",
) -> Response:
    """The same of a job, which may have been asked for the stage evaluate alone."""
    found = await service.of_job(session, request.app.state.settings.store, job_id, samples)
    return _told(found, format, accept)


def _told(found: EvaluationView, format: str | None, accept: str) -> Response:
    if (format or ("md" if MARKDOWN in accept else "json")) == "md":
        return Response(markdown(found), media_type=MARKDOWN)
    return Response(found.model_dump_json(), media_type="application/json")
