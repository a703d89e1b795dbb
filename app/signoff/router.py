from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.auth.requires import Viewer
from app.auth.roles import Principal
from app.http import Session
from app.negotiation import BOTH, MARKDOWN, WantsMarkdown
from app.schemas import Id, ModelName
from app.signoff import service
from app.signoff.markdown import markdown
from app.signoff.schemas import SheetView, SignoffRequest, StandingView, WordView
from app.signoff.standing import Standing
from app.signoff.tables import SignOff

router = APIRouter(prefix="/model/versions/{model}/{number}", tags=["sign-off"])
Model = Annotated[ModelName, Path()]
Number = Annotated[Id, Path()]


@router.get("/evaluation-sheet", response_model=SheetView, responses=BOTH)
async def show_sheet(
    model: Model, number: Number, request: Request, session: Session, _: Viewer, as_markdown: WantsMarkdown
) -> Response:
    """Prompts with the answers of candidate and incumbent, blind: the riskiest first, else in random order, the same
    for everybody."""
    sheet = await service.sheet_of(session, request.app.state.settings.store, model, number)
    if as_markdown:
        return Response(markdown(sheet), media_type=MARKDOWN)
    return Response(sheet.model_dump_json(), media_type="application/json")


@router.post("/signoff", status_code=201)
async def sign_off(
    model: Model, number: Number, body: SignoffRequest, request: Request, session: Session, reviewer: Viewer
) -> StandingView:
    """A reviewer's word on a version, and where its sign-off stands now. Needs the role of the definition's
    `signoff.role`; each may say more than one, and the last one counts. The first one fixes the preferences: they are
    given blind, once."""
    async with session.begin():
        found = await service.sign(session, request.app.state.settings.store, model, number, body, reviewer)
        return _view(model, number, found, reviewer)


@router.get("/signoffs")
async def show_signoffs(model: Model, number: Number, session: Session, reader: Viewer) -> StandingView:
    """Where the sign-off of a version stands, what is missing, and everything that was said; but for what others
    prefer, as long as a sign-off is missing and the reader has given no preferences."""
    return _view(model, number, await service.standing(session, model, number), reader)


def _view(model: str, number: int, found: tuple[Standing, Sequence[SignOff]], reader: Principal) -> StandingView:
    standing, words = found
    told = [WordView.model_validate(word) for word in words]
    if standing.is_blind_to(reader.id, words):
        told = [word.model_copy(update={"preferences": None}) for word in told]
    return StandingView.of(model, number, standing, told)
