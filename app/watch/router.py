from typing import Annotated

from fastapi import APIRouter, Query

from app.auth.requires import Viewer
from app.definitions.service import load
from app.errors import NotFound
from app.http import Session
from app.schemas import Id, ModelName, Page
from app.watch import life
from app.watch.schemas import State, WatchView
from app.watch.tables import Watch

router = APIRouter(prefix="/monitoring/watches", tags=["monitoring"])


@router.get("")
async def list_watches(
    session: Session,
    _: Viewer,
    model: ModelName | None = None,
    state: State | None = None,
    after: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[WatchView]:
    """The watches of all swaps, newest first: what was promised, what was seen, and how they ended."""
    rows = await life.list_watches(session, model=model, state=state, after=after, limit=limit)
    if model is not None and not rows:
        await load(session, model)
    page = [WatchView.model_validate(row) for row in rows[:limit]]
    return Page(data=page, has_more=len(rows) > limit, next=str(page[-1].id) if len(rows) > limit else None)


@router.get("/{id}")
async def show_watch(id: Id, session: Session, _: Viewer) -> WatchView:
    watch = await session.get(Watch, id)
    if watch is None:
        raise NotFound(f"No watch has the id {id}.", code="watch_not_found", remedy="`refit watches list` names them.")
    return WatchView.model_validate(watch)
